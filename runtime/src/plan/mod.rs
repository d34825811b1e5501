//! The immutable plan of one compiled graph, as `backend` builds it and `execute` runs it.

mod arena;
mod attention;
mod bag;
mod batch;
mod bytes;
mod check;
mod convolution;
pub mod device;
mod either;
mod execute;
mod joined;
mod kept;
mod layout;
mod onednn;
mod packed;
mod product;
mod profile;
mod sections;
mod shared;
mod unread;

pub use attention::AttentionStep;
pub use bag::{BagStep, Rule as BagRule};
pub use batch::BatchStep;
pub use bytes::{GroupFactors, OfBytes};
pub use convolution::ConvolutionStep;
pub use either::Either;
pub use execute::{Argument, Executable, Host, Value};
pub use onednn::{NotOnednn, OnednnStep};
pub use product::ProductStep;
pub use shared::Shared;

use crate::aten::dispatch::Operator;
use crate::attention::Rule;
use crate::conv::{Operation, Order, Shape};
use std::sync::Arc;

/// A block of memory of the plan; an index into [`Plan::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

/// Where a buffer's memory comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub enum Buffer {
    /// The n-th argument of the call, which must be a tensor: its data pointer.
    Input(u32),
    /// Bytes `offset..offset+bytes` of the graph's arena; 64-byte aligned.
    Arena { offset: u64, bytes: u64 },
    /// A new tensor, handed to the caller as (part of) a result.
    Output {
        sizes: Vec<i64>,
        strides: Vec<i64>,
        scalar_type: i32,
        bytes: u64,
    },
    /// A tensor that an external call returns; its memory is ATen's.
    External,
    /// Bytes fixed at compile time, 64-byte aligned at run time.
    Constant(Arc<[u8]>),
    /// Bytes that [`Plan::once`] writes, and later calls find; 64-byte aligned.
    Kept { bytes: u64 },
}

/// A strided view of a buffer. Sizes and strides in elements; `offset` in elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct TensorRef {
    pub buffer: BufferId,
    /// PyTorch's ScalarType code: external values may have types no kernel handles.
    pub scalar_type: i32,
    pub sizes: Vec<i64>,
    pub strides: Vec<i64>,
    pub offset: i64,
}

impl TensorRef {
    /// The strides of a tensor of these sizes without gaps.
    pub fn row_major(&self) -> Vec<i64> {
        let mut strides = vec![1; self.sizes.len()];
        for k in (1..strides.len()).rev() {
            strides[k - 1] = strides[k] * self.sizes[k].max(1);
        }
        strides
    }

    /// Whether the elements lie in row-major order without gaps.
    pub fn is_row_major(&self) -> bool {
        let expected = self.row_major();
        let mut dims = self.sizes.iter().zip(self.strides.iter().zip(&expected));
        dims.all(|(&n, (a, b))| n == 1 || a == b)
    }
}

/// Entry point of compiled code: `(args, begin, end)`, see `ipex_jit::kernel::Kernel`.
pub type KernelFn = unsafe extern "C" fn(args: *const *mut u8, begin: i64, end: i64);

/// A compiled kernel; owns its machine code through `code`.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct KernelCode {
    pub entry: KernelFn,
    /// Keeps the executable pages alive.
    pub code: Arc<dyn std::any::Any + Send + Sync>,
    /// The same for a GPU, or why there is none.
    pub device: Result<Arc<device::DeviceKernel>, Arc<str>>,
}

/// An argument of an external call that the runtime passes; others are part of the route.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the schema's types")]
pub enum CallArg {
    Tensor(TensorRef),
    Float(f64),
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum Scalar {
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// A Python callable that the shim passed: `f(tensors, numbers) -> tensor | sequence`.
#[derive(Clone, Debug, PartialEq)]
pub struct Callable {
    /// Its place among the graph's.
    pub index: u32,
    /// Values of the call's symbolic numbers.
    pub numbers: Vec<Scalar>,
}

/// How an external call is carried out.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub enum Route {
    /// A C function of libtorch's AOTI shim that writes into the given outputs
    /// (`aoti_torch_cpu_mm_out`, `_bmm_out`, `_addmm_out`, `_baddbmm_out`, `__int_mm_out`).
    OutFunction { symbol: &'static str },
    /// A matrix times several that never change, by the kernels of [`crate::gemm`]; the tensors are a row that is added
    /// (`bias`), the matrix, and the others, and the result holds the products side by side.
    Joined { bias: bool },
    /// A matrix by one of bytes, by the kernels of [`crate::gemm`]: floats by bytes are summed in f32, bytes by bytes in i32.
    Bytes(OfBytes),
    /// A convolution by the kernels of [`crate::conv`]; the tensors are images, weight and perhaps
    /// bias (maxima have images only), and the result is row-major memory of the plan.
    Convolution(Order, Operation, Shape),
    /// Attention by the kernels of [`crate::attention`]; the tensors are queries, keys, values and perhaps
    /// a mask, all of four dimensions, and the results are memory of the plan.
    Attention(Rule),
    /// Bags of embeddings by the kernels of [`crate::bag`]; the tensors are table, indices, offsets and perhaps
    /// weights. The callable is called where indices or offsets are wrong.
    Bag(BagRule, Callable),
    /// PyTorch's dispatcher. If it fails, the callable is called: it raises what eager raises.
    Dispatcher {
        operator: Arc<Operator>,
        callable: Callable,
    },
    /// A callable of the shim's.
    Python(Callable),
}

impl Route {
    /// Whether the call returns tensors of its own, rather than to write into given ones.
    pub fn allocates(&self) -> bool {
        !matches!(
            self,
            Route::OutFunction { .. }
                | Route::Joined { .. }
                | Route::Bytes(_)
                | Route::Convolution(..)
                | Route::Attention(_)
        )
    }
}

/// A call into ATen or Python.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct ExternalCall {
    /// For messages: `aten.mm.default`.
    pub name: String,
    pub route: Route,
    /// Whether the call may use its tensors after it has returned: a collective does.
    pub keeps: bool,
    pub args: Vec<CallArg>,
    /// Results in order; `None` where unused. With `OutFunction` these are written, else each
    /// is the whole of an `External` buffer.
    pub outputs: Vec<Option<TensorRef>>,
}

/// A kernel that reads a result plane by plane.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct Then {
    /// For people: the operators in it.
    pub name: Arc<str>,
    pub code: KernelCode,
    /// Buffer and byte offset for each parameter.
    pub args: Vec<(BufferId, i64)>,
    /// So many planes of the result are read by ...
    pub planes: i64,
    /// ... so many iterations of the outermost loop, and by no others.
    pub iterations: i64,
    /// Iterations under which a split over threads does not pay.
    pub grain: i64,
    /// The same as an epilogue, which is how a GPU computes it; a plan for the CPU has none.
    pub tail: Option<device::Tail>,
}

impl Then {
    /// Whether each iteration reads one element of a result with `columns`, so that any part of it is a range of them for each row.
    pub fn is_elementwise(&self, columns: usize) -> bool {
        self.planes == 1 && self.iterations == columns as i64
    }
}

/// What an index may be, and which error it is if it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IndexRule {
    /// `aten.index_select`, `aten.embedding`
    Select,
    /// `aten.index`: negative ones count from the end.
    Wrapping,
    /// `aten.gather`
    Gather,
    /// Classes of `aten.nll_loss_forward`
    Class,
}

/// One step.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub enum Step {
    Kernel {
        /// For people: the operators in it.
        name: Arc<str>,
        code: KernelCode,
        /// Buffer and byte offset for each parameter.
        args: Vec<(BufferId, i64)>,
        /// Iterations of the outermost loop.
        extent: i64,
        /// Iterations under which a split over threads does not pay.
        grain: i64,
    },
    Batch(Box<BatchStep>),
    External(Box<ExternalCall>),
    Convolution(Box<ConvolutionStep>),
    Onednn(Box<OnednnStep>),
    Product(Box<ProductStep>),
    Attention(Box<AttentionStep>),
    Either(Box<Either>),
    Bag(Box<BagStep>),
    /// Every element of an i64 tensor must lie in `0..size`, the size of the indexed dimension.
    CheckIndex {
        index: TensorRef,
        dim: usize,
        size: i64,
        rule: IndexRule,
    },
    /// An external buffer's tensor is not needed any more.
    Release(BufferId),
}

/// One result of the graph.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the kinds of results")]
pub enum Output {
    Tensor(TensorRef),
    /// A tensor of its own over memory that other results or arguments may show.
    View(TensorRef),
    /// All of an output or external buffer that no other result shows.
    Whole(BufferId),
    /// The n-th argument, returned as it is.
    Input(u32),
    None,
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// A compiled graph.
#[derive(Clone, Default)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct Plan {
    /// Number of call arguments (tensors and others, which are ignored).
    pub num_inputs: u32,
    pub buffers: Vec<Buffer>,
    pub arena_bytes: u64,
    /// Weights that are packed once, by [`ProductStep::pack`] and [`ConvolutionStep::pack`].
    pub packs: u32,
    /// Steps with a choice of two ways.
    pub eithers: u32,
    /// Steps that the first call runs, before the others: what follows from frozen arguments alone.
    pub once: Vec<Step>,
    /// The kernels of `once`, each with its arguments: plans with the same text and kept buffers of the same sizes compute
    /// the same there.
    pub once_as_text: Arc<str>,
    pub steps: Vec<Step>,
    pub outputs: Vec<Output>,
}
