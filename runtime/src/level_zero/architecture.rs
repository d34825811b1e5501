//! What a device's number says about its instructions.

/// A family of GPUs, by what matters to the choice of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// Arc A series and its kin (DG2): matrix instructions on sub-groups of 8, also of two together.
    XeHpg,
    /// The iGPU of Arrow Lake H: as Xe-HPG, of one sub-group only.
    XeLpg,
    /// Data Center GPU Max: matrix instructions on sub-groups of 16.
    XeHpc,
    /// Battlemage and Lunar Lake, as Xe-HPC.
    Xe2,
    /// No matrix instructions.
    Plain,
}

impl Architecture {
    /// From the PCI device id and the sizes of sub-groups that the device has. An unknown device gets the
    /// kernels that need no matrix instructions.
    pub fn of(device_id: u32) -> Architecture {
        match device_id {
            // DG2 (Arc A, Flex), from the driver's tables of ids.
            0x4f80..=0x4f88 | 0x5690..=0x56bf | 0x56c0..=0x56c2 => Architecture::XeHpg,
            // Arrow Lake H: Xe-LPG with matrix instructions.
            0x7d51 | 0x7dd1 => Architecture::XeLpg,
            // Ponte Vecchio.
            0x0bd0..=0x0bdb | 0x0be5 => Architecture::XeHpc,
            // Battlemage, Lunar Lake.
            0xe202..=0xe216 | 0x6420 | 0x64a0 | 0x64b0 => Architecture::Xe2,
            _ => Architecture::Plain,
        }
    }

    /// Whether there are loads of 2D blocks.
    pub fn has_blocks(self) -> bool {
        matches!(self, Architecture::XeHpc | Architecture::Xe2)
    }

    /// Whether neighbouring sub-groups read a half each of what both multiply (DPASW).
    pub fn has_pairs(self) -> bool {
        self == Architecture::XeHpg
    }

    /// Size of the sub-groups that have matrix instructions.
    pub fn matrix_sub_group(self) -> Option<u32> {
        match self {
            Architecture::XeHpg | Architecture::XeLpg => Some(8),
            Architecture::XeHpc | Architecture::Xe2 => Some(16),
            Architecture::Plain => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_each_family() {
        for (id, family) in [
            (0x56a0, Architecture::XeHpg), // A770
            (0x56c0, Architecture::XeHpg), // Flex 170
            (0x7d51, Architecture::XeLpg), // Arrow Lake H
            (0x0bd5, Architecture::XeHpc), // Max 1550
            (0xe20b, Architecture::Xe2),   // B580
            (0x64a0, Architecture::Xe2),   // Lunar Lake
            (0x9a49, Architecture::Plain), // Tiger Lake
            (0x7d55, Architecture::Plain), // Meteor Lake
            (0, Architecture::Plain),
        ] {
            assert_eq!(Architecture::of(id), family, "{id:#x}");
        }
    }
}
