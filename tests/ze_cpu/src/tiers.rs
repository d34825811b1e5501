//! One body of tests on every device: a test program runs itself again under `ze_cpu`.
//!
//! Tests that need a device are marked `#[ignore]`; one test that is not calls [`run`], which starts the
//! program for the ignored ones with the variables of each device. Where a part is missing it says so on stderr, and in the file
//! named by `IPEX_NOT_RUN`, from which `make test` prints the total.

use crate::environment;
use std::ffi::OsString;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Devices, without and with Intel's validation layer.
pub const DEVICES: &[(&str, &[(&str, &str)])] = &[
    ("hpg", &[]),
    ("hpc", &[("ZE_CPU_API", "7")]),
    ("plain", &[]),
    (
        "hpg",
        &[
            ("ZE_ENABLE_VALIDATION_LAYER", "1"),
            ("ZE_ENABLE_PARAMETER_VALIDATION", "1"),
        ],
    ),
];

/// Says what is not tested here, past the test harness, which keeps what is printed.
pub fn not_run(what: &str, missing: &str) {
    let line = format!("NOT RUN: {what}: {missing}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("IPEX_NOT_RUN") {
        let file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path);
        let _ = file.and_then(|mut f| f.write_all(line.as_bytes()));
    }
}

/// Runs this program's ignored tests on each of these devices.
///
/// # Panics
/// If a test fails.
pub fn run(what: &str, devices: &[(&str, &[(&str, &str)])]) {
    for (device, extra) in devices {
        match environment::variables(device) {
            Ok(mut variables) => {
                variables.extend(extra.iter().map(|&(name, value)| (name, value.into())));
                run_with(&format!("{device} {extra:?}"), &variables, "");
            }
            Err(missing) => return not_run(what, &missing),
        }
    }
}

/// A device, more variables, and what names of tests hold.
pub type Job<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

/// Runs this program's ignored tests on devices at once, each in a process.
///
/// # Panics
/// If a test fails.
pub fn run_at_once(what: &str, jobs: &[Job]) {
    let variables = jobs.iter().map(|(device, extra, _)| {
        let mut all = environment::variables(device)?;
        all.extend(extra.iter().map(|&(name, value)| (name, value.into())));
        Ok(all)
    });
    let variables: Vec<_> = match variables.collect::<Result<_, environment::Missing>>() {
        Ok(all) => all,
        Err(missing) => return not_run(what, &missing),
    };
    std::thread::scope(|threads| {
        for (&(device, extra, filter), variables) in jobs.iter().zip(&variables) {
            let where_ = format!("{device} {extra:?}");
            threads.spawn(move || run_with(&where_, variables, filter));
        }
    });
}

/// Runs this program's ignored tests whose names hold `filter` with these variables, in an empty folder.
///
/// # Panics
/// If a test fails, or none runs.
pub fn run_with(where_: &str, variables: &[(&str, OsString)], filter: &str) {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let (process, run) = (std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(format!("ze_cpu-{process}-{run}"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--test-threads", "1", filter])
        .envs(variables.iter().cloned())
        .current_dir(&folder)
        .output()
        .expect("this program starts");
    let _ = std::fs::remove_dir_all(&folder);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "on {where_}:\n{text}");
    assert!(!text.contains("running 0 tests"), "no tests on {where_}");
}
