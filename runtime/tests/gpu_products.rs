//! Products on `ze_cpu` against f64: ragged shapes, both transposes, batches, poisoned padding, epilogues.

use half::{bf16, f16};
use ipex_runtime::DType;
use ipex_runtime::level_zero::blocks::{Layout, Misfit, NoBlocks};
use ipex_runtime::level_zero::epilogue::{Activation, Axis, Epilogue, Order};
use ipex_runtime::level_zero::library::Library;
use ipex_runtime::level_zero::pack;
use ipex_runtime::level_zero::tile::{Height, Tile};
use ipex_runtime::level_zero::{
    Architecture, Buffer, Device, Error, NoProduct, Stream, devices, product,
};
use product::{Operand, Product};
use ze_cpu::{environment, tiers};

#[test]
fn on_every_device() {
    // Most of the time one of them compiles.
    let [hpg, hpc, plain] = [0, 1, 2].map(|n| tiers::DEVICES[n]);
    let jobs = [
        ("lpg", hpg.1, "instructions"),
        (hpc.0, hpc.1, "blocks"),
        (hpc.0, hpc.1, "instructions"),
        (hpg.0, hpg.1, ""),
        (plain.0, plain.1, ""),
    ];
    tiers::run_at_once("products on ze_cpu", &jobs);
    // A compiler that is older than the loads of 2D blocks.
    if let Ok(mut variables) = environment::variables("xe2") {
        variables.push(("ZE_CPU_BLOCKS", "0".into()));
        tiers::run_with("an old driver", &variables, "no_blocks_and_why");
    }
}

/// Numbers that look random.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    fn number(&mut self) -> f64 {
        (self.next() % 4001) as f64 / 2000.0 - 1.0
    }
}

fn encode(dtype: DType, x: f64) -> Vec<u8> {
    match dtype {
        DType::F32 => (x as f32).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f64(x).to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f64(x).to_le_bytes().to_vec(),
        _ => vec![(x * 127.0) as i8 as u8],
    }
}

fn decode(dtype: DType, b: &[u8]) -> f64 {
    match dtype {
        DType::F32 => f32::from_le_bytes(b.try_into().unwrap()).into(),
        DType::F16 => f16::from_le_bytes(b.try_into().unwrap()).to_f64(),
        DType::BF16 => bf16::from_le_bytes(b.try_into().unwrap()).to_f64(),
        DType::I32 => i32::from_le_bytes(b.try_into().unwrap()).into(),
        _ => (b[0] as i8).into(),
    }
}

/// A matrix of `batch` planes with room between rows, which holds NaN (or 127).
struct Host {
    dtype: DType,
    bytes: Vec<u8>,
    strides: [usize; 3],
}

impl Host {
    fn new(
        d: &mut Draws,
        dtype: DType,
        [batch, rows, cols]: [usize; 3],
        transposed: bool,
        room: usize,
    ) -> Host {
        let (outer, inner) = if transposed {
            (cols, rows)
        } else {
            (rows, cols)
        };
        let pitch = inner + room;
        Host::laid_out(
            d,
            dtype,
            [batch, outer, inner],
            [outer * pitch, pitch],
            transposed,
        )
    }

    /// As 2D blocks are read: rows at multiples of 16 bytes, matrices at multiples of 64.
    fn for_blocks(
        d: &mut Draws,
        dtype: DType,
        [batch, rows, cols]: [usize; 3],
        transposed: bool,
    ) -> Host {
        let (outer, inner) = if transposed {
            (cols, rows)
        } else {
            (rows, cols)
        };
        let step = 16 / dtype.size();
        let pitch = inner.next_multiple_of(step).max(4 * step) + step * d.below(3);
        let plane = (outer * pitch).next_multiple_of(4 * step);
        Host::laid_out(d, dtype, [batch, outer, inner], [plane, pitch], transposed)
    }

    fn laid_out(
        d: &mut Draws,
        dtype: DType,
        [batch, outer, inner]: [usize; 3],
        [plane, pitch]: [usize; 2],
        transposed: bool,
    ) -> Host {
        let mut bytes = Vec::new();
        for k in 0..batch * plane {
            let poison = k % plane % pitch >= inner || k % plane / pitch >= outer;
            bytes.extend(encode(dtype, if poison { f64::NAN } else { d.number() }));
        }
        let strides = if transposed {
            [plane, 1, pitch]
        } else {
            [plane, pitch, 1]
        };
        Host {
            dtype,
            bytes,
            strides,
        }
    }

    fn at(&self, b: usize, r: usize, c: usize) -> f64 {
        let [sb, sr, sc] = self.strides;
        let (at, size) = (b * sb + r * sr + c * sc, self.dtype.size());
        decode(self.dtype, &self.bytes[at * size..][..size])
    }

    fn upload(&self, device: &Device, stream: &mut Stream) -> Buffer {
        let buffer = device.buffer(self.bytes.len()).unwrap();
        stream.write(&buffer, &self.bytes).unwrap();
        buffer
    }

    fn operand(&self, buffer: &Buffer) -> Operand {
        Operand {
            data: buffer.address(0).cast(),
            strides: self.strides.map(|s| s as i64),
        }
    }
}

fn activated(x: f64, a: Activation) -> f64 {
    match a {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + (0.7978845608028654 * (x + 0.044715 * x * x * x)).tanh())
        }
        Activation::Silu => x / (1.0 + (-x).exp()),
    }
}

/// What an operand is to matrix instructions: f32 is rounded to bf16.
fn rounded(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::F32 => bf16::from_f64(x).to_f64(),
        _ => x,
    }
}

/// What computes a product.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Plain,
    Matrix,
    /// By matrix instructions that read 2D blocks.
    Blocks(Layout),
}

/// Queues a product.
fn multiply(
    d: &mut Draws,
    library: &Library,
    stream: &mut Stream,
    (way, epilogue, height): (Way, Epilogue, Height),
    p: &Product,
    extra: &product::Extra,
) -> Result<(), Error> {
    let device = &devices()?[0];
    let tile = Tile {
        height,
        across: 2 + 2 * d.below(2),
        down: 1 + d.below(4),
    };
    let layout = match way {
        Way::Plain => {
            let mut kernel = product::plain_kernel(library, p.dtype, epilogue)?;
            return product::plain(&mut kernel, stream, p, extra);
        }
        Way::Matrix => None,
        Way::Blocks(layout) => Some(layout),
    };
    let is_packed = matches!(layout, None | Some(Layout::Packed));
    let packed = is_packed.then(|| {
        let mut pack = pack::pack_kernel(library, p.dtype)?;
        pack::pack(&mut pack, device, stream, p)
    });
    let packed = packed.transpose()?;
    let fits = match layout {
        None => p.reads_in_place(),
        Some(_) => p.first_in_blocks().is_ok(),
    };
    let copies = !fits || d.below(3) == 0;
    let copy = copies.then(|| {
        let mut rows = product::rows_kernel(library, p.dtype)?;
        product::rows(&mut rows, device, stream, p)
    });
    let copy = copy.transpose()?;
    let mut kernel = match layout {
        None => product::matmul_kernel(library, p, epilogue, height)?.unwrap(),
        Some(layout) => {
            assert_eq!(library.blocks(p), Ok(()));
            if layout != Layout::Packed {
                assert_eq!(p.second_in_blocks(), Ok(layout));
            }
            product::blocks_kernel(library, p, epilogue, height, layout)?
        }
    };
    let reads = product::Reads {
        copy: copy.as_ref(),
        packed: packed.as_ref(),
        blocks: layout,
    };
    product::matmul(&mut kernel, stream, p, tile, reads, extra)
}

/// What is multiplied, and how: the types of operands and result, and which tiles.
#[derive(Clone, Copy)]
struct Kind {
    dtype: DType,
    result: DType,
    way: Way,
    /// Of few rows, of many or of pairs, or all of them.
    height: Option<Height>,
}

/// Batch, rows, columns and depth; as 2D blocks take them, where they are read.
fn draw_sizes(d: &mut Draws, kind: Kind) -> [usize; 4] {
    let Kind { dtype, way, .. } = kind;
    // A few are wider than a group's tile.
    let widest = if d.below(8) == 0 { 300 } else { 90 };
    let mut sizes = [2, 70, widest, 150].map(|most| 1 + d.below(most));
    // Half of them are read in place.
    if d.below(2) == 0 {
        sizes[3] = sizes[3].next_multiple_of(64 / dtype.size());
    }
    let (step, least) = (4 / dtype.size(), 64 / dtype.size());
    let fit = |n: usize| n.next_multiple_of(step).max(least);
    match (sizes, way) {
        ([b, m, n, k], Way::Blocks(Layout::Rows)) => [b, m, fit(n), fit(k)],
        ([b, m, n, k], Way::Blocks(_)) => [b, m, n, fit(k)],
        (any, _) => any,
    }
}

/// One product; its largest error, of 1 + |reference|.
fn check(d: &mut Draws, library: &Library, epilogue: Epilogue, kind: Kind) -> f64 {
    let Kind {
        dtype, result, way, ..
    } = kind;
    let matrix = way != Way::Plain;
    let device = &devices().unwrap()[0];
    let mut stream = device.stream().unwrap();
    let [batch, m, n, k] = draw_sizes(d, kind);
    let room = d.below(4);
    // Groups: the second half of the batch is multiplied by the first matrices again.
    let repeat = if matrix { d.below(batch + 1) } else { 0 };
    let a_transposed = d.below(2) == 0;
    let b_transposed = match way {
        Way::Blocks(Layout::Rows) => false,
        Way::Blocks(Layout::Columns) => true,
        _ => d.below(2) == 0,
    };
    let (a, b) = match way {
        Way::Blocks(_) => (
            Host::for_blocks(d, dtype, [batch, m, k], a_transposed),
            Host::for_blocks(d, dtype, [batch, k, n], b_transposed),
        ),
        _ => (
            Host::new(d, dtype, [batch, m, k], a_transposed, room),
            Host::new(d, dtype, [batch, k, n], b_transposed, room),
        ),
    };
    let vector = |axis| match axis {
        Some(Axis::Row) => m * repeat.max(1),
        _ => n,
    };
    let bias_type = if epilogue.floats { DType::F32 } else { result };
    let bias = Host::new(d, bias_type, [1, 1, vector(epilogue.bias)], false, 0);
    let scale = Host::new(d, DType::F32, [1, 1, vector(epilogue.scale)], false, 0);
    let residual = Host::new(d, result, [batch, m, n], false, room);
    let pitch = n + 3;
    let [da, db, dbias, dscale, dres] =
        [&a, &b, &bias, &scale, &residual].map(|h| h.upload(device, &mut stream));
    let bytes = batch * m * pitch * result.size();
    let c = device.buffer(bytes).unwrap();
    stream.fill(&c, 0x5a, bytes).unwrap();
    let alpha = match (dtype, result) {
        (DType::I8, DType::I32) => 1.0,
        // Of numbers up to 127, which stand for those up to 1.
        (DType::I8, _) => 1.0 / 32768.0,
        _ => 0.5,
    };
    let product = Product {
        dtype,
        result,
        sizes: [batch, m, n, k],
        a: a.operand(&da),
        b: b.operand(&db),
        c: Operand {
            data: c.address(0).cast(),
            strides: [(m * pitch) as i64, pitch as i64, 1],
        },
        input: (!matrix).then(|| residual.operand(&dres)),
        alpha,
        beta: if matrix { 0.0 } else { 2.0 },
        repeat,
    };
    let extra = product::Extra {
        bias: dbias.address(0).cast(),
        scale: dscale.address(0).cast(),
        residual: residual.operand(&dres),
    };
    let heights = heights(device.architecture());
    let height = kind.height.unwrap_or(heights[d.below(heights.len())]);
    let how = (way, epilogue, height);
    multiply(d, library, &mut stream, how, &product, &extra).unwrap();
    let mut got = vec![0; bytes];
    stream.read(&c, &mut got).unwrap();
    let size = result.size();
    let mut worst: f64 = 0.0;
    for (at, got) in got.chunks(size).enumerate() {
        let (z, i, j) = (at / pitch / m, at / pitch % m, at % pitch);
        if j >= n {
            assert!(got.iter().all(|b| *b == 0x5a), "wrote beyond column {n}");
            continue;
        }
        let (za, row) = match repeat {
            0 => (z, i),
            repeat => (z % repeat, z % repeat * m + i),
        };
        let of = |h: &Host, z, i, j| match matrix {
            true => rounded(dtype, h.at(z, i, j)),
            false => h.at(z, i, j),
        };
        let sum: f64 = (0..k).map(|l| of(&a, za, i, l) * of(&b, z, l, j)).sum();
        let at = |axis| if axis == Axis::Row { row } else { j };
        let mut want = sum * f64::from(alpha);
        if !matrix {
            want += 2.0 * residual.at(z, i, j);
        }
        want *= epilogue.scale.map_or(1.0, |axis| scale.at(0, 0, at(axis)));
        want += epilogue.bias.map_or(0.0, |axis| bias.at(0, 0, at(axis)));
        if epilogue.residual == Some(Order::Before) {
            want += residual.at(z, i, j);
        }
        want = activated(want, epilogue.activation);
        if epilogue.residual == Some(Order::After) {
            want += residual.at(z, i, j);
        }
        let error = (decode(result, got) - want).abs() / (1.0 + want.abs());
        assert!(error.is_finite(), "{:?} at {z},{i},{j}", product.sizes);
        worst = worst.max(error);
    }
    worst
}

/// Shapes for each of what is tested: `IPEX_CASES`, or so many.
fn cases(otherwise: usize) -> usize {
    asked().unwrap_or(otherwise)
}

fn asked() -> Option<usize> {
    std::env::var("IPEX_CASES").ok()?.parse().ok()
}

const NONE: Epilogue = Epilogue {
    activation: Activation::None,
    bias: None,
    scale: None,
    floats: false,
    residual: None,
};

/// What graphs have: linear layers with activations, normalized convolutions, gates.
const EPILOGUES: [Epilogue; 5] = [
    NONE,
    Epilogue {
        activation: Activation::Gelu,
        bias: Some(Axis::Column),
        ..NONE
    },
    Epilogue {
        activation: Activation::Silu,
        bias: Some(Axis::Column),
        scale: Some(Axis::Column),
        residual: Some(Order::After),
        ..NONE
    },
    Epilogue {
        activation: Activation::Relu,
        bias: Some(Axis::Row),
        scale: Some(Axis::Row),
        floats: true,
        residual: Some(Order::Before),
    },
    Epilogue {
        activation: Activation::GeluTanh,
        ..NONE
    },
];

/// The types of operands and results.
const TYPES: [[DType; 2]; 7] = [
    [DType::F16, DType::F16],
    [DType::BF16, DType::BF16],
    [DType::I8, DType::F32],
    [DType::I8, DType::F16],
    [DType::I8, DType::BF16],
    [DType::I8, DType::I32],
    [DType::F32, DType::F32],
];

/// The most that a result may be off, of 1 + |reference|. Half of the last place of a result of 16 bits is 2^-11 and 2^-8 of it.
///
/// Sums of bytes are exact, and so is what a power of two makes of those below 2^24. Before the activation 5 operations round to
/// f32 (a conversion, alpha, scale, bias, residual): with a bias and a residual up to 1 that is at most 7 * 2^-24 of 1 + |x|.
/// No activation here multiplies an error of 1 + |x| to more than 1.2 of 1 + |result|; erf is off by 1.5e-7 (`epilogue.h`), times x / 2;
/// the rest is the rounding of the activation's own operations.
fn bound([dtype, result]: [DType; 2], epilogue: Epilogue) -> f64 {
    match (dtype, result) {
        (_, DType::F16) => 5e-4,
        (_, DType::BF16) => 4e-3,
        (DType::I8, DType::F32) if epilogue != NONE => 1e-6,
        (DType::I8, _) => 0.0,
        _ => 1e-5,
    }
}

/// What tiles there are.
fn heights(architecture: Architecture) -> Vec<Height> {
    let all = Height::ALL.into_iter();
    all.filter(|h| h.is_of(architecture)).collect()
}

/// Multiplies in all types with all epilogues. Each is a module to compile, or two where there are tiles for few rows, which takes most of the time:
/// unless [`asked`] for all, one tile is tested with each type and epilogue, the other one with the next.
fn check_all(d: &mut Draws, library: &Library, types: &[[DType; 2]], way: Way, shapes: usize) {
    let architecture = devices().unwrap()[0].architecture();
    let lanes = architecture.matrix_sub_group();
    let heights = heights(architecture);
    for (t, &[dtype, result]) in types.iter().enumerate() {
        for (e, &epilogue) in EPILOGUES.iter().enumerate() {
            if result == DType::I32 && epilogue != NONE {
                continue;
            }
            // Of bytes, results alternate too.
            let place = match way {
                Way::Blocks(layout) => 1 + layout as usize,
                _ => usize::from(lanes == Some(16)),
            };
            let left_out = asked().is_none() && !(t + e + place).is_multiple_of(3);
            if left_out && dtype == DType::I8 && result != DType::I32 {
                continue;
            }
            let kind = Kind {
                dtype,
                result,
                way,
                height: asked().is_none().then(|| heights[(t + e) % heights.len()]),
            };
            let worst = (0..cases(shapes))
                .map(|_| check(d, library, epilogue, kind))
                .fold(0.0, f64::max);
            eprintln!("{way:?} {dtype} -> {result} {epilogue:?}: {worst:.2e}");
            let bound = bound([dtype, result], epilogue);
            assert!(
                worst <= bound,
                "{way:?} {dtype} -> {result} {epilogue:?}: {worst:e}, bound {bound:e}"
            );
        }
    }
}

#[test]
#[ignore = "needs a device"]
fn by_matrix_instructions() {
    let device = &devices().unwrap()[0];
    let (library, mut d) = (Library::new(device), Draws(7));
    if device.architecture().matrix_sub_group().is_none() {
        let p = of_types(DType::F16, DType::F16);
        let none = product::matmul_kernel(&library, &p, NONE, Height::Few);
        assert!(none.unwrap().is_none());
        return;
    }
    check_all(&mut d, &library, &TYPES, Way::Matrix, 20);
}

#[test]
#[ignore = "needs a device"]
fn by_blocks() {
    let device = &devices().unwrap()[0];
    let (library, mut d) = (Library::new(device), Draws(8));
    let known = device.architecture().has_blocks();
    if !known || std::env::var_os("ZE_CPU_BLOCKS").is_some() {
        return;
    }
    for layout in [Layout::Packed, Layout::Rows, Layout::Columns] {
        // f32, the last one, is rounded, and packed for that.
        let types = if layout == Layout::Packed { 7 } else { 6 };
        check_all(&mut d, &library, &TYPES[..types], Way::Blocks(layout), 14);
    }
}

/// A product of 40 by 40 by 64 whose operands nobody reads.
fn of_types(dtype: DType, result: DType) -> Product {
    let operand = |row| Operand {
        data: std::ptr::without_provenance(0x1000),
        strides: [0, row, 1],
    };
    Product {
        dtype,
        result,
        sizes: [1, 40, 40, 64],
        a: operand(64),
        b: operand(40),
        c: operand(40),
        input: None,
        alpha: 1.0,
        beta: 0.0,
        repeat: 0,
    }
}

#[test]
#[ignore = "needs a device"]
fn no_instructions_and_why() {
    let device = &devices().unwrap()[0];
    let (library, mut stream) = (Library::new(device), device.stream().unwrap());
    let why =
        |p: &Product, epilogue| match product::matmul_kernel(&library, p, epilogue, Height::Many) {
            Err(Error::Product(why)) => why,
            other => panic!("{:?}", other.map(|kernel| kernel.is_some())),
        };
    let types = |a, c| assert_eq!(why(&of_types(a, c), NONE), NoProduct::Types(a, c));
    types(DType::I8, DType::I64);
    types(DType::F16, DType::F32);
    types(DType::I32, DType::I32);
    let gelu = EPILOGUES[4];
    let sums = of_types(DType::I8, DType::I32);
    assert_eq!(why(&sums, gelu), NoProduct::Epilogue(gelu));
    let scaled = Product { alpha: 0.5, ..sums };
    assert_eq!(why(&scaled, NONE), NoProduct::Scaled(0.5));
    let depth = |k, result| Product {
        sizes: [1, 40, 40, k],
        ..of_types(DType::I8, result)
    };
    let deep = NoProduct::Deep(1 << 17, DType::F32);
    assert_eq!(why(&depth(1 << 17, DType::F32), gelu), deep);
    for fits in [depth((1 << 17) - 1, DType::F32), depth(1 << 17, DType::I32)] {
        assert_eq!(fits.has_kernel(NONE), Ok(()));
    }
    // First matrices that are not copied and would have to be, rows beyond 32 bits, and nothing to sum.
    let Some(mut kernel) = product::matmul_kernel(&library, &sums, NONE, Height::Few).unwrap()
    else {
        return;
    };
    let mut refused = |change: &dyn Fn(&mut Product)| {
        let (mut p, extra) = (sums, product::Extra::default());
        change(&mut p);
        let tile = Tile::choose(&p, device).unwrap();
        let reads = product::Reads::default();
        let done = product::matmul(&mut kernel, &mut stream, &p, tile, reads, &extra);
        done.unwrap_err()
    };
    let apart = refused(&|p| p.a.strides = [0, 1, 40]);
    assert_eq!(apart, NoProduct::Apart(40).into());
    for ragged in [
        refused(&|p| p.sizes[3] = 60),
        refused(&|p| p.a.strides[1] = 65),
        refused(&|p| p.a.strides[0] = 2),
        refused(&|p| p.a.strides[1] = 1 << 26),
        refused(&|p| p.a.data = std::ptr::without_provenance(0x1002)),
    ] {
        assert_eq!(ragged, NoProduct::Ragged.into());
    }
    let far = refused(&|p| p.c.strides[1] = 1 << 26);
    assert_eq!(far, NoProduct::Far(1 << 26).into());
    let nothing = refused(&|p| p.sizes[3] = 0);
    assert_eq!(nothing, NoProduct::Nothing.into());
    // Plans ask before, and have the plain kernel compute these.
    let mut plain = [sums; 4];
    plain[0].c.strides[1] = 1 << 26;
    plain[1].c.strides[2] = 2;
    plain[2].sizes[3] = 0;
    plain[3].sizes[3] = 1 << 26;
    assert!(sums.is_dense() && !plain.iter().any(Product::is_dense));
    let floats = of_types(DType::F16, DType::F32);
    let done = product::blocks_kernel(&library, &floats, NONE, Height::Few, Layout::Packed);
    let none = NoBlocks::Types(DType::F16, DType::F32);
    assert_eq!(done.err(), Some(NoProduct::Blocks(none).into()));
}

#[test]
#[ignore = "needs a device"]
fn no_blocks_and_why() {
    let device = &devices().unwrap()[0];
    let library = Library::new(device);
    let p = |dtype, k: usize| {
        let mut p = of_types(dtype, dtype);
        (p.sizes[3], p.a.strides[1]) = (k, k as i64);
        p
    };
    let fits = p(DType::F16, 64);
    match device.architecture() {
        Architecture::XeHpc | Architecture::Xe2 => {}
        _ => return assert_eq!(library.blocks(&fits), Err(NoBlocks::Device)),
    }
    let types = NoBlocks::Types(DType::I32, DType::I32);
    assert_eq!(library.blocks(&p(DType::I32, 64)), Err(types));
    let rounded = NoBlocks::Rounded(DType::F32);
    assert_eq!(p(DType::F32, 64).first_in_blocks(), Err(rounded));
    let pitch = NoBlocks::First(Misfit::Pitch(36));
    assert_eq!(p(DType::F16, 18).first_in_blocks(), Err(pitch));
    let old = std::env::var("ZE_CPU_BLOCKS").as_deref() == Ok("0");
    match library.blocks(&fits) {
        Err(NoBlocks::Driver(why)) if old => {
            let name = "ZE_RESULT_ERROR_INVALID_MODULE_UNLINKED";
            assert!(why.contains(name), "{why}");
        }
        Ok(()) if !old => {}
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "needs a device"]
fn without_matrix_instructions() {
    let device = &devices().unwrap()[0];
    let (library, mut d) = (Library::new(device), Draws(9));
    for (dtype, bound) in [(DType::F32, 2e-6), (DType::F16, 5e-4), (DType::BF16, 4e-3)] {
        let kind = Kind {
            dtype,
            result: dtype,
            way: Way::Plain,
            height: None,
        };
        for epilogue in EPILOGUES {
            let worst = (0..cases(6))
                .map(|_| check(&mut d, &library, epilogue, kind))
                .fold(0.0, f64::max);
            assert!(worst <= bound, "{dtype} {epilogue:?}: {worst:e}");
        }
    }
}
