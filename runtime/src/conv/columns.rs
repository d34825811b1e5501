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
    /// Where the pixels come from if there are too few for a vector.
    pub dots: Vec<usize>,
}

/// How columns are cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Columns of a vector.
    pub lanes: usize,
    /// Vectors of a panel, at most.
    pub vectors: usize,
    /// Up to so many columns that are left over are a panel without vectors.
    pub dots: usize,
}

/// Cuts `pixels` columns of rows of `width` pixels, which start `row` elements apart in the planes.
pub fn panels(pixels: usize, width: usize, row: usize, cut: Cut) -> Vec<Panel> {
    let rest = pixels % cut.lanes;
    let rest = if rest <= cut.dots { rest } else { 0 };
    let (whole, wide) = (pixels - rest, cut.lanes * cut.vectors);
    let mut panels = Vec::with_capacity(whole.div_ceil(wide) + 1);
    for first in (0..whole).step_by(wide) {
        let len = (whole - first).min(wide);
        let starts = (first..first + len).step_by(cut.lanes);
        let vectors = starts.map(|at| segments(at, (first + len - at).min(cut.lanes), width, row));
        panels.push(Panel {
            first,
            len,
            vectors: vectors.collect(),
            dots: Vec::new(),
        });
    }
    if rest > 0 {
        panels.push(Panel {
            first: whole,
            len: rest,
            vectors: Vec::new(),
            dots: (whole..pixels)
                .map(|p| p / width * row + p % width)
                .collect(),
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
        let cut = Cut {
            lanes: 16,
            vectors: 3,
            dots: 0,
        };
        let p = panels(49, 7, 9, cut);
        assert_eq!(p.len(), 2);
        assert_eq!((p[1].first, p[1].len, p[1].vectors.len()), (48, 1, 1));
        let second = &p[0].vectors[1];
        let lens: Vec<usize> = second.iter().map(|s| s.len).collect();
        assert_eq!(lens, [5, 7, 4]);
        assert_eq!((second[0].source, second[1].source), (2 * 9 + 2, 3 * 9));
        // An image without padding has no breaks.
        let whole = &panels(49, 7, 7, cut)[0];
        assert!(whole.vectors.iter().all(|v| v.len() == 1));
        let p = panels(49, 7, 9, Cut { dots: 1, ..cut });
        assert_eq!(p[1].dots, [6 * 9 + 6]);
    }
}
