//! Which tiles lie in the lanes of a vector.

use super::LANES;
use crate::conv::micro::Segment;
use crate::conv::planes::Planes;
use crate::conv::shape::Shape;

/// Where a run of neighbouring tiles stores its results. A vector's lane holds one tile, which is two
/// pixels wide and high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    /// Pixel of the result that lane 0 would store to, which may lie outside.
    pub offset: isize,
    /// Which pixels of a row are stored: two for each lane, the lowest bits for lane 0.
    pub mask: u32,
    /// Whether the lower row of pixels lies in the result.
    pub lower: bool,
}

/// The tiles of one vector: where they are read in the first channel's planes, and stored in the first
/// output's plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiles {
    pub sources: Vec<Segment>,
    pub stores: Vec<Store>,
}

/// The tiles of `images` images, row by row.
pub fn vectors(shape: &Shape, planes: &Planes, images: usize) -> Vec<Tiles> {
    let [height, width] = shape.result().unwrap_or([0; 2]);
    let [rows, columns] = [height.div_ceil(2), width.div_ceil(2)];
    let total = images * rows * columns;
    let vector = |first: usize| {
        let mut tiles = Tiles {
            sources: Vec::new(),
            stores: Vec::new(),
        };
        let mut lane = 0;
        while lane < LANES.min(total - first) {
            let tile = first + lane;
            let (image, y, x) = (tile / columns / rows, tile / columns % rows, tile % columns);
            let len = (columns - x).min(LANES.min(total - first) - lane);
            tiles.sources.push(Segment {
                lane,
                len,
                source: image * shape.inputs * planes.len() + y * planes.row() + x,
            });
            let pixels = (2 * len).min(width - 2 * x);
            let plane = image * shape.outputs * height * width;
            tiles.stores.push(Store {
                offset: (plane + 2 * y * width + 2 * x) as isize - 2 * lane as isize,
                mask: (((1u64 << pixels) - 1) << (2 * lane)) as u32,
                lower: 2 * y + 1 < height,
            });
            lane += len;
        }
        tiles
    };
    (0..total).step_by(LANES).map(vector).collect()
}
