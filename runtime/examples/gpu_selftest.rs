//! For the owner of a GPU: whether products are right, and how fast they are. Prints a report; `make gpu-selftest` keeps it.
//!
//! Sizes are those of `IPEX_SELFTEST_SIZE` (2048): on the tests' driver take a small one, whose times say nothing.

use half::{bf16, f16};
use ipex_runtime::DType;
use ipex_runtime::level_zero::blocks::Layout;
use ipex_runtime::level_zero::epilogue::Epilogue;
use ipex_runtime::level_zero::library::Library;
use ipex_runtime::level_zero::pack;
use ipex_runtime::level_zero::product::{self, Extra, Operand, Product, Reads};
use ipex_runtime::level_zero::tile::Tile;
use ipex_runtime::level_zero::{Buffer, Device, Error, Stream, devices};
use std::time::Instant;

fn main() -> Result<(), Error> {
    let size = std::env::var("IPEX_SELFTEST_SIZE").ok();
    let size = size.and_then(|s| s.parse().ok()).unwrap_or(2048);
    for device in devices()? {
        let gib = device.memory_bytes() as f64 / (1u64 << 30) as f64;
        println!(
            "{}: {:?}, {gib:.1} GiB",
            device.name(),
            device.architecture()
        );
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            products(device, dtype, size)?;
        }
        copies(device, size)?;
    }
    Ok(())
}

fn encode(dtype: DType, x: f64) -> Vec<u8> {
    match dtype {
        DType::F16 => f16::from_f64(x).to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f64(x).to_le_bytes().to_vec(),
        _ => (x as f32).to_le_bytes().to_vec(),
    }
}

fn decode(dtype: DType, b: &[u8]) -> f64 {
    match dtype {
        DType::F16 => f16::from_bits(u16::from_le_bytes([b[0], b[1]])).to_f64(),
        DType::BF16 => bf16::from_bits(u16::from_le_bytes([b[0], b[1]])).to_f64(),
        _ => f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into(),
    }
}

/// Numbers that are exact in every type, so that only sums round.
fn number(k: usize) -> f64 {
    ((k * 37 + k / 64) % 17) as f64 / 8.0 - 1.0
}

fn matrix(device: &Device, stream: &mut Stream, dtype: DType, n: usize) -> Result<Buffer, Error> {
    let bytes: Vec<u8> = (0..n * n).flat_map(|k| encode(dtype, number(k))).collect();
    let buffer = device.buffer(bytes.len())?;
    stream.write(&buffer, &bytes)?;
    Ok(buffer)
}

/// A square product, by matrix instructions where the device has them: its largest error in some rows, and its speed.
fn products(device: &Device, dtype: DType, n: usize) -> Result<(), Error> {
    let (library, mut stream) = (Library::new(device), device.stream()?);
    let [a, b] = [(); 2].map(|()| matrix(device, &mut stream, dtype, n));
    let (a, b, c) = (a?, b?, device.buffer(n * n * dtype.size())?);
    let operand = |x: &Buffer| Operand {
        data: x.address(0).cast(),
        strides: [0, n as i64, 1],
    };
    let p = Product {
        dtype,
        result: dtype,
        sizes: [1, n, n, n],
        a: operand(&a),
        b: operand(&b),
        c: operand(&c),
        input: None,
        alpha: 1.0,
        beta: 0.0,
        repeat: 0,
    };
    let extra = Extra::default();
    let none = Epilogue::default();
    let by_matrix = match (dtype, Tile::choose(&p, device)) {
        (DType::F32, _) | (_, None) => None,
        (_, Some(tile)) => {
            let kernel = product::matmul_kernel(&library, &p, none, tile.height)?;
            kernel.map(|kernel| (kernel, tile))
        }
    };
    let Some((mut kernel, tile)) = by_matrix else {
        let mut kernel = product::plain_kernel(&library, dtype, none)?;
        let best = best(&mut stream, |s| product::plain(&mut kernel, s, &p, &extra))?;
        return report(&mut stream, &c, &p, "plain", best);
    };
    let mut pack = pack::pack_kernel(&library, dtype)?;
    let packed = pack::pack(&mut pack, device, &mut stream, &p)?;
    let mut reads = Reads {
        packed: Some(&packed),
        ..Reads::default()
    };
    let time = best(&mut stream, |s| {
        product::matmul(&mut kernel, s, &p, tile, reads, &extra)
    })?;
    report(
        &mut stream,
        &c,
        &p,
        &format!("matrix instructions, {tile:?}"),
        time,
    )?;
    if let Err(why) = library.blocks(&p).and_then(|()| p.first_in_blocks()) {
        println!("  {dtype} {n}^3, 2D blocks: not read, {why}");
        return Ok(());
    }
    for (layout, what) in [
        (Layout::Packed, "2D blocks, packed"),
        (Layout::Rows, "2D blocks, both in place"),
        (Layout::Columns, "2D blocks, transposed in place"),
    ] {
        let mut kernel = product::blocks_kernel(&library, &p, none, tile.height, layout)?;
        reads.blocks = Some(layout);
        let p = match layout {
            Layout::Columns => transposed(&p),
            _ => p,
        };
        stream.fill(&c, 0xff, n * n * dtype.size())?;
        let time = best(&mut stream, |s| {
            product::matmul(&mut kernel, s, &p, tile, reads, &extra)
        })?;
        report(&mut stream, &c, &p, what, time)?;
    }
    Ok(())
}

/// A @ B^T.
fn transposed(p: &Product) -> Product {
    let [batch, row, column] = p.b.strides;
    let b = Operand {
        strides: [batch, column, row],
        ..p.b
    };
    Product { b, ..*p }
}

/// The best of five times.
fn best(
    stream: &mut Stream,
    mut run: impl FnMut(&mut Stream) -> Result<(), Error>,
) -> Result<f64, Error> {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        best = best.min(timed(stream, &mut run)?);
    }
    Ok(best)
}

/// Compares some rows of the result with f64.
fn report(
    stream: &mut Stream,
    c: &Buffer,
    p: &Product,
    name: &str,
    best: f64,
) -> Result<(), Error> {
    let (dtype, n) = (p.dtype, p.sizes[3]);
    let mut got = vec![0; n * n * dtype.size()];
    stream.read(c, &mut got)?;
    let [_, down, across] = p.b.strides.map(|s| s as usize);
    let mut worst: f64 = 0.0;
    for row in [0, n / 2, n - 1] {
        for col in 0..n {
            let want: f64 = (0..n)
                .map(|k| number(row * n + k) * number(k * down + col * across))
                .sum();
            let at = (row * n + col) * dtype.size();
            let error = (decode(dtype, &got[at..]) - want).abs() / (1.0 + want.abs());
            worst = worst.max(if error.is_nan() { f64::INFINITY } else { error });
        }
    }
    let bound = match dtype {
        DType::F32 => 1e-5,
        DType::F16 => 5e-4,
        _ => 4e-3,
    };
    let verdict = if worst <= bound { "right" } else { "WRONG" };
    let tflops = 2.0 * (n as f64).powi(3) / best / 1e12;
    println!(
        "  {dtype} {n}^3, {name}: {verdict} (error {worst:.1e}), {:.3} ms, {tflops:.2} TFLOP/s",
        best * 1e3
    );
    Ok(())
}

/// Seconds from the launch to its end, as the host sees it.
fn timed(
    stream: &mut Stream,
    run: impl FnOnce(&mut Stream) -> Result<(), Error>,
) -> Result<f64, Error> {
    stream.wait()?;
    let start = Instant::now();
    run(stream)?;
    stream.wait()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Copies inside of the device's memory, and what a launch costs the host.
fn copies(device: &Device, n: usize) -> Result<(), Error> {
    let bytes = 32 * n * n;
    let (from, to, mut stream) = (
        device.buffer(bytes)?,
        device.buffer(bytes)?,
        device.stream()?,
    );
    stream.fill(&from, 1, bytes)?;
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        best = best.min(timed(&mut stream, |s| s.transfer(&from, &to, bytes))?);
    }
    println!(
        "  copies of {} MiB: {:.1} GB/s read and written",
        bytes >> 20,
        2.0 * bytes as f64 / best / 1e9
    );
    Ok(())
}
