//! Who computes what: each thread some images, or all threads the tiles of all images.

use super::{Pointers as Part, Weights, Winograd, images, windows};
use crate::Error;
use crate::conv::planes::Planes;
use crate::conv::shape::Shape;
use crate::conv::{Pointers, Shared, Then, Threads, direct, fill, finish, scratch};
use crate::cpu::Isa;
use std::sync::atomic::{AtomicBool, Ordering};

/// Computes a convolution with transformed weights.
///
/// # Safety
/// The pointers hold what the shape says, the weights are those of the pointers, the result overlaps
/// nothing else, and the processor has AVX-512.
pub unsafe fn run(
    shape: &Shape,
    isa: Isa,
    pointers: Pointers,
    weights: &Weights,
    threads: &dyn Threads,
    then: Option<Then>,
) -> Result<(), Error> {
    let images = images(shape, threads.count());
    let unit = then.map_or(1, |t| t.unit);
    // SAFETY: by contract.
    unsafe {
        if shape.images < threads.count() || !(images * shape.outputs).is_multiple_of(unit) {
            return together(shape, isa, pointers, weights, threads, then);
        }
    }
    let groups = shape.images.div_ceil(images);
    let failed = AtomicBool::new(false);
    let shared = Shared(pointers);
    threads.split(groups, 1, &|begin, end| {
        for first in (begin..end).map(|group| group * images) {
            let some = Shape {
                images: images.min(shape.images - first),
                ..*shape
            };
            let pointers = shared.get().of_image(shape, first);
            // SAFETY: by contract; groups have images of their own.
            let done = unsafe { together(&some, isa, pointers, weights, &Alone, None) };
            failed.fetch_or(done.is_err(), Ordering::Relaxed);
            if let Some(then) = then {
                let planes = first * shape.outputs;
                (then.run)(planes, planes + some.images * shape.outputs);
            }
        }
    })?;
    if failed.into_inner() {
        return Err(Error::Plan("a part of a convolution failed".into()));
    }
    Ok(())
}

/// One thread.
struct Alone;

impl Threads for Alone {
    fn count(&self) -> usize {
        1
    }

    fn split(
        &self,
        end: usize,
        _: usize,
        body: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<(), Error> {
        body(0, end);
        Ok(())
    }
}

/// As [`run`]: threads share the tiles of all images.
unsafe fn together(
    shape: &Shape,
    isa: Isa,
    pointers: Pointers,
    weights: &Weights,
    threads: &dyn Threads,
    then: Option<Then>,
) -> Result<(), Error> {
    let windows = windows(shape);
    let planes = Planes::of(&windows);
    let len = shape.images * shape.inputs * planes.len();
    let finite = AtomicBool::new(true);
    scratch::with(&scratch::PLANES, len, |padded| {
        fill(&windows, &planes, pointers.image, padded, threads)?;
        let part = Shared(Part {
            planes: padded.as_ptr(),
            bias: pointers.bias,
            result: pointers.result,
        });
        let winograd = Winograd::new(*shape, weights, isa, threads.count());
        threads.split(winograd.panels(), 1, &|begin, end| {
            // SAFETY: by contract; parts are disjoint.
            if !unsafe { winograd.part(part.get(), begin..end) } {
                finite.store(false, Ordering::Relaxed);
            }
        })
    })?;
    if !finite.into_inner() {
        // SAFETY: by contract.
        unsafe { direct(shape, isa, pointers, threads, None) }?;
    }
    finish(shape, threads, then)
}
