//! SPIR-V for kernels, to run on GPUs by OpenCL's rules.
//!
//! Iterations of the outermost loop are independent. Where their code has no vector loop of its own, one work item
//! runs each; else one group runs each: its items take turns in the vector loops, do everything else alike, and meet in local
//! memory for what loops carry and for scratch. Only f16, f32 and integers are assumed; whoever launches asks the device
//! about f64.

mod combine;
mod function;
mod loops;
mod memory;
mod ops;
mod types;

use crate::kernel::{Kernel, Loop, Stmt};
use rspirv::binary::Assemble;
use thiserror::Error;

/// Why a kernel does not run on a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Scratch rows that do not fit into local memory.
    #[error("{0} bytes of scratch; a group has 48 KiB of local memory")]
    Scratch(u64),
    /// More groups than a launch has.
    #[error("{0} iterations are too many for a launch")]
    Extent(u64),
    /// An instruction without a form in OpenCL.
    #[error("no GPU instruction for {0}")]
    Inst(String),
    /// The writer of SPIR-V: a fault of ours.
    #[error("SPIR-V could not be written: {0}")]
    Writer(String),
}

impl From<rspirv::dr::Error> for Refused {
    fn from(e: rspirv::dr::Error) -> Self {
        Refused::Writer(e.to_string())
    }
}

/// A kernel for GPUs. Its arguments are the kernel's parameters, as pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The module, of SPIR-V 1.1, with the entry point [`ENTRY`].
    pub spirv: Vec<u8>,
    /// Items of a group.
    pub group: u32,
    /// Groups of a launch.
    pub groups: u32,
    /// Whether the device needs f64.
    pub f64: bool,
}

/// Name of the entry point.
pub const ENTRY: &str = "fused";

/// Items of a group whose items each run an iteration.
const FLAT: u32 = 64;

/// How iterations of the outermost loop are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// One item runs each.
    Items,
    /// One group of so many items runs each.
    Groups(u32),
}

/// The longest vector loop below a loop.
fn longest_vector(kernel: &Kernel, l: &Loop) -> Option<u64> {
    let inner = l.body.iter().filter_map(|s| match s {
        Stmt::Loop(l) => Some(l),
        _ => None,
    });
    let each = inner.map(|l| {
        let own = l.vector.then(|| kernel.vars[l.var].extent);
        own.max(longest_vector(kernel, l))
    });
    each.max().flatten()
}

fn spread(kernel: &Kernel) -> Spread {
    match longest_vector(kernel, &kernel.root) {
        Some(extent) if !kernel.root.vector => {
            Spread::Groups((extent / 4).next_power_of_two().clamp(16, 256) as u32)
        }
        None if !kernel.scratch.is_empty() => Spread::Groups(1),
        _ => Spread::Items,
    }
}

/// Compiles a kernel that is well-formed.
pub fn compile(kernel: &Kernel) -> Result<Program, Refused> {
    let kernel = crate::math::expand(kernel);
    let (spread, extent) = (spread(&kernel), kernel.vars[kernel.root.var].extent);
    let (group, groups) = match spread {
        Spread::Items => (FLAT, extent.div_ceil(FLAT.into())),
        Spread::Groups(n) => (n, extent),
    };
    let groups = u32::try_from(groups).map_err(|_| Refused::Extent(extent))?;
    let (module, f64) = function::write(&kernel, spread, group)?;
    let words = module.assemble();
    Ok(Program {
        spirv: words.iter().flat_map(|w| w.to_le_bytes()).collect(),
        group,
        groups,
        f64,
    })
}
