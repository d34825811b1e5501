//! The stages of a compilation as text.

use crate::disassemble::disassemble;
use clap::ValueEnum;
use ipex_backend::compile;
use ipex_backend::fusion::cluster::{Clusters, Group};
use ipex_backend::graph::Graph;
use ipex_backend::lower::kernel::Lowered;
use ipex_backend::plan::post_ops::post_op;
use ipex_backend::protocol::{self, File};
use ipex_jit::cranelift;
use ipex_jit::wide::{self, Target};
use ipex_runtime::plan::device::left_to_cpu;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// What can be printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// The graph after its passes
    Graph,
    /// Fusion groups, and why they are not larger
    Groups,
    /// The kernels of each group
    Kernels,
    /// Machine code of the generator that compiles each kernel
    Code,
    /// What a GPU leaves to the CPU, and why
    Gpu,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 5] = [
        Stage::Graph,
        Stage::Groups,
        Stage::Kernels,
        Stage::Code,
        Stage::Gpu,
    ];
}

/// Compiles the graph in a file and prints these stages.
pub fn explain(bytes: &[u8], stages: &[Stage]) -> Result<String, String> {
    let file = protocol::read(bytes).map_err(|e| e.to_string())?;
    let (graph, clusters) =
        compile::fuse(&file.document, &file.symbols).map_err(|e| e.to_string())?;
    let mut text = String::new();
    write(&mut text, &file, &graph, &clusters, stages).map_err(|e| e.to_string())?;
    if stages.contains(&Stage::Gpu) {
        write_gpu(&mut text, file)?;
    }
    Ok(text)
}

/// What runs on a GPU, which need not be here, if the graph is compiled for one.
fn write_gpu(out: &mut String, file: File) -> Result<(), String> {
    let (mut document, symbols) = (file.document, file.symbols);
    if !document.options.on_gpu() {
        document.options.gpu = Some(0);
    }
    let program = compile::specialise(&document, &symbols).map_err(|e| e.to_string())?;
    let (left, all) = (left_to_cpu(&program.plan), program.plan.steps.len());
    let mut write = || {
        writeln!(out, "left to the CPU by a GPU, of {all} steps:")?;
        left.iter()
            .try_for_each(|(n, why)| writeln!(out, "    step {n}: {why}"))
    };
    write().map_err(|e| e.to_string())
}

fn write(
    out: &mut String,
    file: &File,
    graph: &Graph,
    clusters: &Clusters,
    stages: &[Stage],
) -> fmt::Result {
    if let Some(program) = &file.program {
        writeln!(out, "; {program}")?;
    }
    for (symbol, n) in file.symbols.iter().collect::<BTreeMap<_, _>>() {
        writeln!(out, "; for {symbol} = {n}")?;
    }
    for (symbol, n) in &file.specialised {
        writeln!(out, "; for {symbol} = {n}")?;
    }
    if stages.contains(&Stage::Graph) {
        writeln!(out, "{graph}")?;
    }
    for (n, group) in clusters.groups.iter().enumerate() {
        if stages.contains(&Stage::Groups) {
            write_group(out, graph, n, group)?;
        }
        for (k, lowered) in group.kernels.iter().enumerate() {
            if stages.contains(&Stage::Kernels) {
                write_kernel(out, n, k, lowered)?;
            }
            if stages.contains(&Stage::Code) {
                write_code(out, n, k, lowered)?;
            }
        }
    }
    if stages.contains(&Stage::Groups) {
        write_refusals(out, graph, clusters)?;
        write_post_ops(out, graph, clusters)?;
    }
    Ok(())
}

fn write_group(out: &mut String, graph: &Graph, n: usize, group: &Group) -> fmt::Result {
    let kind = match group.kernels.len() {
        0 => "call".into(),
        1 => "kernel".into(),
        many => format!("{many} kernels"),
    };
    let roots = group.roots.iter();
    let roots: Vec<String> = roots
        .map(|&r| format!("{r}: {}", graph.values[r]))
        .collect();
    writeln!(out, "group {n}, {kind} -> {}", roots.join(", "))?;
    let mut shown = None;
    for &node in &group.nodes {
        let origin = graph.origin(node);
        if shown.replace(origin) != Some(origin) {
            writeln!(out, "    {origin}")?;
        }
    }
    Ok(())
}

fn write_refusals(out: &mut String, graph: &Graph, clusters: &Clusters) -> fmt::Result {
    if !clusters.refusals.is_empty() {
        writeln!(out, "not fused:")?;
    }
    for (producer, consumer, reason) in &clusters.refusals {
        let (from, to) = (graph.origin(*producer), graph.origin(*consumer));
        writeln!(out, "    {from} | {to}: {reason}")?;
    }
    if !graph.not_attention.is_empty() {
        writeln!(out, "not attention:")?;
    }
    let origin = |n: u32| &graph.origins[n as usize].node;
    for (n, reason) in &graph.not_attention {
        writeln!(out, "    {}: {reason}", origin(*n))?;
    }
    for parts in &graph.joined {
        let parts: Vec<&str> = parts.iter().map(|&n| origin(n).as_str()).collect();
        writeln!(out, "joined: {}", parts.join(" | "))?;
    }
    for &n in &graph.of_bytes {
        writeln!(out, "multiplied as bytes: {}", origin(n))?;
    }
    if !graph.not_bytes.is_empty() {
        writeln!(out, "bytes multiplied as floats:")?;
    }
    for (n, reason) in &graph.not_bytes {
        writeln!(out, "    {}: {reason}", origin(*n))?;
    }
    if !graph.not_joined.is_empty() {
        writeln!(out, "not joined:")?;
    }
    for (n, reason) in &graph.not_joined {
        writeln!(out, "    {}: {reason}", origin(*n))?;
    }
    Ok(())
}

/// Kernels behind convolutions of ATen's: which of them oneDNN computes, and why not the others.
fn write_post_ops(out: &mut String, graph: &Graph, clusters: &Clusters) -> fmt::Result {
    let groups = &clusters.groups;
    for (k, group) in groups.iter().enumerate() {
        let (Some(found), Some(&last)) = (post_op(graph, groups, k), group.nodes.last()) else {
            continue;
        };
        let origin = graph.origin(last);
        match found {
            Ok(found) => writeln!(out, "by oneDNN, {:?}: {origin}", found.function)?,
            Err(reason) => writeln!(out, "not by oneDNN: {origin}: {reason}")?,
        }
    }
    Ok(())
}

fn write_kernel(out: &mut String, n: usize, k: usize, lowered: &Lowered) -> fmt::Result {
    let params = lowered.kernel.params.keys().zip(&lowered.tensors);
    let params: Vec<String> = params.map(|(p, t)| format!("{p} = {t}")).collect();
    writeln!(out, "; group {n}, kernel {k}: {}", params.join(", "))?;
    write!(out, "{}", lowered.kernel)
}

/// The code that runs: the wide generator's, or Cranelift's for what that refuses.
fn write_code(out: &mut String, n: usize, k: usize, lowered: &Lowered) -> fmt::Result {
    let target = Target::detect().ok_or(wide::Refused::Processor);
    match target.and_then(|t| Ok((t.name(), wide::compile_for(&lowered.kernel, t)?))) {
        Ok((target, code)) => {
            let bytes = code.len();
            writeln!(
                out,
                "; group {n}, kernel {k}: wide generator for {target}, {bytes} bytes"
            )?;
            out.push_str(&disassemble(&code));
        }
        Err(refused) => {
            writeln!(out, "; group {n}, kernel {k}: Cranelift ({refused})")?;
            match cranelift::explain(&lowered.kernel) {
                Ok(text) => out.push_str(&text),
                Err(e) => writeln!(out, "; {e}")?,
            }
        }
    }
    Ok(())
}
