//! Contents of memory as text: `[1, 2.5, nan]`, `[0; 70]` (one value 70 times), `0..70` (counting).

use half::{bf16, f16};
use ipex_jit::kernel::{Access, Kernel};
use ipex_runtime::DType;

/// One run of a kernel: what is read, and what must be written.
pub struct Run {
    /// For each parameter that is read.
    inputs: Vec<Vec<String>>,
    /// For each parameter that is written.
    pub outputs: Vec<Vec<String>>,
    /// How far a float may be off, in units in the last place.
    pub ulp: u64,
}

impl Run {
    /// Reads what follows `run` in a directive: `[ within N ulp]: inputs -> outputs`.
    pub fn read(text: &str) -> Result<Run, String> {
        let (options, sides) = text.split_once(':').ok_or("run without `:`")?;
        let (inputs, outputs) = sides.split_once("->").ok_or("run without `->`")?;
        let words: Vec<&str> = options.split_whitespace().collect();
        let ulp = match words[..] {
            [] => 0,
            ["within", n, "ulp"] => n.parse().map_err(|_| format!("{n} ulp"))?,
            _ => return Err(format!("run{options}")),
        };
        Ok(Run {
            inputs: lists(inputs)?,
            outputs: lists(outputs)?,
            ulp,
        })
    }

    /// Memory of all parameters: inputs as given, outputs filled with other bytes.
    pub fn memory(&self, kernel: &Kernel) -> Result<Vec<Vec<u8>>, String> {
        let (mut inputs, mut outputs) = (self.inputs.iter(), self.outputs.iter());
        let mut memory = Vec::new();
        for p in kernel.params.values() {
            let given = (p.access != Access::Out).then(|| inputs.next());
            let wanted = (p.access != Access::In).then(|| outputs.next());
            memory.push(match (given, wanted) {
                (Some(given), _) => encode(p.dtype, given.ok_or("too few inputs")?)?,
                (None, Some(wanted)) => {
                    let n = wanted.ok_or("too few outputs")?.len();
                    vec![0xA5; n * p.dtype.size()]
                }
                (None, None) => Vec::new(),
            });
        }
        if inputs.next().is_some() || outputs.next().is_some() {
            return Err("too many lists".into());
        }
        Ok(memory)
    }
}

fn lists(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut rest = text.trim();
    let mut lists = Vec::new();
    while !rest.is_empty() {
        let end = match rest.find(']') {
            Some(n) if rest.starts_with('[') => n + 1,
            _ => rest.find(',').unwrap_or(rest.len()),
        };
        lists.push(list(&rest[..end])?);
        rest = rest[end..].trim_start_matches([',', ' ']);
    }
    Ok(lists)
}

fn list(text: &str) -> Result<Vec<String>, String> {
    let count = |n: &str| {
        n.trim()
            .parse::<usize>()
            .map_err(|_| format!("list {text}"))
    };
    if let Some((from, to)) = text.split_once("..") {
        return Ok((count(from)?..count(to)?).map(|n| n.to_string()).collect());
    }
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let inner = inner.ok_or_else(|| format!("list {text}"))?;
    if let Some((value, n)) = inner.split_once(';') {
        return Ok(vec![value.trim().to_string(); count(n)?]);
    }
    Ok(inner.split(',').map(|v| v.trim().to_string()).collect())
}

fn encode(dtype: DType, values: &[String]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for text in values {
        let wrong = |_| format!("{text} is no {dtype}");
        let float = || {
            text.parse::<f64>()
                .map_err(|_| format!("{text} is no {dtype}"))
        };
        match dtype {
            DType::F64 => bytes.extend(float()?.to_le_bytes()),
            DType::F32 => bytes.extend((float()? as f32).to_le_bytes()),
            DType::F16 => bytes.extend(f16::from_f64(float()?).to_le_bytes()),
            DType::BF16 => bytes.extend(bf16::from_f64(float()?).to_le_bytes()),
            DType::I64 => bytes.extend(text.parse::<i64>().map_err(wrong)?.to_le_bytes()),
            DType::I32 => bytes.extend(text.parse::<i32>().map_err(wrong)?.to_le_bytes()),
            DType::I16 => bytes.extend(text.parse::<i16>().map_err(wrong)?.to_le_bytes()),
            DType::I8 => bytes.extend(text.parse::<i8>().map_err(wrong)?.to_le_bytes()),
            DType::U8 => bytes.extend(text.parse::<u8>().map_err(wrong)?.to_le_bytes()),
            DType::Bool => bytes.push(match text.as_str() {
                "true" => 1,
                "false" => 0,
                _ => return Err(format!("{text} is no bool")),
            }),
        }
    }
    Ok(bytes)
}

/// The bits as a number whose order is that of the values, so that neighbours differ by 1; both
/// zeros are 0 and all NaNs the same.
fn ordered(dtype: DType, element: &[u8]) -> i64 {
    let mut bytes = [0; 8];
    bytes[..element.len()].copy_from_slice(element);
    let bits = i64::from_le_bytes(bytes);
    let (width, infinity) = match dtype {
        DType::F64 => (64, 0x7ff0 << 48),
        DType::F32 => (32, 0x7f80 << 16),
        DType::F16 => (16, 0x7c00),
        DType::BF16 => (16, 0x7f80),
        _ => return bits,
    };
    let magnitude = bits & (i64::MAX >> (64 - width));
    if magnitude > infinity {
        i64::MAX
    } else if bits >> (width - 1) & 1 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

/// Whether memory has the expected contents; an error names the first element that has not.
pub fn agree(dtype: DType, got: &[u8], want: &[String], ulp: u64) -> Result<(), String> {
    let bytes = encode(dtype, want)?;
    let size = dtype.size();
    let pairs = got.chunks(size).zip(bytes.chunks(size)).zip(want);
    for (n, ((g, w), text)) in pairs.enumerate() {
        let apart = ordered(dtype, g).abs_diff(ordered(dtype, w));
        let allowed = if dtype.is_float() { ulp } else { 0 };
        if apart > allowed {
            let g = g.iter().rev().map(|b| format!("{b:02x}"));
            let g: String = g.collect();
            return Err(format!("[{n}] is 0x{g}, {apart} ulp from {text}"));
        }
    }
    Ok(())
}
