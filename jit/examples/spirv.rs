//! Writes the SPIR-V of a kernel's text to a file: `spirv KERNEL OUTPUT`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, from, to] = arguments.as_slice() else {
        return Err("usage: spirv KERNEL OUTPUT".into());
    };
    let kernel = ipex_jit::kernel::parse(&std::fs::read_to_string(from)?)?;
    Ok(std::fs::write(
        to,
        ipex_jit::spirv::compile(&kernel)?.spirv,
    )?)
}
