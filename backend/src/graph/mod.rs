//! The graph IR: SSA over tensors. `ops` translates every ATen node into these few primitives, or
//! into an external call; `fusion` and `lower` know nothing else.

pub mod build;
pub mod builder;
pub mod layout;
pub mod pixels;
mod print;
pub mod strided;
pub mod verify;

pub use verify::verify;

use crate::passes::attention::NotAttention;
use crate::passes::bytes::NotBytes;
use crate::passes::join::NotJoined;
use cranelift_entity::{EntitySet, PrimaryMap, entity_impl};
use ipex_jit::kernel::{BinaryOp, CmpOp, Const, ReduceOp, Type, UnaryOp};
use ipex_runtime::DType;
use ipex_runtime::plan::{BufferId, CallArg, IndexRule, Route, TensorRef};

/// A tensor value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(u32);
entity_impl!(ValueId, "t");

/// A node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);
entity_impl!(NodeId, "n");

/// Shape, dtype and the strides the value has if it is put in memory (dense; what eager gives
/// where eager has this value, contiguous for values that only decompositions have).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Meta {
    /// PyTorch's ScalarType code.
    pub scalar_type: i32,
    /// Sizes, static.
    pub sizes: Vec<i64>,
    /// Strides in elements.
    pub strides: Vec<i64>,
}

/// How the result's index selects the operand's element. Views move no data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// Same elements in row-major order, other shape.
    Reshape,
    /// `out.dim[k] = in.dim[perm[k]]`
    Permute(Vec<usize>),
    /// Per operand dim: result index `i` reads `start + step*i` (step may be negative: flip).
    Slice {
        /** first element */
        start: Vec<i64>,
        /** stride */
        step: Vec<i64>,
    },
    /// Broadcasts dims of size 1 (same rank; leading dims are added by `Reshape` first).
    Expand,
}

/// What a conversion to a narrow dtype does to numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrow {
    /// Nothing: a copy.
    No,
    /// Rounds an operator's result, where that leaves a kernel; integers wrap.
    Result,
    /// Rounds or wraps: a cast.
    Cast,
}

/// What a node computes. Elementwise operands have exactly the result's sizes (broadcast by
/// `View`) and the compute type that the op wants: every conversion is an explicit `Convert`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub enum Op {
    /// The n-th argument of the call.
    Input(u32),
    /// A constant of any shape.
    Full(Const),
    /// `start + step * index[dim]` as I64.
    Iota {
        dim: usize,
        start: i64,
        step: i64,
    },
    Unary(UnaryOp),
    Binary(BinaryOp),
    /// a*b+c
    Fma,
    Compare(CmpOp),
    /// operands: condition, on true, on false
    Select,
    /// To the compute type of the result's dtype.
    Convert {
        narrow: Narrow,
    },
    View(View),
    /// Over `dims` (sorted), which disappear from the result. The result's dtype is computed in
    /// its compute type.
    Reduce {
        op: ReduceOp,
        dims: Vec<usize>,
    },
    /// Flat row-major position (I64) within `dims` of the first extremum. `op`: Min or Max.
    ArgReduce {
        op: ReduceOp,
        dims: Vec<usize>,
    },
    /// The operand combined along `dim` up to each element, that one included, in order.
    Scan {
        op: ReduceOp,
        dim: usize,
    },
    /// operands: source, an index (i64 compute) for each of `dims` (sorted), all of one shape.
    /// `out[.., i.., ..] = src[.., index[i..], ..]`: the dims of the indices replace `dims`, or stand in front
    /// if those are not neighbours ([`index_place`]). Out of range is an error raised by a check before the group
    /// runs. (index_select, embedding, indexing by tensors.)
    IndexSelect {
        dims: Vec<usize>,
        rule: IndexRule,
    },
    /// operands: source, index of the result's rank: `torch.gather`.
    Gather {
        dim: usize,
        rule: IndexRule,
    },
    /// Operands side by side along `dim`.
    Cat {
        dim: usize,
    },
    /// Constant padding: `before[d]` elements in front of, `after[d]` behind each dim; >= 0.
    Pad {
        before: Vec<i64>,
        after: Vec<i64>,
        value: Const,
    },
    /// Operands: a value, and the argument of the graph whose memory it is written to, once every other node has read that.
    /// The result is the argument as it is then.
    Assign,
    /// A call; operands are exactly the tensors in `args`, in order.
    External {
        name: String,
        route: Route,
        args: Vec<CallArg>,
    },
}

/// A node; all but `External` have one result.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// Tensor operands. In an External's `args`, `CallArg::Tensor` refs hold `BufferId(k)`,
    /// meaning operand k; `plan` replaces them.
    pub operands: Vec<ValueId>,
    /// Results.
    pub results: Vec<ValueId>,
    /// Index into [`Graph::origins`].
    pub origin: u32,
}

/// Where a node comes from, for messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The ATen node's name and target, e.g. `add_3 = aten.add.Tensor`.
    pub node: String,
    /// The person's source line, if the document has it.
    pub source: Option<String>,
}

/// A result of the graph.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the kinds of results")]
pub enum GraphOutput {
    Value(ValueId),
    None,
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// A graph in topological order.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Nodes, in an order in which they can run.
    pub nodes: PrimaryMap<NodeId, Node>,
    /// Metadata of values.
    pub values: PrimaryMap<ValueId, Meta>,
    /// The node that defines each value.
    pub producers: PrimaryMap<ValueId, NodeId>,
    /// Number of call arguments.
    pub num_inputs: u32,
    /// Results in order.
    pub outputs: Vec<GraphOutput>,
    /// Free nodes (see [`Op::is_free`]) whose result must nevertheless be put in memory.
    pub forced: EntitySet<NodeId>,
    /// Products of softmax's weights that are no part of an attention, by their origin, and why.
    pub not_attention: Vec<(u32, NotAttention)>,
    /// The origins of products that became one.
    pub joined: Vec<Vec<u32>>,
    /// Products that share their left side with another and are computed alone, by their origin, and why.
    pub not_joined: Vec<(u32, NotJoined)>,
    /// The origins of products that read dequantised matrices as bytes.
    pub of_bytes: Vec<u32>,
    /// Products of dequantised matrices that read them as floats, by their origin, and why.
    pub not_bytes: Vec<(u32, NotBytes)>,
    /// Origins; entry 0 is the unknown one.
    pub origins: Vec<Origin>,
    /// Whether it is to run on a GPU: then there are kernels that a CPU lacks.
    pub gpu: bool,
    /// Whether every operator rounds its result to bf16 or f16, as eager's do, also what stays in a kernel.
    pub rounds_each: bool,
    /// Columns of a block of weights of four bits; none if their layout is not known.
    pub nibble_columns: Option<usize>,
}

impl Meta {
    /// The element type, if generated code can handle it.
    pub fn dtype(&self) -> Option<DType> {
        DType::from_torch(self.scalar_type)
    }

    /// The compute type, if generated code can handle it.
    pub fn ty(&self) -> Option<Type> {
        self.dtype().map(Type::of)
    }

    /// Whether the elements fill their memory without gaps or overlaps.
    pub fn is_dense(&self) -> bool {
        let dims = self.strides.iter().copied().zip(self.sizes.iter().copied());
        let mut dims: Vec<(i64, i64)> = dims.filter(|d| d.1 != 1).collect();
        dims.sort_unstable();
        let mut expected = 1;
        dims.iter().all(|&(stride, size)| {
            let fits = stride == expected;
            expected *= size;
            fits
        })
    }

    /// Whether two indices may mean one element: a dim's stride does not reach over the dims inside of it.
    pub fn overlaps(&self) -> bool {
        let dims = self.strides.iter().copied().zip(self.sizes.iter().copied());
        let mut dims: Vec<(i64, i64)> = dims.filter(|d| d.1 > 1).collect();
        dims.sort_unstable();
        let mut reached = 0;
        dims.iter().any(|&(stride, size)| {
            let inside = stride <= reached;
            reached += stride * (size - 1);
            inside
        })
    }

    /// Number of elements.
    pub fn numel(&self) -> i64 {
        self.sizes.iter().product()
    }
}

impl Graph {
    /// Adds a node; its results, one for each of `metas`.
    pub fn push_all(
        &mut self,
        op: Op,
        operands: Vec<ValueId>,
        metas: impl IntoIterator<Item = Meta>,
        origin: u32,
    ) -> Vec<ValueId> {
        let id = self.nodes.next_key();
        let results = metas.into_iter().map(|meta| {
            self.producers.push(id);
            self.values.push(meta)
        });
        let results: Vec<ValueId> = results.collect();
        self.nodes.push(Node {
            op,
            operands,
            results: results.clone(),
            origin,
        });
        results
    }

    /// Adds a node with one result.
    pub fn push(&mut self, op: Op, operands: Vec<ValueId>, meta: Meta, origin: u32) -> ValueId {
        self.push_all(op, operands, [meta], origin)[0]
    }

    /// The values that the caller gets.
    pub fn returned(&self) -> EntitySet<ValueId> {
        let mut found = EntitySet::new();
        found.extend(self.outputs.iter().filter_map(|output| match output {
            GraphOutput::Value(v) => Some(*v),
            _ => None,
        }));
        found
    }

    /// The node that defines `value`.
    pub fn producer(&self, value: ValueId) -> &Node {
        &self.nodes[self.producers[value]]
    }

    /// The ATen node that a node comes from.
    pub fn origin(&self, id: NodeId) -> &str {
        &self.origins[self.nodes[id].origin as usize].node
    }

    /// Whether a node is computed again wherever its result is needed.
    pub fn is_free(&self, id: NodeId) -> bool {
        self.nodes[id].op.is_free() && !self.forced.contains(id)
    }

    /// The arguments of a call of these tensors, as [`Op::External`] holds them.
    pub fn tensor_arguments(&self, operands: &[ValueId]) -> Vec<CallArg> {
        let tensor = |(n, &v): (usize, &ValueId)| {
            let meta = &self.values[v];
            CallArg::Tensor(TensorRef {
                buffer: BufferId(n as u32),
                scalar_type: meta.scalar_type,
                sizes: meta.sizes.clone(),
                strides: meta.strides.clone(),
                offset: 0,
            })
        };
        operands.iter().enumerate().map(tensor).collect()
    }

    /// The value in memory behind a chain of views.
    pub fn owner(&self, mut v: ValueId) -> ValueId {
        while let (id, Op::View(_)) = (self.producers[v], &self.producer(v).op)
            && self.is_free(id)
        {
            v = self.nodes[id].operands[0];
        }
        v
    }
}

/// Where in the result of [`Op::IndexSelect`] the dims of its indices begin.
pub fn index_place(dims: &[usize]) -> usize {
    let neighbours = dims.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    if neighbours { dims[0] } else { 0 }
}

impl Op {
    /// Whether consumers compute it wherever they need it: it costs nothing.
    pub fn is_free(&self) -> bool {
        matches!(self, Op::View(_) | Op::Full(_) | Op::Iota { .. })
    }

    /// Whether its result, if it is put in memory, is alone there.
    pub fn owns_memory(&self) -> bool {
        let elsewhere = matches!(self, Op::Input(_) | Op::Assign | Op::External { .. });
        !elsewhere && !matches!(self, Op::View(_))
    }

    /// Whether it is a call that may draw random numbers, or do what else only its order shows.
    pub fn may_draw(&self) -> bool {
        let Op::External { route, .. } = self else {
            return false;
        };
        matches!(route, Route::Python(_) | Route::Dispatcher { .. })
    }

    /// Whether its operands from the second on are indices, which are checked in memory before they are used.
    pub fn gathers(&self) -> bool {
        matches!(self, Op::IndexSelect { .. } | Op::Gather { .. })
    }

    /// Whether it changes one of its operands: `aten.copy_.default`.
    pub fn mutates(&self) -> bool {
        matches!(self, Op::Assign) || self.calls_mutation()
    }

    /// Whether it is a call that changes one of its operands.
    pub fn calls_mutation(&self) -> bool {
        let Op::External { name, .. } = self else {
            return false;
        };
        let op = name.split('.').nth(1).unwrap_or(name);
        op.ends_with('_') && !op.ends_with("__")
    }
}
