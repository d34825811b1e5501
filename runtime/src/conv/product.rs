//! Convolution as a matrix product: weights `[outputs, depth]` as they are, times columns
//! `[depth, pixels]` that are packed block by block from the planes (implicit im2col; Chetlur et al.,
//! cuDNN, 2014, in the blocking of Goto and van de Geijn, 2008). Depth is (input channel, tap).

use super::Images;
use super::columns::{Cut, Panel, panels};
use super::micro::{Micro, Source, Start, Tile};
use super::planes::Planes;
use super::scratch;
use super::shape::Shape;
use std::ops::Range;

/// Depth of a packed block, at most (but one channel at least).
const DEPTH: usize = 512;
/// Floats of a packed block, at most (but one panel at least): half of a second-level cache.
const BLOCK: usize = 128 << 10;

/// A convolution, prepared for one instruction set.
pub struct Product<'a> {
    shape: Shape,
    micro: &'static Micro,
    panels: Vec<Panel>,
    planes: Planes,
    is_image: bool,
    /// Elements between channels of the planes.
    plane: usize,
    /// Vectors of a panel.
    vectors: usize,
    images: &'a Images,
}

impl<'a> Product<'a> {
    /// Prepares; `images.planes` has the layout of `Planes`, or is the image if that needs none.
    pub fn new(shape: Shape, micro: &'static Micro, images: &'a Images) -> Product<'a> {
        let [h, w] = shape.result().unwrap_or([0; 2]);
        let vectors = vectors(h * w, micro);
        let cut = Cut {
            lanes: micro.lanes,
            vectors,
            dots: micro.dots.len(),
        };
        let planes = Planes::of(&shape);
        let is_image = Planes::is_image(&shape);
        let plane = if is_image {
            shape.image[0] * shape.image[1]
        } else {
            planes.len()
        };
        Product {
            panels: panels(h * w, w, planes.row(), cut),
            shape,
            micro,
            planes,
            is_image,
            plane,
            vectors,
            images,
        }
    }

    /// Rows of a full tile.
    pub fn tile_rows(&self) -> usize {
        self.micro.tiles[self.vectors - 1].len()
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.panels.len()
    }

    /// Pixels of a plane of the result.
    pub fn pixels(&self) -> usize {
        self.panels.last().map_or(0, |p| p.first + p.len)
    }

    /// Whether threads had better share the columns than the rows, since each packs all columns of
    /// its rows; what follows then has to wait for all columns (`followed`).
    pub fn shares_columns(&self, threads: usize, followed: bool) -> bool {
        let groups = self.shape.images * self.shape.groups;
        if groups >= threads || self.panels.len() < 4 * threads {
            return false;
        }
        // Cycles, as measured on Zen 4; a vector that gathers its lanes costs twice that of a copy.
        let taps = self.planes.taps.len();
        let depth = self.shape.inputs / self.shape.groups * taps;
        let vectors = |n: usize| n * self.pixels() / self.micro.lanes;
        let packing = vectors(depth) * if taps == 1 { 2 } else { 4 };
        let waiting = if followed {
            15_000 + 2 * vectors(self.shape.outputs)
        } else {
            0
        };
        packing > waiting
    }

    /// Computes some panels of rows of the result, which has `images * outputs` rows of one plane.
    ///
    /// # Safety
    /// The images' pointers hold what the shape says, and nobody else writes this part.
    pub unsafe fn part(&self, rows: Range<usize>, panels: Range<usize>) {
        let per_group = self.shape.outputs / self.shape.groups;
        let mut begin = rows.start;
        while begin < rows.end {
            let group = begin / per_group;
            let stop = rows.end.min((group + 1) * per_group);
            // SAFETY: by contract.
            unsafe { self.group_rows(group, begin..stop, &self.panels[panels.clone()]) };
            begin = stop;
        }
    }

    /// Rows of one group of one image.
    unsafe fn group_rows(&self, group: usize, rows: Range<usize>, panels: &[Panel]) {
        let channels = self.shape.inputs / self.shape.groups;
        let taps = self.planes.taps.len();
        let per_block = (DEPTH / taps).clamp(1, channels);
        let blocks = channels.div_ceil(per_block);
        let per_block = channels.div_ceil(blocks);
        let planes = self
            .images
            .planes
            .wrapping_add(group * channels * self.plane);
        // Few rows use a column too seldom to pay for its copy.
        let is_direct = |rows: usize| taps == 1 && self.is_image && rows <= 2 * self.tile_rows();
        let width = self.vectors * self.micro.lanes;
        let per_panel = per_block * taps * width;
        let panels_per_block = (BLOCK / per_panel).clamp(1, panels.len().max(1));
        let len = per_panel * panels_per_block;
        scratch::with(&scratch::COLUMNS, len, |packed| {
            for panels in panels.chunks(panels_per_block) {
                for first in (0..channels).step_by(per_block) {
                    let block = Block {
                        first,
                        channels: per_block.min(channels - first),
                        panels,
                        planes: planes.wrapping_add(first * self.plane),
                        packed: packed.as_mut_ptr(),
                        direct: is_direct(rows.len()),
                    };
                    // SAFETY: by contract; the scratch holds the block.
                    unsafe {
                        self.pack(&block);
                        self.multiply(&block, rows.clone());
                    }
                }
            }
        });
    }

    unsafe fn pack(&self, block: &Block) {
        let depth = block.channels * self.planes.taps.len();
        let mut to = block.packed;
        for panel in block.panels {
            let width = panel.vectors.len() * self.micro.lanes;
            if self.reads_planes(block, panel) {
                continue;
            }
            for (n, &pixel) in panel.dots.iter().enumerate() {
                // SAFETY: by contract; the scratch has room for a vector's columns.
                unsafe { self.pack_dots(block, pixel, to.add(n * depth)) };
            }
            for (v, segments) in panel.vectors.iter().enumerate() {
                let source = Source {
                    planes: block.planes,
                    plane: self.plane,
                    channels: block.channels,
                    taps: &self.planes.taps,
                    segments,
                };
                // SAFETY: by contract; panels follow each other in the scratch.
                unsafe { (self.micro.pack)(to.add(v * self.micro.lanes), width, &source) };
            }
            to = to.wrapping_add(depth * width.max(panel.dots.len()));
        }
    }

    /// Writes the column of one pixel without gaps.
    unsafe fn pack_dots(&self, block: &Block, pixel: usize, to: *mut f32) {
        let taps = &self.planes.taps;
        for channel in 0..block.channels {
            let plane = block.planes.wrapping_add(channel * self.plane + pixel);
            for (t, &tap) in taps.iter().enumerate() {
                // SAFETY: by contract.
                unsafe { *to.add(channel * taps.len() + t) = *plane.add(tap) };
            }
        }
    }

    /// Whether a panel's columns are read where they are; a vector that is not full would end
    /// behind the image.
    fn reads_planes(&self, block: &Block, panel: &Panel) -> bool {
        block.direct && panel.dots.is_empty() && panel.len == panel.vectors.len() * self.micro.lanes
    }

    unsafe fn multiply(&self, block: &Block, rows: Range<usize>) {
        let Range { start: begin, end } = rows;
        let Images {
            weight,
            bias,
            result,
            ..
        } = *self.images;
        let taps = self.planes.taps.len();
        let depth = self.shape.inputs / self.shape.groups * taps;
        let pixels = self.pixels();
        let tiles = (end - begin).div_ceil(self.tile_rows());
        let step = (end - begin).div_ceil(tiles);
        for row in (begin..end).step_by(step) {
            let rows = step.min(end - row);
            let output = row % self.shape.outputs;
            let mut packed = block.packed.cast_const();
            for panel in block.panels {
                let width = panel.vectors.len() * self.micro.lanes;
                let (b, ldb) = if self.reads_planes(block, panel) {
                    (block.planes.wrapping_add(panel.first), self.plane)
                } else {
                    let b = packed;
                    packed = packed.wrapping_add(block.channels * taps * width);
                    (b, width)
                };
                let tile = Tile {
                    depth: block.channels * taps,
                    a: weight.wrapping_add(output * depth + block.first * taps),
                    row: depth,
                    step: 1,
                    b,
                    ldb,
                    c: result.wrapping_add(row * pixels + panel.first),
                    ldc: pixels,
                    columns: panel.len,
                    start: match bias {
                        _ if block.first > 0 => Start::Sum,
                        Some(bias) => Start::Bias(bias.wrapping_add(output)),
                        None => Start::Zero,
                    },
                };
                if !panel.dots.is_empty() {
                    let tile = Tile {
                        ldb: tile.depth,
                        ..tile
                    };
                    // SAFETY: by contract.
                    unsafe { self.micro.dots[panel.dots.len() - 1](&tile, rows) };
                    continue;
                }
                let of_width = self.micro.tiles[panel.vectors.len() - 1];
                // SAFETY: by contract.
                unsafe { of_width[rows - 1](&tile) };
            }
        }
    }
}

/// A packed block: some channels of some panels.
struct Block<'a> {
    first: usize,
    channels: usize,
    panels: &'a [Panel],
    /// Plane of the first channel.
    planes: *const f32,
    packed: *mut f32,
    /// Columns need no copy.
    direct: bool,
}

/// Vectors of a panel: the widest tile that wastes the fewest lanes has many rows; among equals the
/// one with the most sums.
fn vectors(pixels: usize, micro: &Micro) -> usize {
    let cost = |&v: &usize| {
        let columns = pixels % micro.lanes;
        let vectors = pixels / micro.lanes + usize::from(columns > micro.dots.len());
        // Loads for each product: narrow panels read more weights, wide ones have few rows.
        let rest = vectors % v;
        (
            usize::from(rest > 0),
            std::cmp::Reverse(v * micro.tiles[v - 1].len()),
        )
    };
    (2.min(micro.tiles.len())..=micro.tiles.len())
        .min_by_key(cost)
        .unwrap_or(1)
}
