//! Prints the exports that let any program run on `ze_cpu`: `gpu-env [hpg|hpc|xe2|plain]`.

fn main() {
    let device = std::env::args().nth(1).unwrap_or_else(|| "hpg".into());
    match ze_cpu::environment::variables(&device) {
        Ok(variables) => {
            for (name, value) in variables {
                println!("export {name}='{}'", value.to_string_lossy());
            }
        }
        Err(missing) => {
            eprintln!("{missing}");
            std::process::exit(1);
        }
    }
}
