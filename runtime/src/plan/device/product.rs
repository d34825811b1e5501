//! Products on the device: by matrix instructions where it has them for the type, else plain.

use super::super::{Plan, ProductStep, TensorRef};
use super::state::{State, cached};
use super::{OnDevice, failed};
use crate::gemm::{Matrix, Product as Shape};
use crate::level_zero::library::Epilogue;
use crate::level_zero::product::{self, Extra, Operand, Product};
use crate::{DType, Error};

/// Whether there is a kernel for a product.
pub fn takes(p: &ProductStep) -> bool {
    let Some(shape) = p.shape(|_| std::ptr::null_mut()) else {
        return false;
    };
    let same = |m: &Matrix| m.dtype == shape.a.dtype;
    matches!(shape.a.dtype, DType::F32 | DType::F16 | DType::BF16)
        && same(&shape.b)
        && same(&shape.c)
        && shape.input.as_ref().is_none_or(same)
}

/// The device's view of a product.
fn on_device(s: &Shape) -> Product {
    let operand = |m: &Matrix, batch: isize| Operand {
        data: m.data,
        strides: [batch, m.strides[0], m.strides[1]].map(|s| s as i64),
    };
    Product {
        dtype: s.a.dtype,
        sizes: [s.batch.count, s.m, s.n, s.k],
        a: operand(&s.a, s.batch.a),
        b: operand(&s.b, s.batch.b),
        c: operand(&s.c, s.batch.c),
        input: s.input.as_ref().map(|m| operand(m, s.batch.input)),
        alpha: s.alpha,
        beta: s.beta,
    }
}

/// What matrix instructions do of a product's input; none if they cannot.
fn epilogue(p: &Product) -> Option<Epilogue> {
    let whole = Epilogue::default();
    match p.input {
        None => Some(whole),
        Some(_) if p.beta == 0.0 => Some(whole),
        Some(input) => {
            let row = input.strides[0] == 0 && input.strides[1] == 0 && input.strides[2] == 1;
            (row && p.beta == 1.0).then_some(Epilogue {
                bias: true,
                ..whole
            })
        }
    }
}

impl OnDevice {
    /// Queues a product.
    pub(in crate::plan) fn product(
        &self,
        plan: &Plan,
        n: usize,
        step: &ProductStep,
        state: &mut State,
        data: &[*mut u8],
    ) -> Result<(), Error> {
        let mut addresses = Vec::new();
        for t in [&step.a, &step.b].into_iter().chain(&step.input) {
            let host = data[t.buffer.0 as usize];
            addresses.push((t.buffer, self.read(plan, state, t.buffer, host)?));
        }
        let out = step.out.buffer;
        let address = self.write(plan, state, out, data[out.0 as usize])?;
        addresses.push((out, address));
        let find = |t: &TensorRef| {
            let found = addresses.iter().find(|(b, _)| *b == t.buffer);
            found.map_or(std::ptr::null_mut(), |(_, a)| a.cast_mut())
        };
        let shape = step.shape(find);
        let shape = shape.ok_or_else(|| Error::Plan(format!("{} is no product", step.name)))?;
        let p = on_device(&shape);
        if p.sizes[..3].contains(&0) {
            return Ok(());
        }
        if p.is_dense()
            && let Some(epilogue) = epilogue(&p)
            && self.by_matrix(plan, n, step, &p, epilogue, state)?
        {
            return Ok(());
        }
        let State {
            kernels, stream, ..
        } = state;
        let kernel = cached(kernels, (n, 0), || {
            product::plain_kernel(&self.library, p.dtype)
        })?;
        product::plain(kernel, stream, &p).map_err(failed)?;
        self.launched(1);
        Ok(())
    }

    /// By matrix instructions; false if the device has none.
    fn by_matrix(
        &self,
        plan: &Plan,
        n: usize,
        step: &ProductStep,
        p: &Product,
        epilogue: Epilogue,
        state: &mut State,
    ) -> Result<bool, Error> {
        if !self.has_matrix(p.dtype) {
            return Ok(false);
        }
        let fixed = self.is_fixed(plan, step.b.buffer.0 as usize);
        let State {
            kernels,
            stream,
            packed,
            ..
        } = state;
        let words = match packed.get(&n).filter(|_| fixed) {
            Some(words) => words.clone(),
            None => {
                let kernel = cached(kernels, (n, 1), || {
                    product::pack_kernel(&self.library, p.dtype)
                })?;
                let words =
                    product::pack(kernel, &self.target.device, stream, p).map_err(failed)?;
                self.launched(1);
                if fixed {
                    packed.insert(n, words.clone());
                }
                words
            }
        };
        let none = Operand {
            data: std::ptr::null(),
            strides: [0; 3],
        };
        let extra = Extra {
            bias: p.input.map_or(std::ptr::null(), |i| i.data),
            residual: none,
        };
        let kernel = cached(kernels, (n, 0), || {
            let made = product::matmul_kernel(&self.library, p, epilogue)?;
            made.ok_or_else(|| crate::level_zero::Error::Launch {
                kernel: "matmul".into(),
                reason: "the device has no matrix instructions".into(),
            })
        })?;
        product::matmul(kernel, stream, p, &words, &extra).map_err(failed)?;
        self.launched(1);
        Ok(true)
    }

    fn has_matrix(&self, dtype: DType) -> bool {
        let device = &self.target.device;
        device.architecture().matrix_sub_group().is_some() && dtype != DType::F32
    }
}
