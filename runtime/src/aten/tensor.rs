//! Owned tensor handles.

use super::{Aten, Handle};
use crate::plan::TensorRef;
use crate::{DType, Error, pool};
use std::ffi::c_void;

const NO_INDEX: i32 = -1;

/// A device of PyTorch's that has a part in plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Memory of the process.
    Cpu,
    /// The n-th `xpu`.
    Xpu(i32),
}

impl Place {
    /// PyTorch's code of the type (`c10::DeviceType`), and the number.
    fn codes(self) -> (i32, i32) {
        match self {
            Place::Cpu => (CPU, 0),
            Place::Xpu(index) => (XPU, index),
        }
    }
}

const CPU: i32 = 0;
const XPU: i32 = 12;

/// A reference to an ATen tensor.
pub struct Tensor {
    aten: &'static Aten,
    handle: Handle,
}

// SAFETY: ATen's tensors are reference-counted with atomics.
unsafe impl Send for Tensor {}
// SAFETY: as above, and no method changes the tensor behind the handle but for its elements.
unsafe impl Sync for Tensor {}

impl Drop for Tensor {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and is not used again.
        unsafe { (self.aten.aoti_torch_delete_tensor_object)(self.handle) };
    }
}

impl Tensor {
    pub(super) fn make(
        aten: &'static Aten,
        op: &str,
        f: impl FnOnce(*mut Handle) -> i32,
    ) -> Result<Tensor, Error> {
        let mut handle = std::ptr::null_mut();
        let status = f(&mut handle);
        aten.check(op, status)?;
        if handle.is_null() {
            // `create_tensor_from_blob_v2` forgets the status of what it calls.
            aten.check(op, 1)?;
        }
        Ok(Tensor { aten, handle })
    }

    /// Takes over a handle.
    ///
    /// # Safety
    /// The handle is valid, and the caller's own.
    pub unsafe fn from_handle(aten: &'static Aten, handle: Handle) -> Tensor {
        Tensor { aten, handle }
    }

    /// The tensor behind a `torch.Tensor` object (borrowed); none before PyTorch 2.14.
    ///
    /// # Safety
    /// `object` is a valid Python object and the GIL is held.
    pub unsafe fn from_python(
        aten: &'static Aten,
        object: *mut c_void,
    ) -> Option<Result<Tensor, Error>> {
        let convert = aten.torch_tensor_from_pyobject?;
        // SAFETY: by contract.
        Some(Self::make(aten, "from_pyobject", |h| unsafe {
            convert(object, h)
        }))
    }

    /// A new reference to a Python object of this tensor; none before PyTorch 2.14. The GIL must
    /// be held.
    pub fn to_python(&self) -> Option<Result<*mut c_void, Error>> {
        let convert = self.aten.torch_tensor_to_pyobject?;
        let mut object = std::ptr::null_mut();
        // SAFETY: a null type asks for `torch.Tensor`.
        let status = unsafe { convert(self.handle, std::ptr::null_mut(), &mut object) };
        let checked = self.aten.check("to_pyobject", status);
        Some(checked.map(|()| object))
    }

    /// An uninitialised CPU tensor.
    pub fn empty(
        aten: &'static Aten,
        sizes: &[i64],
        strides: &[i64],
        scalar_type: i32,
    ) -> Result<Tensor, Error> {
        Self::empty_at(aten, Place::Cpu, sizes, strides, scalar_type)
    }

    /// An uninitialised tensor.
    pub fn empty_at(
        aten: &'static Aten,
        place: Place,
        sizes: &[i64],
        strides: &[i64],
        scalar_type: i32,
    ) -> Result<Tensor, Error> {
        let (n, (device, index)) = (sizes.len() as i64, place.codes());
        // SAFETY: both arrays have `n` elements.
        Self::make(aten, "empty_strided", |h| unsafe {
            (aten.aoti_torch_empty_strided)(
                n,
                sizes.as_ptr(),
                strides.as_ptr(),
                scalar_type,
                device,
                index,
                h,
            )
        })
    }

    /// Whether it is on an `xpu` device.
    pub fn is_xpu(&self) -> Result<bool, Error> {
        let mut code = CPU;
        // SAFETY: the handle is valid.
        let status = unsafe { (self.aten.aoti_torch_get_device_type)(self.handle, &mut code) };
        self.aten.check("device", status)?;
        Ok(code == XPU)
    }

    /// The number of its device.
    fn index(&self) -> Result<i32, Error> {
        let mut index = 0;
        // SAFETY: the handle is valid.
        let status = unsafe { (self.aten.aoti_torch_get_device_index)(self.handle, &mut index) };
        self.aten.check("device", status)?;
        Ok(index)
    }

    /// libtorch's functions.
    pub fn aten(&self) -> &'static Aten {
        self.aten
    }

    /// An uninitialised CPU tensor that a call returns; large ones come from the pool.
    pub fn result(
        aten: &'static Aten,
        sizes: &[i64],
        strides: &[i64],
        scalar_type: i32,
        bytes: usize,
    ) -> Result<Tensor, Error> {
        extern "C" fn free(data: *mut c_void, bytes: *mut c_void) {
            pool::give(data.cast(), bytes as usize);
        }
        let Some((data, size)) = pool::take(bytes) else {
            return Self::empty(aten, sizes, strides, scalar_type);
        };
        let n = sizes.len() as i64;
        // SAFETY: the block holds `bytes`, which the strides address; the deleter gets its size back.
        let tensor = Self::make(aten, "from_blob", |h| unsafe {
            (aten.torch_from_blob)(
                data.cast(),
                n,
                sizes.as_ptr(),
                strides.as_ptr(),
                0,
                scalar_type,
                CPU,
                NO_INDEX,
                h,
                0,
                std::ptr::null(),
                0,
                free,
                size as *mut c_void,
            )
        });
        if tensor.is_err() {
            pool::give(data, size);
        }
        tensor
    }

    /// A tensor over memory that someone else owns.
    ///
    /// # Safety
    /// The memory holds the elements that sizes and strides address, as long as the tensor lives.
    pub unsafe fn over(
        aten: &'static Aten,
        place: Place,
        data: *mut u8,
        t: &TensorRef,
    ) -> Result<Tensor, Error> {
        let (n, (device, index)) = (t.sizes.len() as i64, place.codes());
        // SAFETY: by contract; layout 0 is strided.
        Self::make(aten, "from_blob", |h| unsafe {
            (aten.aoti_torch_create_tensor_from_blob_v2)(
                data.cast(),
                n,
                t.sizes.as_ptr(),
                t.strides.as_ptr(),
                t.offset,
                t.scalar_type,
                device,
                index,
                h,
                0,
                std::ptr::null(),
                0,
            )
        })
    }

    /// A view. `offset` counts from this tensor's first element. Nobody checks that it stays inside of
    /// the memory: plans do.
    pub fn view(&self, sizes: &[i64], strides: &[i64], offset: i64) -> Result<Tensor, Error> {
        let n = sizes.len() as i64;
        // SAFETY: both arrays have `n` elements. ATen adds its own offset to the given one.
        Self::make(self.aten, "view", |h| unsafe {
            (self.aten.aoti_torch__reinterpret_tensor)(
                self.handle,
                n,
                sizes.as_ptr(),
                strides.as_ptr(),
                offset,
                h,
            )
        })
    }

    /// Whether there is a tensor behind the handle; `convolution_backward` returns some without.
    pub fn is_defined(&self) -> Result<bool, Error> {
        let mut defined = false;
        // SAFETY: the handle is valid.
        let status = unsafe { (self.aten.aoti_torch_is_defined)(self.handle, &mut defined) };
        self.aten.check("is_defined", status)?;
        Ok(defined)
    }

    /// Another reference to the same tensor.
    pub fn share(&self) -> Result<Tensor, Error> {
        // SAFETY: the handle is valid.
        Self::make(self.aten, "share", |h| unsafe {
            (self.aten.aoti_torch_new_tensor_handle)(self.handle, h)
        })
    }

    /// The first element.
    pub fn data(&self) -> Result<*mut u8, Error> {
        let mut data = std::ptr::null_mut();
        // SAFETY: the handle is valid.
        let status = unsafe { (self.aten.aoti_torch_get_data_ptr)(self.handle, &mut data) };
        self.aten.check("data_ptr", status)?;
        Ok(data.cast())
    }

    /// PyTorch's ScalarType code.
    pub fn scalar_type(&self) -> Result<i32, Error> {
        let mut code = 0;
        // SAFETY: the handle is valid.
        let status = unsafe { (self.aten.aoti_torch_get_dtype)(self.handle, &mut code) };
        self.aten.check("dtype", status)?;
        Ok(code)
    }

    /// Sizes and strides.
    pub fn layout(&self) -> Result<(&[i64], &[i64]), Error> {
        let (mut n, mut sizes, mut strides) = (0, std::ptr::null(), std::ptr::null());
        // SAFETY: ATen's arrays live as long as the tensor; empty ones may be null.
        unsafe {
            self.aten
                .check("dim", (self.aten.aoti_torch_get_dim)(self.handle, &mut n))?;
            if n == 0 {
                return Ok((&[], &[]));
            }
            self.aten.check(
                "sizes",
                (self.aten.aoti_torch_get_sizes)(self.handle, &mut sizes),
            )?;
            self.aten.check(
                "strides",
                (self.aten.aoti_torch_get_strides)(self.handle, &mut strides),
            )?;
            let n = n as usize;
            Ok((
                std::slice::from_raw_parts(sizes, n),
                std::slice::from_raw_parts(strides, n),
            ))
        }
    }

    /// The same elements in memory of its own, with these strides.
    pub fn copied(&self, strides: &[i64], scalar_type: i32) -> Result<Tensor, Error> {
        let place = match self.is_xpu()? {
            true => Place::Xpu(self.index()?),
            false => Place::Cpu,
        };
        self.copied_to(place, strides, scalar_type)
    }

    /// The same elements in memory of that device, as they lie here.
    pub fn moved(&self, place: Place) -> Result<Tensor, Error> {
        let (_, strides) = self.layout()?;
        self.copied_to(place, strides, self.scalar_type()?)
    }

    fn copied_to(&self, place: Place, strides: &[i64], scalar_type: i32) -> Result<Tensor, Error> {
        let (sizes, own) = self.layout()?;
        if !overlaps(sizes, strides) {
            let copy = Self::empty_at(self.aten, place, sizes, strides, scalar_type)?;
            copy.copy_from(self)?;
            return Ok(copy);
        }
        if own != strides {
            return Err(Error::Plan(format!("strides {own:?}, not {strides:?}")));
        }
        // ATen refuses to write to elements that share memory, so the memory is copied instead.
        let extent = 1 + sizes.iter().zip(own).map(|(n, s)| (n - 1) * s).sum::<i64>();
        let copy = Self::empty_at(self.aten, place, &[extent], &[1], scalar_type)?;
        copy.copy_from(&self.view(&[extent], &[1], 0)?)?;
        copy.view(sizes, strides, 0)
    }

    /// Copies the elements of another tensor of this shape.
    pub fn copy_from(&self, other: &Tensor) -> Result<(), Error> {
        // SAFETY: both handles are valid.
        let status = unsafe { (self.aten.aoti_torch_copy_)(self.handle, other.handle, 0) };
        self.aten.check("copy_", status)
    }

    /// The only element, as an integer: of a truth value 0 or 1.
    pub fn int(&self) -> Result<i64, Error> {
        // SAFETY: an i64 of our own.
        Ok(unsafe { self.scalar(DType::I64)?.data()?.cast::<i64>().read() })
    }

    /// The only element, as a float.
    pub fn float(&self) -> Result<f64, Error> {
        // SAFETY: an f64 of our own.
        Ok(unsafe { self.scalar(DType::F64)?.data()?.cast::<f64>().read() })
    }

    /// The only element in another type, without dimensions.
    fn scalar(&self, dtype: DType) -> Result<Tensor, Error> {
        let (sizes, _) = self.layout()?;
        if sizes.iter().any(|&n| n != 1) {
            return Err(Error::Plan(format!("one element expected, not {sizes:?}")));
        }
        let copy = Self::empty(self.aten, &[], &[], dtype.torch_code())?;
        copy.copy_from(&self.view(&[], &[], 0)?)?;
        Ok(copy)
    }

    /// The handle, given away.
    pub fn into_handle(self) -> Handle {
        std::mem::ManuallyDrop::new(self).handle
    }

    /// The handle, borrowed.
    pub fn handle(&self) -> Handle {
        self.handle
    }
}

/// Whether elements share memory (or may: strides that interleave count too).
fn overlaps(sizes: &[i64], strides: &[i64]) -> bool {
    let dims = strides.iter().copied().zip(sizes.iter().copied());
    let mut dims: Vec<(i64, i64)> = dims.filter(|d| d.1 > 1).collect();
    dims.sort_unstable();
    let mut end = 0;
    !sizes.contains(&0)
        && dims.iter().any(|&(stride, n)| {
            let inside = stride <= end;
            end += (n - 1) * stride;
            inside
        })
}
