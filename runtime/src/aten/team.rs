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
use crate::ahead::{Ahead, Memory};
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
    /// What each thread reads in the loop after this one, or nothing.
    ahead: AtomicPtr<Vec<Memory>>,
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
            ahead: AtomicPtr::new(std::ptr::null_mut()),
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
        let (mut spins, mut ahead) = (0, self.ahead(0));
        while self.done.0.load(Ordering::Acquire) < tasks {
            ahead.fetch();
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

    /// What a thread that waits may fetch.
    fn ahead(&self, thread: usize) -> Ahead {
        // SAFETY: who says what is ahead keeps it until the team is gone.
        let all = unsafe { self.ahead.load(Ordering::Acquire).as_ref() };
        let memory = all.and_then(|all| all.get(thread));
        Ahead::of(memory.copied().unwrap_or(Memory::NONE))
    }

    /// Takes part in all loops until the leading thread is through.
    fn follow(&self, thread: usize) {
        let mut last = 0;
        loop {
            let (mut spins, mut ahead) = (0, self.ahead(thread));
            while self.round.0.load(Ordering::Acquire) == last {
                ahead.fetch();
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

/// Says what the threads of the team that this thread leads read after the next loop; none is null.
///
/// # Safety
/// The team is gone before what is said.
pub(super) unsafe fn look_ahead(all: *const Vec<Memory>) {
    let team = LED.get();
    // SAFETY: the team lives as long as `LED` names it.
    if let Some(team) = unsafe { team.as_ref() } {
        team.ahead.store(all.cast_mut(), Ordering::Release);
    }
}

/// Something of the leading thread's, in a place that other threads see but do not touch.
struct Own<T>(RefCell<Option<T>>);

// SAFETY: only the thread that made it uses it.
unsafe impl<T> Sync for Own<T> {}

impl<T> Own<T> {
    fn new(value: Option<T>) -> Own<T> {
        Own(RefCell::new(value))
    }

    fn take(&self) -> Option<T> {
        self.0.take()
    }

    fn put(&self, value: T) {
        self.0.replace(Some(value));
    }
}

/// Opens a region: calls a body with the number of each of its threads, on that thread. The first should be the caller's,
/// and others may be late, or left out; returns when all have.
type Region<'a> = &'a dyn Fn(&(dyn Fn(usize) + Sync)) -> Result<(), Error>;

/// Calls `f`, whose loops are those of one region of `threads` threads. The others leave as soon as `f` ends, also with a
/// panic.
fn lead<R>(threads: usize, region: Region, f: impl FnOnce() -> R) -> Result<R, Error> {
    let team = Team::new(threads);
    let caller = thread::current().id();
    let (work, result) = (Own::new(Some(f)), Own::new(None));
    let status = region(&|n| {
        let leads = thread::current().id() == caller;
        if n > 0 && !leads {
            team.follow(n);
        }
        if n > 0 {
            return;
        }
        // Were the first not the caller, the work would be done below.
        if leads && let Some(f) = work.take() {
            LED.set(&team);
            result.put(catch_unwind(AssertUnwindSafe(f)));
            LED.set(std::ptr::null());
        }
        team.round.0.store(OVER, Ordering::Release);
    });
    match (result.take(), work.take()) {
        (Some(Ok(result)), _) => Ok(result),
        (Some(Err(panic)), _) => resume_unwind(panic),
        (None, Some(f)) => status.map(|()| f()),
        (None, None) => Err(Error::Plan("a team without work".into())),
    }
}

impl Aten {
    /// Says what each thread of the team will read in the loop after the next one, if this thread leads a team.
    ///
    /// # Safety
    /// The region of threads is over before the memory of `all` is.
    pub unsafe fn look_ahead(&self, all: Option<&Vec<Memory>>) {
        // SAFETY: by contract.
        unsafe { look_ahead(all.map_or(std::ptr::null(), std::ptr::from_ref)) };
    }

    /// Calls `f`, whose loops on ATen's threads are those of one region. `f` must not call ATen, which would
    /// run on one thread.
    pub fn team<R>(&self, f: impl FnOnce() -> R) -> Result<R, Error> {
        let threads = Threads::count(self);
        if threads <= 1 || !LED.get().is_null() {
            return Ok(f());
        }
        let region = |body: &(dyn Fn(usize) + Sync)| {
            self.parallel(threads as i64, 1, &|begin, _| body(begin as usize))
        };
        lead(threads, &region, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// A region of `threads` threads, of whom the last `absent` come when the others have left.
    fn region(
        threads: usize,
        absent: usize,
    ) -> impl Fn(&(dyn Fn(usize) + Sync)) -> Result<(), Error> {
        move |body| {
            thread::scope(|scope| {
                let followers: Vec<_> = (1..threads - absent)
                    .map(|n| scope.spawn(move || body(n)))
                    .collect();
                body(0);
                leave(&followers);
                for n in threads - absent..threads {
                    scope.spawn(move || body(n));
                }
            });
            Ok(())
        }
    }

    /// Waits for threads whose leader is through. They can't be stopped, so that the process ends if they stay.
    fn leave(followers: &[thread::ScopedJoinHandle<()>]) {
        let start = Instant::now();
        while !followers.iter().all(|f| f.is_finished()) {
            thread::yield_now();
            if start.elapsed() > Duration::from_secs(60) {
                eprintln!("threads wait for a leader that has left");
                std::process::exit(1);
            }
        }
    }

    /// A loop of `tasks` tasks on the team that this thread leads.
    fn count(tasks: usize) {
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

    /// Loops of all lengths.
    fn all_lengths(threads: usize, absent: usize) {
        let led = lead(threads, &region(threads, absent), || {
            assert_eq!(super::threads(), Some(threads));
            (0..2000).for_each(|n| count(n % 23));
        });
        led.unwrap();
        assert!(!run(3, &|_| panic!("nobody leads")));
    }

    #[test]
    fn every_task_runs_once_before_the_loop_ends() {
        (1..5).for_each(|threads| all_lengths(threads, 0));
    }

    #[test]
    fn threads_that_do_not_come_are_not_waited_for() {
        all_lengths(4, 2);
        all_lengths(3, 2);
    }

    #[test]
    fn threads_know_what_they_read_next() {
        let memory = |n: usize| Memory {
            start: std::ptr::without_provenance(64 * n),
            bytes: 64,
            stride: 64,
            count: n,
        };
        let (all, known) = (vec![memory(1), memory(2)], |n: usize| {
            // SAFETY: in a region, whose team this thread leads.
            unsafe { (*LED.get()).ahead(n) }
        });
        let led = lead(3, &region(3, 0), || {
            assert_eq!(known(1), Ahead::of(Memory::NONE));
            // SAFETY: `all` outlives the region.
            unsafe { look_ahead(&all) };
            count(5);
            assert_eq!(known(1), Ahead::of(memory(2)));
            assert_eq!(known(2), Ahead::of(Memory::NONE));
            // SAFETY: nothing is said.
            unsafe { look_ahead(std::ptr::null()) };
            assert_eq!(known(0), Ahead::of(Memory::NONE));
        });
        led.unwrap();
        // SAFETY: nobody leads a team here.
        unsafe { look_ahead(&all) };
    }

    #[test]
    fn threads_leave_a_leader_that_stops() {
        for loops in [0, 1, 5] {
            let stopped = lead(4, &region(4, 0), || {
                (0..loops).for_each(|_| count(7));
                Err::<(), _>("a step failed")
            });
            assert_eq!(stopped.unwrap(), Err("a step failed"));
            let panicked = catch_unwind(|| {
                lead(4, &region(4, 1), || {
                    (0..loops).for_each(|_| count(7));
                    resume_unwind(Box::new("a step panicked"))
                })
            });
            let panic = panicked.map(|_: Result<(), _>| ()).unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&"a step panicked"));
            assert!(super::threads().is_none());
        }
    }

    #[test]
    fn a_region_whose_first_thread_is_another_runs_the_work_after_it() {
        let other: Region = &|body| {
            thread::scope(|scope| scope.spawn(|| body(0)).join()).unwrap();
            body(1);
            Ok(())
        };
        assert_eq!(lead(2, other, super::threads).unwrap(), None);
        let failed: Region = &|_| Err(Error::Plan("no threads".into()));
        assert!(lead(2, failed, || ()).is_err());
    }
}
