//! Columns of the matrix product: pixels of the result, in panels of a few vectors.

use super::micro::Segment;

/// A panel: columns `first..first + len` of a result's plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panel {
    /// First pixel.
    pub first: usize,
    /// Number of pixels.
    pub len: usize,
    /// Where each vector's pixels come from.
    pub vectors: Vec<Vec<Segment>>,
}

/// Cuts `pixels` columns of rows of `width` pixels, which start `row` elements apart in the planes,
/// into panels of up to `vectors` vectors of `lanes`.
pub fn panels(pixels: usize, width: usize, row: usize, lanes: usize, vectors: usize) -> Vec<Panel> {
    let mut panels = Vec::with_capacity(pixels.div_ceil(lanes * vectors));
    for first in (0..pixels).step_by(lanes * vectors) {
        let len = (pixels - first).min(lanes * vectors);
        let starts = (first..first + len).step_by(lanes);
        let vectors = starts.map(|at| segments(at, (first + len - at).min(lanes), width, row));
        panels.push(Panel {
            first,
            len,
            vectors: vectors.collect(),
        });
    }
    panels
}

fn segments(first: usize, len: usize, width: usize, row: usize) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut lane = 0;
    while lane < len {
        let (y, x) = ((first + lane) / width, (first + lane) % width);
        let run = (width - x).min(len - lane);
        let source = y * row + x;
        match segments.last_mut() {
            Some(last) if last.source + last.len == source => last.len += run,
            _ => segments.push(Segment {
                lane,
                len: run,
                source,
            }),
        }
        lane += run;
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_break_vectors() {
        let p = panels(49, 7, 9, 16, 3);
        assert_eq!(p.len(), 2);
        assert_eq!((p[1].first, p[1].len, p[1].vectors.len()), (48, 1, 1));
        let second = &p[0].vectors[1];
        let lens: Vec<usize> = second.iter().map(|s| s.len).collect();
        assert_eq!(lens, [5, 7, 4]);
        assert_eq!((second[0].source, second[1].source), (2 * 9 + 2, 3 * 9));
        // An image without padding has no breaks.
        assert!(
            panels(49, 7, 7, 16, 3)[0]
                .vectors
                .iter()
                .all(|v| v.len() == 1)
        );
    }
}
