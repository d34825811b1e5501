//! What one call has on the device; recycled by the next.

use super::super::{Buffer, BufferId, CallArg, Plan, Step, TensorRef};
use super::residence::Place;
use super::{OnDevice, Work, failed};
use crate::aten::Tensor;
use crate::level_zero::pack::Packed;
use crate::level_zero::product::Rows;
use crate::level_zero::{self, Argument, Kernel, Stream};
use crate::{DType, Error};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::Ordering;

/// The device's side of a call.
pub struct State {
    pub(in crate::plan) stream: Stream,
    /// Kernels by step, and within it: one thread at a time may set their arguments.
    pub(in crate::plan) kernels: HashMap<(usize, u8), Kernel>,
    /// Second and first matrices that never change, by step.
    pub(in crate::plan) packed: HashMap<usize, Packed>,
    pub(in crate::plan) rows: HashMap<usize, Rows>,
    pub(in crate::plan) arena: Option<level_zero::Buffer>,
    /// Memory of buffers outside of the arena.
    pub(in crate::plan) buffers: Vec<Option<level_zero::Buffer>>,
    /// Tensors of PyTorch's device that are the memory of buffers.
    pub(in crate::plan) tensors: Vec<Option<Tensor>>,
    pub(in crate::plan) places: Vec<Place>,
    /// Size of each buffer in this call.
    pub(in crate::plan) bytes: Vec<usize>,
}

/// Bytes from the first to the last element.
fn span(sizes: &[i64], strides: &[i64], item: usize) -> usize {
    if sizes.contains(&0) {
        return 0;
    }
    let last: i64 = sizes.iter().zip(strides).map(|(n, s)| (n - 1) * s).sum();
    (last as usize + 1) * item
}

impl OnDevice {
    /// A state for calls.
    pub(in crate::plan) fn new_state(&self, plan: &Plan) -> Result<State, Error> {
        let n = plan.buffers.len();
        Ok(State {
            stream: self.target.device.stream().map_err(failed)?,
            kernels: HashMap::new(),
            packed: HashMap::new(),
            rows: HashMap::new(),
            arena: None,
            buffers: vec![None; n],
            tensors: std::iter::repeat_with(|| None).take(n).collect(),
            places: vec![Place::Nowhere; n],
            bytes: vec![0; n],
        })
    }

    /// Prepares a call: arguments, constants and what is kept are on the CPU.
    pub(in crate::plan) fn begin(&self, plan: &Plan, state: &mut State) {
        self.counters.calls.fetch_add(1, Ordering::Relaxed);
        for (k, buffer) in plan.buffers.iter().enumerate() {
            state.buffers[k] = None;
            state.tensors[k] = None;
            state.places[k] = match buffer {
                Buffer::Input(_) | Buffer::Constant(_) | Buffer::Kept { .. } => Place::Host,
                _ => Place::Nowhere,
            };
            state.bytes[k] = match buffer {
                Buffer::Arena { bytes, .. }
                | Buffer::Output { bytes, .. }
                | Buffer::Kept { bytes } => *bytes as usize,
                Buffer::Constant(bytes) => bytes.len(),
                Buffer::Input(_) | Buffer::External => 0,
            };
        }
    }

    /// Ends a call: the memory of arguments and results is for others again.
    pub(in crate::plan) fn end(&self, state: &mut State) {
        state.buffers.fill(None);
        state.tensors.fill_with(|| None);
    }

    /// Runs a step on the device; false if the CPU has to. `data` holds the CPU's first byte of each buffer.
    ///
    /// # Safety
    /// The buffers hold what the step addresses.
    pub(in crate::plan) unsafe fn step(
        &self,
        plan: &Plan,
        n: usize,
        state: &mut State,
        data: &[*mut u8],
    ) -> Result<bool, Error> {
        let step = &plan.steps[n];
        match (&self.work[n], step) {
            (Work::Nothing, _) => return Ok(false),
            (Work::Fused(module), Step::Kernel { code, args, .. }) => {
                let Ok(kernel) = &code.device else {
                    return Err(Error::Plan("a kernel without SPIR-V".into()));
                };
                let mut arguments = Vec::with_capacity(args.len());
                for (&(buffer, at), (&reads, &writes)) in
                    args.iter().zip(kernel.reads.iter().zip(&kernel.writes))
                {
                    let host = data[buffer.0 as usize];
                    let address = if writes {
                        self.write(plan, state, buffer, host)?
                    } else {
                        self.read(plan, state, buffer, host)?
                    };
                    debug_assert!(reads || writes);
                    arguments.push(Argument::Address(address.wrapping_offset(at as isize)));
                }
                let State {
                    kernels, stream, ..
                } = state;
                let own = cached(kernels, (n, 0), || module.kernel(kernel.entry))?;
                // SAFETY: by contract.
                unsafe { stream.launch(own, [kernel.groups, 1, 1], &arguments, None) }
                    .map_err(failed)?;
                self.launched(1);
            }
            (Work::Product(p), _) => self.product(plan, n, p, state, data)?,
            (Work::Attention, Step::Attention(a)) => self.attention(plan, n, a, state, data)?,
            (Work::Window, Step::Convolution(c)) => self.window(plan, n, c, state, data)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Counts launches.
    pub(in crate::plan) fn launched(&self, n: u64) {
        self.counters.launches.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts products that read 2D blocks.
    pub(in crate::plan) fn read_blocks(&self, did: bool) {
        self.counters
            .blocks
            .fetch_add(did.into(), Ordering::Relaxed);
    }

    /// Notes what a step has written on the CPU.
    pub(in crate::plan) fn written(&self, step: &Step, state: &mut State) {
        for id in touched(step).1 {
            state.places[id.0 as usize] = Place::Host;
        }
        // Those that the step has made itself.
        let made: Vec<&TensorRef> = match step {
            Step::External(call) => call.outputs.iter().flatten().collect(),
            Step::Bag(b) => vec![&b.out],
            _ => Vec::new(),
        };
        for out in made {
            state.bytes[out.buffer.0 as usize] = span(&out.sizes, &out.strides, item(out));
        }
    }
}

/// The buffers that a step of the CPU reads or writes in part, and those that it writes.
pub(in crate::plan) fn touched(step: &Step) -> (Vec<BufferId>, Vec<BufferId>) {
    let of = |t: &TensorRef| t.buffer;
    match step {
        Step::Kernel { args, code, .. } => {
            let all: Vec<BufferId> = args.iter().map(|a| a.0).collect();
            let written = match &code.device {
                Ok(k) => all
                    .iter()
                    .zip(&k.writes)
                    .filter(|(_, w)| **w)
                    .map(|(b, _)| *b)
                    .collect(),
                // Unknown: all of them.
                Err(_) => all.clone(),
            };
            (all, written)
        }
        // What it writes is unknown: all of them.
        Step::Batch(batch) => {
            let all: Vec<BufferId> = batch.args.iter().map(|a| a.0).collect();
            (all.clone(), all)
        }
        Step::External(call) => {
            let tensors = call.args.iter().filter_map(|a| match a {
                CallArg::Tensor(t) => Some(of(t)),
                CallArg::Float(_) => None,
            });
            let outputs: Vec<BufferId> = call.outputs.iter().flatten().map(of).collect();
            (tensors.chain(outputs.iter().copied()).collect(), outputs)
        }
        Step::Convolution(c) => {
            let mut all = vec![of(&c.image), c.result];
            all.extend(c.weight.iter().chain(&c.bias).map(of));
            all.extend(c.then.iter().flat_map(|t| t.args.iter().map(|a| a.0)));
            (all, vec![c.result])
        }
        Step::Onednn(c) => {
            let mut all = vec![of(&c.image), of(&c.weight), of(&c.out)];
            all.extend(c.bias.iter().map(of));
            (all, vec![of(&c.out)])
        }
        Step::Product(p) => {
            let mut all = vec![of(&p.a), of(&p.b), of(&p.out)];
            all.extend(p.beside.iter().map(of));
            all.extend(
                p.groups
                    .iter()
                    .flat_map(|g| std::iter::once(&g.scales).chain(&g.zeros))
                    .map(of),
            );
            all.extend(p.input.iter().map(of));
            all.extend(p.then.iter().flat_map(|t| t.args.iter().map(|a| a.0)));
            (all, vec![of(&p.out)])
        }
        Step::Attention(a) => {
            let mut all = vec![of(&a.q), of(&a.k), of(&a.v), of(&a.out)];
            all.extend(a.mask.iter().chain(&a.lse).map(of));
            let mut written = vec![of(&a.out)];
            written.extend(a.lse.iter().map(of));
            (all, written)
        }
        Step::Bag(b) => {
            let mut all = vec![of(&b.table), of(&b.indices), of(&b.offsets)];
            all.extend(b.weights.iter().map(of));
            (all, vec![of(&b.out)])
        }
        Step::Either(either) => {
            let ways = std::iter::once(&either.own).chain(&either.aten);
            let (all, written): (Vec<_>, Vec<_>) = ways.map(touched).unzip();
            (all.concat(), written.concat())
        }
        Step::CheckIndex { index, .. } => (vec![of(index)], Vec::new()),
        Step::Release(_) => (Vec::new(), Vec::new()),
    }
}

/// The kernel of this key, made when it is first asked for.
pub fn cached(
    kernels: &mut HashMap<(usize, u8), Kernel>,
    key: (usize, u8),
    make: impl FnOnce() -> Result<Kernel, level_zero::Error>,
) -> Result<&mut Kernel, Error> {
    Ok(match kernels.entry(key) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(free) => free.insert(make().map_err(failed)?),
    })
}

/// Bytes from a tensor's first to its last element; 0 for types that no kernel has.
pub fn bytes_of(tensor: &Tensor) -> Result<usize, Error> {
    let (sizes, strides) = tensor.layout()?;
    let item = DType::from_torch(tensor.scalar_type()?).map_or(0, DType::size);
    Ok(span(sizes, strides, item))
}

/// Bytes of a tensor's elements.
fn item(t: &TensorRef) -> usize {
    DType::from_torch(t.scalar_type).map_or(0, DType::size)
}
