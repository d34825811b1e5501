//! Convolutions of f32 images in row-major order, on the weights as they are.

mod columns;
pub mod last;
mod micro;
mod near;
mod planes;
mod product;
mod scratch;
mod shape;
mod turned;
mod window;
#[cfg_attr(not(target_arch = "x86_64"), path = "winograd/absent.rs")]
mod winograd;

pub use shape::Shape;
pub use winograd::Weights;

use crate::Error;
use crate::cpu::Isa;
use near::Near;
use planes::Planes;
use product::Product;
use turned::Turned;

/// Where loops run in parallel.
pub trait Threads {
    /// Number of threads.
    fn count(&self) -> usize;
    /// Runs `body` over parts of `0..end`, of at least `grain`.
    fn split(
        &self,
        end: usize,
        grain: usize,
        body: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<(), Error>;
}

/// How images and results lie. Where both orders are the same (one channel, one pixel), kernels differ nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// `[images, channels, h, w]`, row by row.
    Planes,
    /// `[images, h, w, channels]`: [`last`].
    Pixels,
}

/// What becomes of the pixels under a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Their weighted sum: a convolution.
    Sum,
    /// The largest of one plane: as many groups as inputs and outputs, and no weights. Padding is
    /// smaller than everything.
    Max,
}

/// The tensors of a call.
struct Images {
    planes: *const f32,
    weight: *const f32,
    bias: Option<*const f32>,
    result: *mut f32,
}

// SAFETY: threads write different rows of the result.
unsafe impl Sync for Images {}

/// Pointers of a call, of the sizes that the shape says; `bias` has `outputs` elements.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct Pointers {
    pub image: *const f32,
    pub weight: *const f32,
    pub bias: Option<*const f32>,
    pub result: *mut f32,
}

impl Pointers {
    /// Those of the images from the n-th on.
    fn of_image(&self, shape: &Shape, n: usize) -> Pointers {
        let pixels = |[h, w]: [usize; 2]| h * w;
        let result = pixels(shape.result().unwrap_or([0; 2]));
        Pointers {
            image: self
                .image
                .wrapping_add(n * shape.inputs * pixels(shape.image)),
            result: self.result.wrapping_add(n * shape.outputs * result),
            ..*self
        }
    }
}

/// Pointers for several threads.
struct Shared<P>(P);

// SAFETY: threads write different parts of what these point at.
unsafe impl<P> Sync for Shared<P> {}

impl<P> Shared<P> {
    fn get(&self) -> &P {
        &self.0
    }
}

/// Multiplications that are worth a second thread.
const GRAIN: usize = 40_000;

/// What happens to finished planes of the result.
#[derive(Clone, Copy)]
pub struct Then<'a> {
    /// Planes that belong together; divides the number of planes.
    pub unit: usize,
    /// Called once for each range of planes, if possible by the thread that has just computed them.
    /// Ranges begin at multiples of `unit`.
    pub run: &'a (dyn Fn(usize, usize) + Sync),
}

/// Whether [`run`] is faster with transformed weights that never change.
pub fn transforms(shape: &Shape, operation: Operation, isa: Isa, threads: &dyn Threads) -> bool {
    operation == Operation::Sum && winograd::pays(shape, isa, threads.count(), true)
}

/// Transforms weights that never change, if [`run`] is faster with such ones.
///
/// # Safety
/// The pointer holds the shape's weights.
pub unsafe fn transform(
    shape: &Shape,
    operation: Operation,
    isa: Isa,
    weight: *const f32,
    threads: &dyn Threads,
) -> Result<Option<Weights>, Error> {
    if !transforms(shape, operation, isa, threads) {
        return Ok(None);
    }
    // SAFETY: by contract.
    unsafe { Weights::new(shape, weight, threads) }.map(Some)
}

/// Computes a convolution: `images * outputs` planes. `weights` are the pointers' weights as
/// [`transform`] made them, if it did.
///
/// # Safety
/// The pointers hold what the shape says; the result overlaps nothing else.
pub unsafe fn run(
    shape: &Shape,
    operation: Operation,
    isa: Isa,
    pointers: Pointers,
    weights: Option<&Weights>,
    threads: &dyn Threads,
    then: Option<Then>,
) -> Result<(), Error> {
    let valid = operation == Operation::Sum || shape.is_depthwise();
    if shape.result().is_none() || !valid {
        return Err(Error::Plan(format!(
            "a convolution without results: {shape:?}"
        )));
    }
    if shape.is_depthwise() && shape.taps() > 1 {
        let shared = Shared(pointers);
        let unit = then.map_or(1, |t| t.unit);
        let planes = shape.images * shape.outputs;
        let turned = Turned::of(shape, isa, then.as_ref(), threads.count());
        if let Some(turned) = turned.filter(|_| operation == Operation::Sum) {
            let unit = turned.unit();
            return threads.split(planes / unit, grain(shape, unit), &|begin, end| {
                // SAFETY: by contract; parts are disjoint.
                unsafe { turned.planes(shared.get(), begin * unit..end * unit, then) };
            });
        }
        return threads.split(planes / unit, grain(shape, unit), &|begin, end| {
            let range = begin * unit..end * unit;
            // SAFETY: by contract; parts are disjoint.
            unsafe { window::planes(shape, operation, micro::of(isa), shared.get(), range, then) };
        });
    }
    // SAFETY: by contract.
    unsafe {
        match weights {
            Some(weights) => winograd::run(shape, isa, pointers, weights, threads, then),
            None if winograd::pays(shape, isa, threads.count(), false) => {
                let weights = Weights::new(shape, pointers.weight, threads)?;
                winograd::run(shape, isa, pointers, &weights, threads, then)
            }
            None => direct(shape, isa, pointers, threads, then),
        }
    }
}

/// Computes a convolution as a matrix product.
///
/// # Safety
/// As [`run`].
unsafe fn direct(
    shape: &Shape,
    isa: Isa,
    pointers: Pointers,
    threads: &dyn Threads,
    then: Option<Then>,
) -> Result<(), Error> {
    if Planes::is_image(shape) {
        // SAFETY: by contract.
        return unsafe { multiply(shape, isa, pointers, pointers.image, threads, then) };
    }
    let planes = Planes::of(shape);
    let len = shape.images * shape.inputs * planes.len();
    scratch::with(&scratch::PLANES, len + near::SLACK, |padded| {
        fill(shape, &planes, pointers.image, padded, threads)?;
        if near::pays(shape, &planes, isa) {
            let near = Near::new(shape, isa, &planes, pointers, padded.as_ptr());
            // SAFETY: by contract.
            return unsafe { near.run(threads, then) };
        }
        // SAFETY: by contract.
        unsafe { multiply(shape, isa, pointers, padded.as_ptr(), threads, then) }
    })
}

/// Units of planes that are worth a second thread.
fn grain(shape: &Shape, unit: usize) -> usize {
    let units = shape.images * shape.outputs / unit;
    GRAIN.div_ceil(shape.work().div_ceil(units).max(1))
}

fn fill(
    shape: &Shape,
    planes: &Planes,
    image: *const f32,
    padded: &mut [f32],
    threads: &dyn Threads,
) -> Result<(), Error> {
    let pixels = shape.image[0] * shape.image[1];
    let (image, to) = (image as usize, padded.as_mut_ptr() as usize);
    let phases = planes.phases();
    let len = planes.len() / phases;
    let all = shape.images * shape.inputs * phases;
    threads.split(all, GRAIN.div_ceil(len), &|begin, end| {
        for n in begin..end {
            // SAFETY: the image has this channel, and each phase of the planes has one writer.
            let (from, to) = unsafe {
                let from = (image as *const f32).add(n / phases * pixels);
                (
                    std::slice::from_raw_parts(from, pixels),
                    std::slice::from_raw_parts_mut((to as *mut f32).add(n * len), len),
                )
            };
            planes.fill(shape, from, n % phases, to);
        }
    })
}

unsafe fn multiply(
    shape: &Shape,
    isa: Isa,
    pointers: Pointers,
    planes: *const f32,
    threads: &dyn Threads,
    then: Option<Then>,
) -> Result<(), Error> {
    let images = Images {
        planes,
        weight: pointers.weight,
        bias: pointers.bias,
        result: pointers.result,
    };
    let product = Product::new(*shape, micro::of(isa), &images);
    let rows = shape.images * shape.outputs;
    let unit = then.map_or(1, |t| t.unit);
    if product.shares_columns(threads.count(), then.is_some()) {
        let grain = GRAIN.div_ceil((shape.work() / product.panels()).max(1));
        threads.split(product.panels(), grain, &|begin, end| {
            // SAFETY: by contract; parts are disjoint.
            unsafe { product.part(0..rows, begin..end) };
        })?;
        return finish(shape, threads, then);
    }
    threads.split(rows / unit, grain(shape, unit), &|begin, end| {
        let (begin, end) = (begin * unit, end * unit);
        // SAFETY: by contract; parts are disjoint.
        unsafe { product.part(begin..end, 0..product.panels()) };
        if let Some(then) = then {
            (then.run)(begin, end);
        }
    })
}

/// Runs what follows on all planes.
fn finish(shape: &Shape, threads: &dyn Threads, then: Option<Then>) -> Result<(), Error> {
    let Some(Then { unit, run }) = then else {
        return Ok(());
    };
    let pixels: usize = shape.result().unwrap_or([0; 2]).iter().product();
    let grain = GRAIN.div_ceil((pixels * unit).max(1));
    let units = shape.images * shape.outputs / unit;
    threads.split(units, grain, &|begin, end| run(begin * unit, end * unit))
}

#[cfg(test)]
mod tests;
