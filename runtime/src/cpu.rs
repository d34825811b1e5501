//! What the processor offers: its instruction set, read once, and its caches.

use std::sync::OnceLock;

/// The environment variable that caps the instruction set: one of [`Isa::name`]'s.
pub const CAP: &str = "IPEX_ISA";

/// Instruction sets, each including those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, on every processor.
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX512-VNNI: products of bytes.
    Avx512Vnni,
    /// AVX512-BF16: products of bf16.
    Avx512Bf16,
    /// AMX: tiles of bf16 and of bytes.
    Amx,
    /// AMX-FP16: tiles of f16.
    AmxFp16,
}

impl Isa {
    /// Every instruction set, in order.
    pub const ALL: [Isa; 7] = [
        Isa::Scalar,
        Isa::Avx2,
        Isa::Avx512,
        Isa::Avx512Vnni,
        Isa::Avx512Bf16,
        Isa::Amx,
        Isa::AmxFp16,
    ];

    /// The name that [`CAP`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Vnni => "avx512_vnni",
            Isa::Avx512Bf16 => "avx512_bf16",
            Isa::Amx => "amx",
            Isa::AmxFp16 => "amx_fp16",
        }
    }

    /// The highest level of this processor, capped by the environment variable [`CAP`]; read once.
    /// An unknown name is reported on stderr and caps nothing.
    pub fn detect() -> Isa {
        static ACTIVE: OnceLock<Isa> = OnceLock::new();
        *ACTIVE.get_or_init(|| capped(Isa::of_processor(), std::env::var(CAP).ok()))
    }

    /// The levels that this processor has; tests run every kernel on each.
    pub fn available() -> impl Iterator<Item = Isa> {
        let highest = Isa::of_processor();
        Isa::ALL.into_iter().filter(move |&isa| isa <= highest)
    }

    /// The highest level that this processor and its operating system support.
    pub fn of_processor() -> Isa {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let missing = Self::ALL.into_iter().position(|i| !supported(i));
            Self::ALL[missing.unwrap_or(Self::ALL.len()) - 1]
        })
    }
}

fn capped(highest: Isa, cap: Option<String>) -> Isa {
    let Some(name) = cap else {
        return highest;
    };
    let named = Isa::ALL.into_iter().find(|isa| isa.name() == name);
    if named.is_none() {
        let names = Isa::ALL.map(Isa::name).join(", ");
        eprintln!("ipex: {CAP}={name} is none of {names}; it is ignored");
    }
    named.map_or(highest, |cap| cap.min(highest))
}

#[cfg(target_arch = "x86_64")]
fn supported(isa: Isa) -> bool {
    use std::arch::is_x86_feature_detected as has;
    match isa {
        Isa::Scalar => true,
        Isa::Avx2 => has!("avx2") && has!("fma") && has!("f16c"),
        Isa::Avx512 => has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl"),
        Isa::Avx512Vnni => has!("avx512vnni"),
        Isa::Avx512Bf16 => has!("avx512bf16"),
        Isa::Amx => amx(),
        Isa::AmxFp16 => amx_fp16(),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn supported(isa: Isa) -> bool {
    isa == Isa::Scalar
}

/// Whether the processor has AMX tiles of bf16 and bytes, and Linux lets this process use them.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn amx() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XTILEDATA: i64 = 18;
    let all = BF16 | TILE | INT8;
    let has = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & all == all;
    // SAFETY: asks the kernel for the permission to use tile registers; it changes no memory.
    has && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) } == 0
}

/// Whether the processor has arithmetic of f16: PyTorch's convolutions of f16 are plain loops where it has none.
pub fn multiplies_f16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512fp16");
    #[cfg(not(target_arch = "x86_64"))]
    return true;
}

/// Whether the processor has tiles of f16, beside what [`amx`] asks for.
#[cfg(target_arch = "x86_64")]
fn amx_fp16() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const FP16: u32 = 1 << 21;
    // The second part of leaf 7, if there is one.
    let has = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).eax >= 1;
    has && __cpuid_count(7, 1).eax & FP16 != 0
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn amx() -> bool {
    false
}

/// The processor's name, such as `AMD EPYC 9R14`; the architecture's where there is none.
pub fn model() -> &'static str {
    static MODEL: OnceLock<String> = OnceLock::new();
    MODEL.get_or_init(|| brand().unwrap_or_else(|| std::env::consts::ARCH.into()))
}

#[cfg(target_arch = "x86_64")]
fn brand() -> Option<String> {
    let brand = raw_cpuid::CpuId::new().get_processor_brand_string()?;
    Some(brand.as_str().trim().into())
}

#[cfg(not(target_arch = "x86_64"))]
fn brand() -> Option<String> {
    None
}

/// Sizes of the data caches in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// Of one core.
    pub l1: usize,
    /// Lines of the first cache that share a set.
    pub l1_ways: usize,
    /// Of one core.
    pub l2: usize,
    /// Shared.
    pub l3: usize,
}

impl Caches {
    /// The first core's, as Linux reports them; common sizes where it does not.
    pub fn get() -> Caches {
        static FOUND: OnceLock<Caches> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let size = |level| cache(level).map_or(0, |found| found.0);
            let or = |bytes, common| if bytes == 0 { common } else { bytes };
            Caches {
                l1: or(size("1"), 32 << 10),
                l1_ways: or(cache("1").map_or(0, |found| found.1), 8),
                l2: or(size("2"), 1 << 20),
                l3: or(size("3"), 16 << 20),
            }
        })
    }
}

/// Bytes of the first core's data cache of this level, and its ways; 0 where Linux does not say.
fn cache(level: &str) -> Option<(usize, usize)> {
    let entries = std::fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?;
    entries.flatten().find_map(|entry| {
        let read = |name| std::fs::read_to_string(entry.path().join(name)).ok();
        let data = read("type")?.trim() != "Instruction" && read("level")?.trim() == level;
        let size = read("size")?;
        let kilobytes = size.trim().strip_suffix('K')?.parse::<usize>().ok()?;
        let ways = read("ways_of_associativity").and_then(|text| text.trim().parse().ok());
        data.then_some((kilobytes << 10, ways.unwrap_or(0)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_lowers_and_never_raises() {
        let cap = |highest, name: &str| capped(highest, Some(name.into()));
        assert_eq!(cap(Isa::Avx512, "avx2"), Isa::Avx2);
        assert_eq!(cap(Isa::Scalar, "avx512"), Isa::Scalar);
        assert_eq!(cap(Isa::Avx2, "nonsense"), Isa::Avx2);
        assert_eq!(capped(Isa::Avx2, None), Isa::Avx2);
    }

    #[test]
    fn caches_grow() {
        let c = Caches::get();
        assert!(c.l1 < c.l2 && c.l2 < c.l3, "{c:?}");
        assert!(
            c.l1_ways > 0 && c.l1.is_multiple_of(64 * c.l1_ways),
            "{c:?}"
        );
    }
}
