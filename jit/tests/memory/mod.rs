//! Memory to run kernels on.

use ipex_runtime::DType;

/// Elements of mixed size and sign, with NaN and infinity among the floats.
pub fn fill(dtype: DType, n: usize, seed: usize) -> Vec<u8> {
    let numbers = (0..n).map(|i| ((i * 37 + seed * 101) % 211) as f64 - 100.0);
    numbers
        .enumerate()
        .flat_map(|(i, x)| {
            let x = match (i + seed) % 23 {
                5 => f64::NAN,
                7 => f64::INFINITY,
                11 => x * 1e-40,
                _ => x / 4.0,
            };
            match dtype {
                DType::F64 => x.to_le_bytes().to_vec(),
                DType::F32 => (x as f32).to_le_bytes().to_vec(),
                DType::F16 => half::f16::from_f64(x).to_le_bytes().to_vec(),
                DType::BF16 => half::bf16::from_f64(x).to_le_bytes().to_vec(),
                DType::Bool => vec![u8::from(x > 0.0)],
                DType::U8 | DType::I8 => vec![x as i8 as u8],
                DType::I16 => (x as i16).to_le_bytes().to_vec(),
                DType::I32 => (x as i32).to_le_bytes().to_vec(),
                DType::I64 => (x as i64).to_le_bytes().to_vec(),
            }
        })
        .collect()
}

/// Bytes with every NaN made the same.
pub fn canonical(dtype: DType, bytes: &[u8]) -> Vec<u8> {
    let nan = |chunk: &[u8]| match dtype {
        DType::F16 => half::f16::from_le_bytes([chunk[0], chunk[1]]).is_nan(),
        DType::BF16 => half::bf16::from_le_bytes([chunk[0], chunk[1]]).is_nan(),
        DType::F32 => f32::from_le_bytes(chunk.try_into().unwrap()).is_nan(),
        DType::F64 => f64::from_le_bytes(chunk.try_into().unwrap()).is_nan(),
        _ => false,
    };
    // Min and max may give either zero.
    let chunks = bytes.chunks(dtype.size());
    chunks
        .flat_map(|c| {
            let negative_zero = dtype.is_float()
                && c[c.len() - 1] == 0x80
                && c[..c.len() - 1].iter().all(|b| *b == 0);
            if nan(c) {
                vec![0xFF; c.len()]
            } else if negative_zero {
                vec![0; c.len()]
            } else {
                c.to_vec()
            }
        })
        .collect()
}
