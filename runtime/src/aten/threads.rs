//! ATen's threads for our kernels.

use super::{Aten, team};
use crate::Error;
use crate::conv::Threads;
use crate::gemm::Parallel;

impl Threads for Aten {
    fn count(&self) -> usize {
        if let Some(threads) = team::threads() {
            return threads;
        }
        let mut n = 1;
        // SAFETY: writes one number.
        let status = unsafe { (self.torch_get_num_threads)(&mut n) };
        // One if it does not say.
        if status == 0 { n as usize } else { 1 }
    }

    fn split(
        &self,
        end: usize,
        grain: usize,
        body: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<(), Error> {
        if end <= grain {
            body(0, end);
            return Ok(());
        }
        self.parallel(end as i64, grain as i64, &|begin, end| {
            body(begin as usize, end as usize);
        })
    }
}

impl Parallel for Aten {
    fn threads(&self) -> usize {
        Threads::count(self)
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) -> Result<(), Error> {
        if tasks == 1 {
            task(0);
            return Ok(());
        }
        if team::run(tasks, task) {
            return Ok(());
        }
        self.parallel(tasks as i64, 1, &|begin, end| {
            (begin..end).for_each(|n| task(n as usize));
        })
    }
}
