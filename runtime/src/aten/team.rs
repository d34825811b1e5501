//! One parallel region for many loops.
//!
//! Each region of PyTorch's threads wakes all of them and waits for the last, which takes longer than many
//! steps of a plan on a processor with many cores. A team opens a single region: the calling thread goes
//! through the steps, the others wait for the loops in them, spinning first and then giving way to whoever
//! wants the core. They are PyTorch's own threads, as many as it is set to, and free again after the last step.
//!
//! Every thread has a part of a loop's tasks, the same in loops of the same length, and takes others' when its
//! own are done, so that a thread that is late, or never comes, holds nobody up.

use super::Aten;
use crate::Error;
use crate::conv::Threads;
use crate::gemm::part;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// Rounds of spinning (some 50 ns each) before a thread gives way.
const SPINS: u32 = 4000;
/// The round after the last.
const OVER: u32 = u32::MAX;

thread_local! {
    /// The team whose steps this thread goes through.
    static LED: Cell<*const Team> = const { Cell::new(std::ptr::null()) };
}

/// What a loop calls for each task. A panic in it ends the process, as in any of PyTorch's loops.
extern "C" fn call(context: *mut c_void, task: usize) {
    // SAFETY: `context` is the reference in `Team::run`, which waits for all tasks.
    let body = unsafe { *context.cast::<&(dyn Fn(usize) + Sync)>() };
    body(task);
}

/// Two cache lines, which processors fetch together.
#[repr(align(128))]
struct Padded<T>(T);

/// Threads that wait for loops. A loop belongs to a round; a thread that missed the end of one takes nothing of the next,
/// since every claim names its round.
struct Team {
    /// Of the loop that runs; 0 before the first.
    round: Padded<AtomicU32>,
    context: AtomicPtr<c_void>,
    tasks: AtomicUsize,
    /// Tasks that are done.
    done: Padded<AtomicUsize>,
    /// For each thread the round, and the next task of its part (low half).
    next: Vec<Padded<AtomicU64>>,
}

/// Waits a little, longer after many times.
fn wait(spins: &mut u32) {
    if *spins < SPINS {
        *spins += 1;
        std::hint::spin_loop();
    } else {
        thread::yield_now();
    }
}

impl Team {
    fn new(threads: usize) -> Team {
        Team {
            round: Padded(AtomicU32::new(0)),
            context: AtomicPtr::new(std::ptr::null_mut()),
            tasks: AtomicUsize::new(0),
            done: Padded(AtomicUsize::new(0)),
            next: (0..threads).map(|_| Padded(AtomicU64::new(0))).collect(),
        }
    }

    /// Runs a loop; the calling thread is the one that leads.
    fn run(&self, tasks: usize, body: &(dyn Fn(usize) + Sync)) {
        let mut body = body;
        let context: *mut &(dyn Fn(usize) + Sync) = &mut body;
        let round = self.round.0.load(Ordering::Relaxed) + 1;
        self.done.0.store(0, Ordering::Relaxed);
        for (n, next) in self.next.iter().enumerate() {
            let first = part(tasks, self.next.len(), n).start as u64;
            next.0
                .store(u64::from(round) << 32 | first, Ordering::Relaxed);
        }
        // Who sees one of these sees the claims above, and so that an older round is over.
        self.context.store(context.cast(), Ordering::Release);
        self.tasks.store(tasks, Ordering::Release);
        self.round.0.store(round, Ordering::Release);
        self.take(round, 0);
        let mut spins = 0;
        while self.done.0.load(Ordering::Acquire) < tasks {
            wait(&mut spins);
        }
    }

    /// Carries out tasks of this round, those of `thread`'s part first, until none is left.
    fn take(&self, round: u32, thread: usize) {
        let context = self.context.load(Ordering::Acquire);
        let tasks = self.tasks.load(Ordering::Acquire);
        let threads = self.next.len();
        let mut count = 0;
        for n in 0..threads {
            let whose = (thread + n) % threads;
            let end = part(tasks, threads, whose).end as u64;
            let next = &self.next[whose].0;
            let mut seen = next.load(Ordering::Acquire);
            while seen >> 32 == u64::from(round) && seen & u64::from(u32::MAX) < end {
                let claim =
                    next.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire);
                match claim {
                    Ok(_) => {
                        call(context, (seen & u64::from(u32::MAX)) as usize);
                        count += 1;
                        seen += 1;
                    }
                    Err(other) => seen = other,
                }
            }
        }
        if count > 0 {
            self.done.0.fetch_add(count, Ordering::Release);
        }
    }

    /// Takes part in all loops until the leading thread is through.
    fn follow(&self, thread: usize) {
        let mut last = 0;
        loop {
            let mut spins = 0;
            while self.round.0.load(Ordering::Acquire) == last {
                wait(&mut spins);
            }
            last = self.round.0.load(Ordering::Acquire);
            if last == OVER {
                return;
            }
            self.take(last, thread);
        }
    }
}

/// Runs a loop on the team that this thread leads; false, and nothing is done, if it leads none.
pub(super) fn run(tasks: usize, body: &(dyn Fn(usize) + Sync)) -> bool {
    // Loops inside of a task are the task's own.
    let team = LED.replace(std::ptr::null());
    if team.is_null() {
        return false;
    }
    // SAFETY: the team lives as long as `LED` names it.
    unsafe { (*team).run(tasks, body) };
    LED.set(team);
    true
}

/// Threads of the team that this thread leads.
pub(super) fn threads() -> Option<usize> {
    let team = LED.get();
    // SAFETY: the team lives as long as `LED` names it.
    (!team.is_null()).then(|| unsafe { (*team).next.len() })
}

/// The leading thread's work, in a place that other threads see but do not touch.
struct Work<F>(RefCell<Option<F>>);

// SAFETY: only the thread that made it takes the work.
unsafe impl<F> Sync for Work<F> {}

impl<F> Work<F> {
    fn take(&self) -> Option<F> {
        self.0.take()
    }
}

impl Aten {
    /// Calls `f`, whose loops on ATen's threads are those of one region. `f` must not call ATen, which would
    /// run on one thread.
    pub fn team<R>(&self, f: impl FnOnce() -> R) -> Result<R, Error> {
        let threads = Threads::count(self);
        if threads <= 1 || !LED.get().is_null() {
            return Ok(f());
        }
        let team = Team::new(threads);
        let caller = thread::current().id();
        let mut result = None;
        let lead = Work(RefCell::new(Some(|| {
            LED.set(&team);
            result = Some(catch_unwind(AssertUnwindSafe(f)));
            LED.set(std::ptr::null());
        })));
        let status = self.parallel(threads as i64, 1, &|begin, _| {
            if begin > 0 {
                team.follow(begin as usize);
            } else {
                // PyTorch's first part is the caller's. Were it not, the work would be done below.
                if thread::current().id() == caller
                    && let Some(lead) = lead.take()
                {
                    lead();
                }
                team.round.0.store(OVER, Ordering::Release);
            }
        });
        if let Some(lead) = lead.take() {
            status?;
            lead();
        }
        match result {
            Some(Ok(result)) => Ok(result),
            Some(Err(panic)) => resume_unwind(panic),
            None => Err(Error::Plan("a team without work".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loops of all lengths on a team of `threads`, of whom `absent` never come.
    fn lead(threads: usize, absent: usize) {
        let team = Team::new(threads);
        thread::scope(|scope| {
            for n in 1..threads - absent {
                let team = &team;
                scope.spawn(move || team.follow(n));
            }
            LED.set(&team);
            for round in 0..2000 {
                let tasks = round % 23;
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                let led = run(tasks, &|n| {
                    assert!(super::threads().is_none(), "loops in a task are its own");
                    // Long enough for others to come, and to be left behind by a leader that does not wait.
                    (0..200).for_each(|_| std::hint::spin_loop());
                    counts[n].fetch_add(1, Ordering::Relaxed);
                });
                assert!(led);
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
            LED.set(std::ptr::null());
            team.round.0.store(OVER, Ordering::Release);
        });
        assert!(!run(3, &|_| panic!("nobody leads")));
    }

    #[test]
    fn every_task_runs_once_before_the_loop_ends() {
        for threads in 1..5 {
            lead(threads, 0);
        }
    }

    #[test]
    fn threads_that_do_not_come_are_not_waited_for() {
        lead(4, 2);
        lead(3, 2);
    }
}
