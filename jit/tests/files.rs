//! Runs the kernels of `tests/kernels/*.ipex` through the interpreter and both code generators.
//!
//! A file holds cases parted by lines `---`. A case is a kernel with directives in comments above it:
//!
//! ```text
//! ; run: [1.0, 2.0], 0..4 -> [3.0; 2]     contents of what is read -> expected contents of what is written
//! ; run within 2 ulp: ...                 the same, for results that are rounded
//! ; wide: refused                         the wide generator leaves this kernel to Cranelift
//! ; invalid: v1: defined twice            the verifier's answer
//! ; malformed: 3:14: expected ...         the parser's answer
//! ```
//!
//! The text must be what the kernel prints; `IPEX_BLESS=1 cargo test -p ipex-jit --test files` rewrites it.

mod execute;
mod values;

use execute::execute;
use ipex_jit::interpret::interpret;
use ipex_jit::kernel::{Access, Kernel, parse, verify};
use ipex_jit::wide::{self, Target};
use ipex_jit::{CompiledKernel, cranelift};
use std::io::Write;
use std::path::{Path, PathBuf};
use values::{Run, agree};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernels");

/// What a case says about its kernel.
#[derive(Default)]
struct Directives {
    runs: Vec<Run>,
    invalid: Option<String>,
    malformed: Option<String>,
    wide_refuses: bool,
}

fn directives(comments: &str) -> Result<Directives, String> {
    let mut found = Directives::default();
    for line in comments.lines() {
        let line = line.trim_start_matches(';').trim();
        if let Some(run) = line.strip_prefix("run") {
            found.runs.push(Run::read(run)?);
        } else if let Some(message) = line.strip_prefix("invalid: ") {
            found.invalid = Some(message.into());
        } else if let Some(message) = line.strip_prefix("malformed: ") {
            found.malformed = Some(message.into());
        } else if line == "wide: refused" {
            found.wide_refuses = true;
        }
    }
    Ok(found)
}

/// Checks one case; its text as it should be printed.
fn check(case: &str) -> Result<String, String> {
    let start = case.find("\nkernel").map_or(case.len(), |n| n + 1);
    let (comments, text) = case.split_at(start);
    let expected = directives(comments)?;
    let kernel = match (parse(case), expected.malformed) {
        (Err(e), Some(message)) if e.to_string() == message => return Ok(case.into()),
        (Err(e), _) => return Err(format!("malformed: {e}")),
        (Ok(_), Some(_)) => return Err("the text is not malformed".into()),
        (Ok(kernel), None) => kernel,
    };
    match (verify(&kernel), expected.invalid) {
        (Err(e), Some(message)) if e.to_string() == message => {}
        (Err(e), _) => return Err(format!("invalid: {e}")),
        (Ok(()), Some(_)) => return Err("the kernel is valid".into()),
        (Ok(()), None) if expected.runs.is_empty() => return Err("nothing is expected".into()),
        (Ok(()), None) => {}
    }
    for run in &expected.runs {
        check_run(&kernel, run, expected.wide_refuses)?;
    }
    let printed = kernel.to_string();
    if text.trim_end() != printed.trim_end() && std::env::var_os("IPEX_BLESS").is_none() {
        return Err(format!(
            "prints as (IPEX_BLESS=1 takes this over):\n{printed}"
        ));
    }
    Ok(format!("{comments}{printed}"))
}

fn check_run(kernel: &Kernel, run: &Run, wide_refuses: bool) -> Result<(), String> {
    let memory = run.memory(kernel)?;
    let extent = kernel.vars[kernel.root.var].extent;
    let compare = |who: &str, got: &[Vec<u8>]| -> Result<(), String> {
        let params = kernel.params.iter();
        let written = params.filter(|(_, p)| p.access != Access::In);
        for ((id, p), want) in written.zip(&run.outputs) {
            agree(p.dtype, &got[id.as_u32() as usize], want, run.ulp)
                .map_err(|e| format!("{who}: {id}{e}"))?;
        }
        Ok(())
    };
    // The interpreter first: it does not leave the memory unnoticed.
    let mut got = memory.clone();
    interpret(kernel, &mut got, 0, extent);
    compare("interpreter", &got)?;
    let mut codes = vec![("cranelift", cranelift::compile(kernel))];
    for target in Target::available() {
        let name = target.name();
        match wide::compile_for(kernel, target) {
            Ok(_) if wide_refuses => return Err(format!("{name}: the wide generator takes it")),
            Ok(code) => codes.push((name, CompiledKernel::new(&code))),
            Err(_) if wide_refuses => {}
            Err(refused) => return Err(format!("{name}: the wide generator refuses: {refused}")),
        }
    }
    for (who, code) in codes {
        let code = code.map_err(|e| e.to_string())?;
        for cut in [0, extent / 3, extent] {
            let mut got = memory.clone();
            execute(&code, &mut got, extent, cut);
            compare(who, &got)?;
        }
    }
    Ok(())
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(FOLDER).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn kernels_in_files() {
    if Target::available().next().is_none() {
        // Straight to the stream: the test harness keeps what is printed.
        writeln!(
            std::io::stderr(),
            "SKIPPED: the wide generator on tests/kernels, for want of AVX2 or AVX-512"
        )
        .unwrap();
    }
    let mut failures = Vec::new();
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut blessed = Vec::new();
        let mut line = 1;
        for case in text.split_inclusive("---\n") {
            let case_text = case.trim_end_matches("---\n");
            match check(case_text) {
                Ok(text) => blessed.push(text),
                Err(e) => {
                    let name = path.strip_prefix(Path::new(FOLDER)).unwrap().display();
                    failures.push(format!("{name}:{line}: {e}"));
                    blessed.push(case_text.into());
                }
            }
            line += case.matches('\n').count();
        }
        let blessed = blessed.join("---\n");
        if std::env::var_os("IPEX_BLESS").is_some() && blessed != text {
            std::fs::write(&path, blessed).unwrap();
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
