//! Memory that a thread reads in the next loop, and fetches while it waits for the others.

use crate::cpu::Caches;
use crate::prefetch;

/// Bytes between two looks at whether the wait is over.
const STEP: usize = 512;

/// Runs of memory, all of the same length and distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct Memory {
    pub start: *const u8,
    pub bytes: usize,
    pub stride: usize,
    pub count: usize,
}

// SAFETY: addresses that are only fetched, which any may be.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// No memory.
    pub const NONE: Memory = Memory {
        start: std::ptr::null(),
        bytes: 0,
        stride: 0,
        count: 0,
    };
}

/// How far a thread has come.
#[derive(Debug, PartialEq, Eq)]
pub struct Ahead {
    memory: Memory,
    /// Runs before this one, and bytes of it, are fetched.
    run: usize,
    at: usize,
    /// Bytes that may still be fetched: a part of the second cache.
    left: usize,
}

impl Ahead {
    /// Nothing fetched.
    pub fn of(memory: Memory) -> Ahead {
        Ahead {
            memory,
            run: 0,
            at: 0,
            left: Caches::get().l2 / 4,
        }
    }

    /// Fetches a little more.
    pub fn fetch(&mut self) {
        if let Some((from, bytes)) = self.next() {
            prefetch::read(from, bytes);
        }
    }

    fn next(&mut self) -> Option<(*const u8, usize)> {
        let m = &self.memory;
        let bytes = STEP.min(m.bytes - self.at).min(self.left);
        if self.run == m.count || bytes == 0 {
            return None;
        }
        let from = m.start.wrapping_add(self.run * m.stride + self.at);
        self.left -= bytes;
        self.at += bytes;
        if self.at == m.bytes {
            (self.run, self.at) = (self.run + 1, 0);
        }
        Some((from, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_is_fetched_once_and_the_cache_is_left_room() {
        let of = |bytes, count| {
            let memory = Memory {
                start: std::ptr::without_provenance(1 << 20),
                bytes,
                stride: 5000,
                count,
            };
            let mut ahead = Ahead::of(memory);
            let all = std::iter::from_fn(move || ahead.next());
            all.map(|(from, bytes)| (from.addr() - (1 << 20), bytes))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(600, 2), [(0, 512), (512, 88), (5000, 512), (5512, 88)]);
        assert_eq!(of(0, 3), []);
        assert_eq!(of(100, 0), []);
        let most = of(4096, 10_000).iter().map(|run| run.1).sum::<usize>();
        assert_eq!(most, Caches::get().l2 / 4);
        assert!(Ahead::of(Memory::NONE).next().is_none());
    }
}
