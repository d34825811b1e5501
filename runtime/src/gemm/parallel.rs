//! Whose threads carry out the parts of a product.

use crate::Error;

/// Runs tasks on some threads: PyTorch's inside PyTorch, so that there is one pool only.
pub trait Parallel: Sync {
    /// Tasks that can run at the same time.
    fn threads(&self) -> usize;

    /// Runs `task(0)` to `task(tasks - 1)`, each once, and returns when all are done.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) -> Result<(), Error>;
}

/// The calling thread alone.
pub struct Serial;

impl Parallel for Serial {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) -> Result<(), Error> {
        (0..tasks).for_each(task);
        Ok(())
    }
}

/// Rayon's current pool.
pub struct Rayon;

impl Parallel for Rayon {
    fn threads(&self) -> usize {
        rayon::current_num_threads()
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) -> Result<(), Error> {
        use rayon::prelude::*;
        (0..tasks).into_par_iter().for_each(task);
        Ok(())
    }
}
