//! Reads a protocol document and prints what the compiler makes of it; no Python in the process.

use clap::{Parser, Subcommand};
use ipex_backend::fusion::cluster::{Clusters, Group};
use ipex_backend::graph::Graph;
use ipex_backend::{compile, protocol};
use ipex_jit::cranelift;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(version, about = "Explains how ipex compiles a graph")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the fusion groups of a document, and why they are not larger
    Explain {
        /// A protocol document (JSON)
        file: PathBuf,
        /// Also print the generated code of every group
        #[arg(long)]
        code: bool,
    },
}

fn main() -> ExitCode {
    let Command::Explain { file, code } = Args::parse().command;
    match explain(&file, code) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("ipexc: {}: {message}", file.display());
            ExitCode::FAILURE
        }
    }
}

fn explain(file: &Path, code: bool) -> Result<(), String> {
    let json = std::fs::read(file).map_err(|e| e.to_string())?;
    let document = protocol::decode(&json).map_err(|e| e.to_string())?;
    let (graph, clusters) = compile::fuse(&document, &protocol::symbols::hints(&document))
        .map_err(|e| e.to_string())?;
    for (n, group) in clusters.groups.iter().enumerate() {
        print_group(&graph, n, group);
        for lowered in group.kernels.iter().filter(|_| code) {
            println!(
                "{}",
                cranelift::explain(&lowered.kernel).map_err(|e| e.to_string())?
            );
        }
    }
    print_refusals(&graph, &clusters);
    Ok(())
}

fn print_group(graph: &Graph, n: usize, group: &Group) {
    let kind = if group.kernels.is_empty() {
        "call"
    } else {
        "kernel"
    };
    let roots: Vec<String> = group
        .roots
        .iter()
        .map(|&r| format!("{r}: {:?}", graph.values[r].sizes))
        .collect();
    println!("{kind} {n} -> {}", roots.join(", "));
    let mut origins: Vec<&str> = group.nodes.iter().map(|&n| graph.origin(n)).collect();
    origins.dedup();
    for origin in origins {
        println!("    {origin}");
    }
}

fn print_refusals(graph: &Graph, clusters: &Clusters) {
    println!("not fused:");
    for (producer, consumer, reason) in &clusters.refusals {
        println!(
            "    {} | {}: {reason}",
            graph.origin(*producer),
            graph.origin(*consumer)
        );
    }
}
