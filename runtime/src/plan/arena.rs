//! Memory of a plan's intermediates during one call.

use crate::{Error, pool};

/// 64 bytes: the alignment of every buffer.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Line(pub [u8; 64]);

/// A small arena is kept from call to call; a large one is taken from the pool for each call, so that
/// the plans of one graph for many sizes share memory.
pub struct Arena {
    bytes: usize,
    kept: Vec<Line>,
    /// A block of the pool, and its size.
    lent: Option<(*mut u8, usize)>,
}

impl Arena {
    /// Memory for this many bytes.
    pub fn new(bytes: usize) -> Arena {
        let lines = if bytes < pool::SMALLEST {
            bytes.div_ceil(64)
        } else {
            0
        };
        Arena {
            bytes,
            kept: vec![Line([0; 64]); lines],
            lent: None,
        }
    }

    /// The first byte, for a call that starts. The contents are undefined.
    pub fn acquire(&mut self) -> Result<*mut u8, Error> {
        if self.bytes < pool::SMALLEST {
            return Ok(self.kept.as_mut_ptr().cast());
        }
        if self.lent.is_none() {
            self.lent = pool::take(self.bytes);
        }
        self.lent
            .map(|(start, _)| start)
            .ok_or(Error::Memory(self.bytes))
    }

    /// Gives the memory back, at the end of a call.
    pub fn release(&mut self) {
        if let Some((start, size)) = self.lent.take() {
            pool::give(start, size);
        }
    }

    /// Whether an address lies in the arena.
    pub fn contains(&self, address: *const u8) -> bool {
        let start = match self.lent {
            Some((start, _)) => start.cast_const(),
            None => self.kept.as_ptr().cast(),
        };
        (start as usize..start as usize + self.bytes).contains(&(address as usize))
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_arenas_share_memory_between_calls() {
        let (mut a, mut b) = (Arena::new(300_001), Arena::new(300_001));
        let first = a.acquire().unwrap();
        assert!(a.contains(first) && a.contains(first.wrapping_add(300_000)));
        assert!(!a.contains(first.wrapping_add(300_001)));
        let other = b.acquire().unwrap();
        assert!(!a.contains(other));
        a.release();
        b.release();
        assert!([first, other].contains(&a.acquire().unwrap()));
    }

    #[test]
    fn small_ones_stay() {
        let mut a = Arena::new(100);
        let first = a.acquire().unwrap();
        a.release();
        assert_eq!(a.acquire().unwrap(), first);
        assert_eq!(first as usize % 64, 0);
        assert!(!Arena::new(0).contains(first));
    }
}
