//! Which tiles of `matmul.cl` a product is cut into, by what they cost.
//!
//! A sub-group makes a tile, a vector engine runs up to four at once and has one matrix unit. What two steps of a tile cost an engine is
//! the most of: its matrix instructions; what it loads, at the engine's share of the first-level cache; what is new to its group, at the share of
//! the second-level one. Engines that have one tile each wait for loads as well. The shares are of what is published (`docs/gpu.md`) or, where nothing is,
//! an assumption; they decide between tiles, and no result depends on them.

use super::architecture::Architecture;
use super::context::Device;
use super::product::Product;

/// Rows of a sub-group's tile, and how they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Height {
    /// 8.
    Few,
    /// 32.
    Many,
    /// 32, whose operand two neighbouring sub-groups read a half each of.
    Pair,
}

impl Height {
    /// All, for those that try each.
    pub const ALL: [Height; 3] = [Height::Few, Height::Many, Height::Pair];

    /// How names of modules have it.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Height::Few => "_few",
            Height::Many => "",
            Height::Pair => "_pair",
        }
    }

    /// Blocks of 8 rows.
    fn blocks(self) -> usize {
        match self {
            Height::Few => 1,
            Height::Many | Height::Pair => 4,
        }
    }

    /// Whether a device has it.
    pub fn is_of(self, architecture: Architecture) -> bool {
        self != Height::Pair || architecture.has_pairs()
    }
}

/// Blocks of columns of a tile, each with as many as a sub-group has lanes.
const COLUMNS: usize = 4;

/// A tile of sub-groups, and how many a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Of a sub-group.
    pub height: Height,
    /// Sub-groups of a group that are neighbours in a row of tiles: an even number.
    pub across: usize,
    /// Rows of them.
    pub down: usize,
}

/// What an engine has in a clock.
struct Engine {
    lanes: usize,
    /// Clocks of a matrix instruction.
    matrix: usize,
    /// Bytes of the first and the second level of caches.
    near: usize,
    far: usize,
}

/// Clocks from a load to what it brings.
const LATENCY: usize = 250;
/// Sub-groups that an engine runs at once, of kernels with 256 registers.
const THREADS: usize = 4;

impl Engine {
    fn of(architecture: Architecture) -> Option<Engine> {
        let [lanes, matrix, near, far] = match architecture {
            Architecture::XeHpg | Architecture::XeLpg => [8, 16, 8, 4],
            Architecture::XeHpc => [16, 8, 64, 8],
            Architecture::Xe2 => [16, 16, 32, 8],
            Architecture::Plain => return None,
        };
        Some(Engine {
            lanes,
            matrix,
            near,
            far,
        })
    }

    /// Bytes that a step of a tile reads, and those that are new to its group, which has so many of them across and down.
    fn bytes(&self, height: Height, [across, down]: [usize; 2]) -> [usize; 2] {
        // A block of the first matrix: 8 rows of 32 bytes; of the second one, 32 bytes for each lane.
        let (rows, columns) = (height.blocks() * 256, COLUMNS * self.lanes * 32);
        let read = columns + rows / (1 + usize::from(height == Height::Pair));
        [read, rows / across + columns / down]
    }

    /// Clocks of a step.
    fn step(&self, height: Height, group: [usize; 2]) -> usize {
        let [read, new] = self.bytes(height, group);
        (height.blocks() * COLUMNS * self.matrix)
            .max(read / self.near)
            .max(new / self.far)
    }
}

impl Tile {
    /// The one that costs least on a device; none if it has no matrix instructions.
    pub fn choose(p: &Product, device: &Device) -> Option<Tile> {
        Tile::cheapest(p.sizes, device.architecture(), device.engines())
    }

    fn cheapest(sizes: [usize; 4], architecture: Architecture, engines: usize) -> Option<Tile> {
        let engine = Engine::of(architecture)?;
        let heights = Height::ALL.into_iter().filter(|h| h.is_of(architecture));
        let groups = [(2, 1), (2, 2), (2, 4), (4, 1), (4, 2), (4, 4), (4, 8)];
        let tiles = heights.flat_map(|height| {
            groups.map(|(across, down)| Tile {
                height,
                across,
                down,
            })
        });
        tiles.min_by_key(|t| t.cost(sizes, &engine, engines))
    }

    /// Clocks of a step of the whole product, per engine; and what decides between equals, the bytes for each row.
    fn cost(self, sizes: [usize; 4], engine: &Engine, engines: usize) -> [usize; 2] {
        let [batch, m, n, _] = sizes;
        let [columns, rows] = [n.div_ceil(COLUMNS * engine.lanes), m.div_ceil(self.rows())];
        let tiles = match self.height {
            // None of a group ends early.
            Height::Pair => {
                let groups = self
                    .groups(sizes, engine.lanes)
                    .into_iter()
                    .product::<usize>();
                groups * self.across * self.down
            }
            _ => batch * columns * rows,
        };
        let each = tiles.div_ceil(engines.max(1));
        let group = [self.across.min(columns), self.down.min(rows)];
        let step = engine.step(self.height, group);
        let clocks = (each * step).max(each.div_ceil(THREADS) * (step + LATENCY));
        let bytes: usize = engine.bytes(self.height, group).into_iter().sum();
        [clocks, bytes / self.rows()]
    }

    /// Rows of a sub-group.
    fn rows(self) -> usize {
        self.height.blocks() * 8
    }

    /// Groups across, down and of the batch.
    pub(super) fn groups(self, [batch, m, n, _]: [usize; 4], lanes: usize) -> [usize; 3] {
        let columns = self.across * COLUMNS * lanes;
        let rows = self.down * self.rows();
        [n.div_ceil(columns), m.div_ceil(rows), batch]
    }

    /// Items of a group.
    pub(super) fn group(self, lanes: usize) -> [u32; 3] {
        [self.across * lanes, self.down, 1].map(|n| n as u32)
    }

    /// Bytes of memory that a group shares: a row of blocks of sums for each tile.
    pub(super) fn shared(self, lanes: usize) -> usize {
        self.across * self.down * COLUMNS * lanes * 8 * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(m: usize, n: usize) -> Tile {
        Tile::cheapest([1, m, n, 1024], Architecture::XeHpg, 512).unwrap()
    }

    #[test]
    fn large_products_have_large_tiles_and_groups() {
        for (m, n) in [(4096, 4096), (1024, 4096), (8192, 768)] {
            let tile = chosen(m, n);
            assert_eq!(tile.height, Height::Pair, "{m} x {n}");
            assert!(tile.down * tile.across >= 8, "{m} x {n}: {tile:?}");
        }
    }

    #[test]
    fn skinny_products_are_spread_over_engines() {
        for (m, n) in [(1, 4096), (16, 768), (33, 768), (1, 50257)] {
            assert_eq!(chosen(m, n).height, Height::Few, "{m} x {n}");
        }
    }

    #[test]
    fn pairs_pay_for_rows_that_are_not_there() {
        let engine = Engine::of(Architecture::XeHpg).unwrap();
        let tile = |down| Tile {
            height: Height::Pair,
            across: 2,
            down,
        };
        let cost = |m, down| tile(down).cost([64, m, 64, 64], &engine, 1)[0];
        assert!(cost(33, 4) > cost(33, 2));
        assert_eq!(cost(128, 8), 2 * cost(128, 4));
    }

    #[test]
    fn devices_without_pairs_have_none() {
        let tile = |a| Tile::cheapest([1, 4096, 4096, 64], a, 128);
        assert_eq!(tile(Architecture::XeLpg).unwrap().height, Height::Many);
        assert_eq!(tile(Architecture::XeHpc).unwrap().height, Height::Many);
        assert_eq!(tile(Architecture::Plain), None);
    }

    #[test]
    fn the_tile_of_xe_hpg_is_bound_by_its_matrix_unit() {
        let engine = Engine::of(Architecture::XeHpg).unwrap();
        assert_eq!(engine.step(Height::Pair, [4, 4]), 16 * 16);
        assert_eq!(engine.step(Height::Few, [4, 4]), (256 + 1024) / 8);
    }
}
