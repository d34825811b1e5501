//! The instruction set that hand-written kernels use, chosen once.

use std::sync::OnceLock;

/// Levels of instruction sets, each with everything below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Whatever the target guarantees.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Isa {
    /// All levels, lowest first.
    pub const ALL: [Isa; 3] = [Isa::Scalar, Isa::Avx2, Isa::Avx512];

    /// The name that `IPEX_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// The highest level of this processor, capped by the environment variable `IPEX_ISA`; read
    /// once. An unknown name caps nothing.
    pub fn detect() -> Isa {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| capped(Isa::of_processor(), std::env::var("IPEX_ISA").ok()))
    }

    /// The levels that this processor has; tests run every kernel on each.
    pub fn available() -> impl Iterator<Item = Isa> {
        let highest = Isa::of_processor();
        Isa::ALL.into_iter().filter(move |&isa| isa <= highest)
    }

    #[cfg(target_arch = "x86_64")]
    fn of_processor() -> Isa {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        match (avx2, avx512) {
            (true, true) => Isa::Avx512,
            (true, false) => Isa::Avx2,
            _ => Isa::Scalar,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of_processor() -> Isa {
        Isa::Scalar
    }
}

fn capped(highest: Isa, cap: Option<String>) -> Isa {
    let named = |name: String| Isa::ALL.into_iter().find(|isa| isa.name() == name);
    cap.and_then(named).map_or(highest, |cap| cap.min(highest))
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
}
