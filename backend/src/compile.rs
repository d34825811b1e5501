//! The whole way from a document to a plan.

use crate::error::Error;
use crate::fusion::cluster::{Clusters, cluster};
use crate::graph::Graph;
use crate::lower::stream;
use crate::protocol::Document;
use crate::protocol::expr::Symbols;
use crate::{gpu, graph, passes, plan, protocol};
use ipex_jit::kernel::{Kernel, verify};
use ipex_runtime::plan::{KernelCode, Plan};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};

/// What a compilation produced.
pub struct Program {
    /// The graph after its passes.
    pub graph: Graph,
    /// Its groups.
    pub clusters: Clusters,
    /// What the runtime executes.
    pub plan: Plan,
}

/// Compiles a JSON document, for the sizes that its graph was traced with.
pub fn compile(json: &[u8]) -> Result<Program, Error> {
    let document = protocol::decode(json)?;
    specialise(&document, &protocol::symbols::hints(&document))
}

/// Compiles a document for these values of its symbols.
pub fn specialise(document: &Document, symbols: &Symbols) -> Result<Program, Error> {
    let (graph, clusters) = fuse(document, symbols)?;
    let code = generate(&clusters, document.options.on_gpu())?;
    let plan = plan::build::build(&graph, &clusters, &code, document).map_err(Error::Internal)?;
    Ok(Program {
        graph,
        clusters,
        plan,
    })
}

/// The graph and its groups. An ATen node whose primitives do not lower is left to PyTorch.
pub fn fuse(document: &Document, symbols: &Symbols) -> Result<(Graph, Clusters), Error> {
    let mut left = HashSet::new();
    let (graph, mut clusters) = loop {
        let graph = graph::build::build(document, symbols, &left)?;
        if verifies() {
            verify_graph(&graph, "translation")?;
        }
        let graph = passes::pipeline::run(graph, &document.options);
        if verifies() {
            verify_graph(&graph, "the passes")?;
        }
        match cluster(&graph) {
            Ok(clusters) => break (graph, clusters),
            Err((id, refusal)) => {
                if !left.insert(graph.nodes[id].origin) {
                    return Err(Error::Unsupported {
                        node: graph.origin(id).into(),
                        reason: refusal.to_string(),
                    });
                }
            }
        }
    };
    if !graph.gpu {
        stream::mark(&graph, &mut clusters);
    }
    if verifies() {
        verify_kernels(&graph, &clusters)?;
    }
    Ok((graph, clusters))
}

/// Whether graphs and kernels are verified at the border of each stage: in debug builds, and in the tests of
/// release builds, which set the variable.
fn verifies() -> bool {
    cfg!(debug_assertions) || std::env::var_os("IPEX_VERIFY").is_some()
}

fn verify_graph(graph: &Graph, after: &str) -> Result<(), Error> {
    graph::verify(graph).map_err(|e| Error::Internal(format!("after {after}: {e}")))
}

/// The border between lowering and code generation. (`ipex_jit::compile` looks again, in every build.)
fn verify_kernels(graph: &Graph, clusters: &Clusters) -> Result<(), Error> {
    for group in &clusters.groups {
        for lowered in &group.kernels {
            verify(&lowered.kernel).map_err(|e| {
                let origins = group.nodes.iter().map(|&n| graph.origin(n));
                let origins: Vec<&str> = origins.collect();
                Error::Internal(format!("kernel of {}: {e}", origins.join("; ")))
            })?;
        }
    }
    Ok(())
}

/// Compiles every different kernel once, in parallel; for GPUs too if asked to. On the CPU those that differ
/// in the outermost loop's extent alone share code, which gets its range in each call.
fn generate(clusters: &Clusters, gpu: bool) -> Result<Vec<Vec<KernelCode>>, Error> {
    let kernels = clusters
        .groups
        .iter()
        .flat_map(|g| &g.kernels)
        .map(|l| &l.kernel);
    let key = |k: &Kernel| match gpu {
        true => k.clone(),
        false => k.of_any_extent(),
    };
    let mut ids: HashMap<Kernel, usize> = HashMap::new();
    let mut unique: Vec<&Kernel> = Vec::new();
    for kernel in kernels {
        ids.entry(key(kernel)).or_insert_with(|| {
            unique.push(kernel);
            unique.len() - 1
        });
    }
    let code: Vec<KernelCode> = unique
        .par_iter()
        .map(|k| {
            let mut code = KernelCode::from(ipex_jit::compile(k)?);
            if gpu {
                code.device = gpu::kernel(k);
            }
            Ok::<_, ipex_jit::CompileError>(code)
        })
        .collect::<Result<_, _>>()
        .map_err(|e| Error::Internal(e.to_string()))?;
    let of_group = |g: &crate::fusion::cluster::Group| {
        g.kernels
            .iter()
            .map(|l| code[ids[&key(&l.kernel)]].clone())
            .collect()
    };
    Ok(clusters.groups.iter().map(of_group).collect())
}
