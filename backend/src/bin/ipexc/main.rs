//! Reads a graph and prints what the compiler makes of it; no Python in the process.

mod disassemble;
mod explain;

use clap::{Parser, Subcommand};
use explain::Stage;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(version, about = "Explains how ipex compiles a graph")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the graph, its fusion groups, and why they are not larger
    Explain {
        /// A protocol document (JSON), or a program saved by torch.export.save (.pt2)
        file: PathBuf,
        /// What to print; may be given several times
        #[arg(long, value_enum, default_values = ["graph", "groups"])]
        stage: Vec<Stage>,
        /// Print all stages, also the kernels and their machine code
        #[arg(long)]
        code: bool,
    },
    /// Lists the operators that the compiler has rules for
    Operators,
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Explain { file, stage, code } => {
            let stages = if code { Stage::ALL.to_vec() } else { stage };
            let explained = std::fs::read(&file)
                .map_err(|e| e.to_string())
                .and_then(|bytes| explain::explain(&bytes, &stages));
            match explained {
                Ok(text) => print(&text),
                Err(message) => {
                    eprintln!("ipexc: {}: {message}", file.display());
                    ExitCode::FAILURE
                }
            }
        }
        Command::Operators => {
            let names: Vec<&str> = ipex_backend::ops::supported().collect();
            print(&(names.join("\n") + "\n"))
        }
    }
}

/// Writes to standard output; a reader that has seen enough is no error.
fn print(text: &str) -> ExitCode {
    use std::io::{ErrorKind, Write};
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            eprintln!("ipexc: {e}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
