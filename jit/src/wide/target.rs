//! The instruction sets that code is generated for, and what differs between them.

use ipex_runtime::cpu::Isa;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Vectors of 512 bits and mask registers: AVX-512 F, BW, DQ and VL, and BMI2.
    Avx512 {
        /// Whether it rounds to bf16 in one instruction.
        bf16: bool,
    },
    /// Vectors of 256 bits, which are masks too: AVX2, FMA and F16C.
    Avx2,
}

impl Target {
    /// The best that this processor has, below the cap that the environment sets ([`Isa::detect`]).
    pub fn detect() -> Option<Target> {
        Target::up_to(Isa::detect()).next()
    }

    /// All that this processor has, the best first; tests run every kernel on each.
    pub fn available() -> impl Iterator<Item = Target> {
        Target::up_to(Isa::of_processor())
    }

    fn up_to(isa: Isa) -> impl Iterator<Item = Target> {
        let wide = [true, false].map(|bf16| Target::Avx512 { bf16 });
        let all = wide.into_iter().chain([Target::Avx2]);
        all.filter(move |t| t.isa() <= isa && t.is_whole())
    }

    /// The level that has its instructions, but for those of [`Target::is_whole`].
    fn isa(self) -> Isa {
        match self {
            Target::Avx512 { bf16: true } => Isa::Avx512Bf16,
            Target::Avx512 { bf16: false } => Isa::Avx512,
            Target::Avx2 => Isa::Avx2,
        }
    }

    /// Whether the processor has what a level does not promise: BMI2, for the masks of last lanes.
    fn is_whole(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            self == Target::Avx2 || std::arch::is_x86_feature_detected!("bmi2")
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            false
        }
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Target::Avx512 { bf16: true } => "AVX-512 with BF16",
            Target::Avx512 { bf16: false } => "AVX-512",
            Target::Avx2 => "AVX2",
        }
    }

    /// Bytes of a vector.
    pub fn bytes(self) -> usize {
        match self {
            Target::Avx512 { .. } => 64,
            Target::Avx2 => 32,
        }
    }

    /// A full vector's length as instructions hold it: 0, 1, 2 for 128, 256, 512 bits.
    pub fn full(self) -> u8 {
        match self {
            Target::Avx512 { .. } => 2,
            Target::Avx2 => 1,
        }
    }

    /// Vector registers but for the last three, which hold spilled operands for one instruction.
    pub fn vectors(self) -> u8 {
        match self {
            Target::Avx512 { .. } => 29,
            Target::Avx2 => 13,
        }
    }

    /// Vector registers that a loop's body may take before it gets fewer copies.
    pub fn for_copies(self) -> usize {
        match self {
            Target::Avx512 { .. } => 24,
            Target::Avx2 => 16,
        }
    }

    /// Whether truth values and last lanes are in mask registers, which any instruction takes; else they are vectors of all
    /// ones and zeros.
    pub fn has_masks(self) -> bool {
        self != Target::Avx2
    }

    /// Whether it rounds to bf16.
    pub fn rounds_to_bf16(self) -> bool {
        self == Target::Avx512 { bf16: true }
    }
}
