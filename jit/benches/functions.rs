//! Cycles for each element of elementary functions on f32 that lie in cache: code of the wide generator, Sleef's functions
//! as PyTorch calls them (their library is `IPEX_LIBTORCH`, a path to libtorch_cpu.so), and loops written by hand for AVX-512.
//! All are compared with f64 first. One thread, medians of interleaved calls; cycles by a chain of dependent additions.

#[cfg(target_arch = "x86_64")]
#[path = "functions/by_hand.rs"]
mod by_hand;
#[cfg(target_arch = "x86_64")]
#[path = "functions/run.rs"]
mod run;

fn main() {
    #[cfg(target_arch = "x86_64")]
    if ipex_jit::wide::Target::detect().is_some_and(|t| t.bytes() == 64) {
        run::main();
        return;
    }
    eprintln!("SKIPPED: for want of AVX-512");
}
