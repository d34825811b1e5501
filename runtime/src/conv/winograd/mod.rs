//! 3x3 convolutions by minimal filtering F(2x2, 3x3): tiles of 4x4 pixels, 2 apart, and the filters are
//! transformed so that 16 matrix products take the place of 36 (Winograd, Arithmetic complexity of
//! computations, 1980; Lavin and Gray, Fast algorithms for convolutional neural networks, 2016).
//!
//! Differences of pixels that are not finite would spread to neighbours: results that are not finite
//! are computed again without the transforms, by the caller.

mod avx512;
mod run;
mod tiles;
mod weights;

pub use run::run;
pub use weights::Weights;

use super::micro::{self, Micro, Start, Tile};
use super::planes::Planes;
use super::scratch;
use super::shape::Shape;
use crate::cpu::Isa;
use std::ops::Range;
use tiles::Tiles;

/// Elements of a transformed tile.
const POINTS: usize = 16;
/// Tiles of a vector.
const LANES: usize = 16;
/// Floats of a block's transformed tiles and their products, at most (but one panel at least): a
/// second-level cache.
const BLOCK: usize = 256 << 10;
/// Tiles that are computed together, if there are so many, so that few lanes stay empty.
const TOGETHER: usize = 256;

/// Whether the transforms save time: estimated cycles, as measured on Zen 4. `transformed`: the
/// weights already are.
pub fn pays(shape: &Shape, isa: Isa, threads: usize, transformed: bool) -> bool {
    let fits = shape.kernel == [3, 3]
        && [shape.stride, shape.dilation] == [[1, 1]; 2]
        && shape.groups == 1
        && shape.inputs.min(shape.outputs) >= LANES;
    let images = images(shape, threads);
    let vectors = (tiles_of(shape) * images).div_ceil(LANES) * shape.images.div_ceil(images);
    if !fits || isa < Isa::Avx512 || vectors < threads {
        return false;
    }
    let pairs = shape.inputs * shape.outputs;
    let products = POINTS * pairs * vectors;
    let transforms = 80 * (shape.inputs + shape.outputs) * vectors;
    let weights = if transformed { 0 } else { 12 * pairs };
    5 * (products + transforms + weights) < 4 * shape.work() / LANES
}

/// Tiles of one image.
fn tiles_of(shape: &Shape) -> usize {
    let [h, w] = shape.result().unwrap_or([0; 2]);
    h.div_ceil(2) * w.div_ceil(2)
}

/// How many images are computed together: enough to fill vectors, and few enough for all threads.
pub fn images(shape: &Shape, threads: usize) -> usize {
    let most = (shape.images / threads).max(1);
    let rounds = most.div_ceil(TOGETHER.div_ceil(tiles_of(shape).max(1)));
    most.div_ceil(rounds)
}

/// How a shape is read: 4x4 windows, two pixels apart.
pub fn windows(shape: &Shape) -> Shape {
    Shape {
        kernel: [4, 4],
        stride: [2, 2],
        ..*shape
    }
}

/// Some images of a convolution, prepared.
pub struct Winograd<'a> {
    /// Of these images.
    shape: Shape,
    micro: &'static Micro,
    planes: Planes,
    weights: &'a Weights,
    vectors: Vec<Tiles>,
    /// Vectors of a panel.
    panel: usize,
}

/// Pointers of these images; the planes are those of [`windows`].
#[derive(Clone, Copy)]
pub struct Pointers {
    pub planes: *const f32,
    pub bias: Option<*const f32>,
    pub result: *mut f32,
}

/// A block: the vectors of some panels, and their memory.
struct Block<'a> {
    vectors: &'a [Tiles],
    /// `[panel, POINTS, inputs, lanes]`
    tiles: *mut f32,
    /// `[panel, POINTS, outputs, lanes]`
    products: *mut f32,
}

impl<'a> Winograd<'a> {
    /// Prepares the images of `shape`, for parts on some threads.
    pub fn new(shape: Shape, weights: &'a Weights, isa: Isa, threads: usize) -> Winograd<'a> {
        let planes = Planes::of(&windows(&shape));
        let vectors = tiles::vectors(&shape, &planes, shape.images);
        Winograd {
            micro: micro::of(isa),
            panel: if vectors.len() < 4 * threads { 1 } else { 2 },
            shape,
            planes,
            weights,
            vectors,
        }
    }

    /// Panels of tiles.
    pub fn panels(&self) -> usize {
        self.vectors.len().div_ceil(self.panel)
    }

    /// Computes the tiles of some panels, of all outputs. Returns whether all results are finite.
    ///
    /// # Safety
    /// The pointers hold what the shape says, nobody else writes these tiles, and the processor has
    /// AVX-512.
    pub unsafe fn part(&self, pointers: &Pointers, panels: Range<usize>) -> bool {
        let (inputs, outputs) = (self.shape.inputs, self.shape.outputs);
        let width = self.panel * LANES;
        let [tiles, products] = [inputs, outputs].map(|channels| POINTS * channels * width);
        let per_block = (BLOCK / (tiles + products)).clamp(1, panels.len().max(1));
        let end = self.vectors.len().min(panels.end * self.panel);
        let vectors = panels.start * self.panel..end;
        let mut finite = true;
        scratch::with(
            &scratch::COLUMNS,
            per_block * (tiles + products),
            |memory| {
                for vectors in self.vectors[vectors].chunks(per_block * self.panel) {
                    let block = Block {
                        vectors,
                        tiles: memory.as_mut_ptr(),
                        products: memory.as_mut_ptr().wrapping_add(per_block * tiles),
                    };
                    // SAFETY: by contract; the scratch holds the block.
                    unsafe {
                        self.transform(&block, pointers);
                        self.multiply(&block);
                        finite &= self.restore(&block, pointers);
                    }
                }
            },
        );
        finite
    }

    /// Floats from one point to the next, and from one panel to the next.
    fn distances(&self, channels: usize) -> (usize, usize) {
        let point = channels * self.panel * LANES;
        (point, POINTS * point)
    }

    unsafe fn transform(&self, block: &Block, pointers: &Pointers) {
        let (point, panel) = self.distances(self.shape.inputs);
        for (n, tiles) in block.vectors.iter().enumerate() {
            let at = n / self.panel * panel + n % self.panel * LANES;
            let source = avx512::Source {
                planes: pointers.planes,
                plane: self.planes.len(),
                channels: self.shape.inputs,
                taps: &self.planes.taps,
                tiles,
            };
            // SAFETY: by contract.
            unsafe { avx512::transform(block.tiles.add(at), self.panel * LANES, point, &source) };
        }
    }

    unsafe fn multiply(&self, block: &Block) {
        let (inputs, outputs) = (self.shape.inputs, self.shape.outputs);
        let (tile_point, tile_panel) = self.distances(inputs);
        let (product_point, product_panel) = self.distances(outputs);
        let width = self.panel * LANES;
        let most = self.micro.tiles[self.panel - 1].len();
        let step = outputs.div_ceil(outputs.div_ceil(most));
        for point in 0..POINTS {
            let a = self.weights.matrix(&self.shape, point);
            for output in (0..outputs).step_by(step) {
                let rows = step.min(outputs - output);
                for (n, vectors) in block.vectors.chunks(self.panel).enumerate() {
                    let b = block
                        .tiles
                        .wrapping_add(n * tile_panel + point * tile_point);
                    let at = n * product_panel + point * product_point + output * width;
                    let tile = Tile {
                        depth: inputs,
                        a: a.wrapping_add(output * inputs),
                        row: inputs,
                        step: 1,
                        b: b.cast_const(),
                        ldb: width,
                        c: block.products.wrapping_add(at),
                        ldc: width,
                        columns: vectors.len() * LANES,
                        start: Start::Zero,
                    };
                    // SAFETY: by contract.
                    unsafe { self.micro.tiles[vectors.len() - 1][rows - 1](&tile) };
                }
            }
        }
    }

    unsafe fn restore(&self, block: &Block, pointers: &Pointers) -> bool {
        let (point, panel) = self.distances(self.shape.outputs);
        let [height, width] = self.shape.result().unwrap_or([0; 2]);
        let mut finite = true;
        for (n, tiles) in block.vectors.iter().enumerate() {
            let at = n / self.panel * panel + n % self.panel * LANES;
            let products = avx512::Products {
                from: block.products.wrapping_add(at).cast_const(),
                width: self.panel * LANES,
                distance: point,
                outputs: self.shape.outputs,
                bias: pointers.bias,
                to: pointers.result,
                plane: height * width,
                row: width,
                tiles,
            };
            // SAFETY: by contract.
            finite &= unsafe { avx512::restore(&products) };
        }
        finite
    }
}
