//! Products on `ze_cpu` against f64: ragged shapes, both transposes, batches, poisoned padding, epilogues.

use half::{bf16, f16};
use ipex_runtime::DType;
use ipex_runtime::level_zero::epilogue::{Activation, Axis, Epilogue, Order};
use ipex_runtime::level_zero::library::Library;
use ipex_runtime::level_zero::{Buffer, Device, Stream, devices, product};
use product::{Operand, Product};
use ze_cpu::tiers;

#[test]
fn on_every_device() {
    tiers::run("products on ze_cpu", &tiers::DEVICES[..3]);
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
        let mut bytes = Vec::new();
        for k in 0..batch * outer * pitch {
            let poison = k % pitch >= inner;
            bytes.extend(encode(dtype, if poison { f64::NAN } else { d.number() }));
        }
        let strides = if transposed {
            [outer * pitch, 1, pitch]
        } else {
            [outer * pitch, pitch, 1]
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

/// One product; its largest error, of 1 + |reference|.
fn check(d: &mut Draws, library: &Library, dtype: DType, epilogue: Epilogue, matrix: bool) -> f64 {
    let device = &devices().unwrap()[0];
    let mut stream = device.stream().unwrap();
    // A few are wider than a group's tile.
    let widest = if d.below(8) == 0 { 300 } else { 90 };
    let [batch, m, n, k] = [2, 70, widest, 100].map(|most| 1 + d.below(most));
    let room = d.below(4);
    // Groups: the second half of the batch is multiplied by the first matrices again.
    let repeat = if matrix && dtype != DType::I8 {
        d.below(batch + 1)
    } else {
        0
    };
    let a_transposed = dtype != DType::I8 && d.below(2) == 0;
    let b_transposed = d.below(2) == 0;
    let a = Host::new(d, dtype, [batch, m, k], a_transposed, room);
    let b = Host::new(d, dtype, [batch, k, n], b_transposed, room);
    let out_type = if dtype == DType::I8 {
        DType::I32
    } else {
        dtype
    };
    let vector = |axis| match axis {
        Some(Axis::Row) => m * repeat.max(1),
        _ => n,
    };
    let bias_type = if epilogue.floats {
        DType::F32
    } else {
        out_type
    };
    let bias = Host::new(d, bias_type, [1, 1, vector(epilogue.bias)], false, 0);
    let scale = Host::new(d, DType::F32, [1, 1, vector(epilogue.scale)], false, 0);
    let residual = Host::new(d, dtype, [batch, m, n], false, room);
    let pitch = n + 3;
    let [da, db, dbias, dscale, dres] =
        [&a, &b, &bias, &scale, &residual].map(|h| h.upload(device, &mut stream));
    let bytes = batch * m * pitch * out_type.size();
    let c = device.buffer(bytes).unwrap();
    stream.fill(&c, 0x5a, bytes).unwrap();
    let product = Product {
        dtype,
        result: out_type,
        sizes: [batch, m, n, k],
        a: a.operand(&da),
        b: b.operand(&db),
        c: Operand {
            data: c.address(0).cast(),
            strides: [(m * pitch) as i64, pitch as i64, 1],
        },
        input: (!matrix).then(|| residual.operand(&dres)),
        alpha: 0.5,
        beta: if matrix { 0.0 } else { 2.0 },
        repeat,
    };
    let extra = product::Extra {
        bias: dbias.address(0).cast(),
        scale: dscale.address(0).cast(),
        residual: residual.operand(&dres),
    };
    let alpha = if dtype == DType::I8 { 1.0 } else { 0.5 };
    if matrix {
        let mut pack = product::pack_kernel(library, dtype).unwrap();
        let packed = product::pack(&mut pack, device, &mut stream, &product).unwrap();
        let copies = !product.reads_in_place() || d.below(3) == 0 && dtype != DType::I8;
        let copy = (copies && dtype != DType::I8).then(|| {
            let mut rows = product::rows_kernel(library, dtype).unwrap();
            product::rows(&mut rows, device, &mut stream, &product).unwrap()
        });
        let mut kernel = product::matmul_kernel(library, &product, epilogue)
            .unwrap()
            .unwrap();
        let copy = copy.as_ref();
        product::matmul(&mut kernel, &mut stream, &product, copy, &packed, &extra).unwrap();
    } else {
        let mut kernel = product::plain_kernel(library, dtype, epilogue).unwrap();
        product::plain(&mut kernel, &mut stream, &product, &extra).unwrap();
    }
    let mut got = vec![0; bytes];
    stream.read(&c, &mut got).unwrap();
    let size = out_type.size();
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
        let mut want = sum * alpha;
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
        let error = (decode(out_type, got) - want).abs() / (1.0 + want.abs());
        assert!(error.is_finite(), "{:?} at {z},{i},{j}", product.sizes);
        worst = worst.max(error);
    }
    worst
}

/// Shapes for each type and epilogue: `IPEX_CASES`, or so many.
fn cases(otherwise: usize) -> usize {
    let asked = std::env::var("IPEX_CASES").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(otherwise)
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

/// Whether every type is tested with it: none, or one that has all parts.
fn is_for_all(epilogue: &Epilogue) -> bool {
    *epilogue == NONE || epilogue.scale.is_some()
}

#[test]
#[ignore = "needs a device"]
fn by_matrix_instructions() {
    let device = &devices().unwrap()[0];
    let (library, mut d) = (Library::new(device), Draws(7));
    if device.architecture().matrix_sub_group().is_none() {
        let none = library.matmul(DType::F16, DType::F16, NONE, false).unwrap();
        assert!(none.is_none());
        return;
    }
    let bounds = [
        (DType::F16, 5e-4),
        (DType::BF16, 4e-3),
        (DType::I8, 0.0),
        (DType::F32, 1e-5),
    ];
    for (dtype, bound) in bounds {
        for epilogue in EPILOGUES {
            // Each pair is a module to compile.
            let shapes = match dtype {
                DType::F16 => 40,
                DType::BF16 if is_for_all(&epilogue) => 67,
                DType::I8 if epilogue == NONE => 200,
                DType::F32 if is_for_all(&epilogue) => 12,
                _ => continue,
            };
            let worst = (0..cases(shapes))
                .map(|_| check(&mut d, &library, dtype, epilogue, true))
                .fold(0.0, f64::max);
            eprintln!("{dtype} {epilogue:?}: {worst:.2e}");
            assert!(worst <= bound, "{dtype} {epilogue:?}: {worst:e}");
        }
    }
}

#[test]
#[ignore = "needs a device"]
fn without_matrix_instructions() {
    let device = &devices().unwrap()[0];
    let (library, mut d) = (Library::new(device), Draws(9));
    for (dtype, bound) in [(DType::F32, 2e-6), (DType::F16, 5e-4), (DType::BF16, 4e-3)] {
        for epilogue in EPILOGUES {
            let worst = (0..cases(6))
                .map(|_| check(&mut d, &library, dtype, epilogue, false))
                .fold(0.0, f64::max);
            assert!(worst <= bound, "{dtype} {epilogue:?}: {worst:e}");
        }
    }
}
