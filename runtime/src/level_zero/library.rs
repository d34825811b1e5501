//! The kernels of `runtime/kernels`, compiled when they are first asked for.

use super::blocks::{Layout, NoBlocks};
use super::context::Device;
use super::epilogue::Epilogue;
use super::error::Error;
use super::module::{Module, Source};
use super::product::Product;
use super::refusal::NoProduct;
use super::tile::Height;
use crate::DType;
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

macro_rules! modules {
    ($($name:literal)*) => {
        /// Names and SPIR-V.
        const MODULES: &[(&str, &[u8])] = &[
            $(($name, include_bytes!(concat!("../../kernels/", $name, ".spv"))),)*
        ];
    };
}

modules! {
    "matmul_f16_sg8" "matmul_f16_sg8_pair" "matmul_f16_sg8_few" "matmul_f16_sg16" "matmul_f16_sg16_few" "matmul_f16_sg16_2d" "matmul_f16_sg16_2d_few"
    "matmul_bf16_sg8" "matmul_bf16_sg8_f32" "matmul_bf16_sg8_pair" "matmul_bf16_sg8_pair_f32" "matmul_bf16_sg8_few" "matmul_bf16_sg8_few_f32"
    "matmul_bf16_sg16" "matmul_bf16_sg16_f32" "matmul_bf16_sg16_few" "matmul_bf16_sg16_few_f32" "matmul_bf16_sg16_2d" "matmul_bf16_sg16_2d_few"
    "matmul_bf16_sg16_2d_f32" "matmul_bf16_sg16_2d_few_f32"
    "matmul_i8_sg8" "matmul_i8_sg8_f32" "matmul_i8_sg8_f16" "matmul_i8_sg8_bf16" "matmul_i8_sg8_pair" "matmul_i8_sg8_pair_f32"
    "matmul_i8_sg8_pair_f16" "matmul_i8_sg8_pair_bf16" "matmul_i8_sg8_few" "matmul_i8_sg8_few_f32" "matmul_i8_sg8_few_f16" "matmul_i8_sg8_few_bf16"
    "matmul_i8_sg16" "matmul_i8_sg16_f32" "matmul_i8_sg16_f16" "matmul_i8_sg16_bf16" "matmul_i8_sg16_few" "matmul_i8_sg16_few_f32"
    "matmul_i8_sg16_few_f16" "matmul_i8_sg16_few_bf16" "matmul_i8_sg16_2d" "matmul_i8_sg16_2d_f32" "matmul_i8_sg16_2d_f16" "matmul_i8_sg16_2d_bf16"
    "matmul_i8_sg16_2d_few" "matmul_i8_sg16_2d_few_f32" "matmul_i8_sg16_2d_few_f16" "matmul_i8_sg16_2d_few_bf16" "pack16" "pack8" "pack_f32" "rows8"
    "rows16" "rows_f32" "columns" "windows" "product_f32" "product_f16" "product_bf16" "attention_f32" "attention_f16" "attention_bf16" "window_f32"
    "window_f16" "window_bf16" "flash_f16_sg8_64" "flash_f16_sg16_64" "flash_bf16_sg8_64" "flash_bf16_sg16_64" "flash_f16_sg16_128"
    "flash_bf16_sg16_128"
}

/// A name and specialization constants.
type Key = (&'static str, Vec<(u32, i32)>);

/// Compiled modules of one device.
pub struct Library {
    device: Device,
    modules: Mutex<HashMap<Key, Module>>,
    /// Whether the driver compiles loads of 2D blocks, known after the first product that would have them.
    blocks: OnceLock<Result<(), NoBlocks>>,
}

/// How a type is written in names of modules.
fn suffix(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F32 => "f32",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        DType::I8 => "i8",
        _ => return None,
    })
}

/// What a product's kernel is called: operands, lanes and whatever else it reads by, rows, and results that are of another type.
fn matmul_name(p: &Product, lanes: &str, height: Height) -> String {
    let ty = suffix(p.multiplied()).unwrap_or_default();
    let tile = height.suffix();
    let out = suffix(p.result).filter(|_| p.result != p.multiplied());
    let out = out.map(|out| format!("_{out}")).unwrap_or_default();
    format!("matmul_{ty}_sg{lanes}{tile}{out}")
}

/// The specialization constants of its epilogue; sums of bytes have none.
fn constants(p: &Product, epilogue: Epilogue) -> Vec<(u32, i32)> {
    let all = (0..).zip(epilogue.constants());
    all.filter(|_| p.result != DType::I32).collect()
}

impl Library {
    /// For a device.
    pub fn new(device: &Device) -> Library {
        Library {
            device: device.clone(),
            modules: Mutex::default(),
            blocks: OnceLock::new(),
        }
    }

    /// The module of a product by matrix instructions; none if the device has none.
    pub fn matmul(
        &self,
        p: &Product,
        epilogue: Epilogue,
        height: Height,
    ) -> Result<Option<Module>, Error> {
        p.has_kernel(epilogue)?;
        let Some(lanes) = self.device.architecture().matrix_sub_group() else {
            return Ok(None);
        };
        let name = matmul_name(p, &lanes.to_string(), height);
        self.numbered(&name, &constants(p, epilogue)).map(Some)
    }

    /// Whether a product's kernel may read 2D blocks; the first that may has the driver compile one.
    pub fn blocks(&self, p: &Product) -> Result<(), NoBlocks> {
        if !self.device.architecture().has_blocks() {
            return Err(NoBlocks::Device);
        }
        p.has_block_kernel()?;
        let tried = self.blocks.get_or_init(|| {
            let made = self.matmul_blocks(p, Epilogue::default(), Height::Few, Layout::Packed);
            let kernel = made.and_then(|m| m.kernel("matmul"));
            kernel
                .map(drop)
                .map_err(|e| NoBlocks::Driver(e.to_string()))
        });
        tried.clone()
    }

    /// The module of a product that reads 2D blocks.
    pub fn matmul_blocks(
        &self,
        p: &Product,
        epilogue: Epilogue,
        height: Height,
        layout: Layout,
    ) -> Result<Module, Error> {
        p.has_block_kernel().map_err(NoProduct::from)?;
        p.has_kernel(epilogue)?;
        let mut constants = constants(p, epilogue);
        constants.push((5, layout as i32));
        self.numbered(&matmul_name(p, "16_2d", height), &constants)
    }

    /// Packing of the second matrix for these; f32 is rounded to bf16.
    pub fn pack(&self, dtype: DType) -> Result<Module, Error> {
        let name = match dtype {
            DType::F32 => "pack_f32",
            _ if dtype.size() == 1 => "pack8",
            _ => "pack16",
        };
        self.module(name, &[])
    }

    /// Copies of the first matrix for these; f32 is rounded to bf16.
    pub fn rows(&self, dtype: DType) -> Result<Module, Error> {
        let name = match dtype {
            DType::F32 => "rows_f32",
            _ if dtype.size() == 1 => "rows8",
            _ => "rows16",
        };
        self.module(name, &[])
    }

    /// Windows of images as a packed second matrix of 16 bits an element.
    pub fn columns(&self) -> Result<Module, Error> {
        self.module("columns", &[])
    }

    /// Windows of images as a first matrix of 16 bits an element.
    pub fn windows(&self) -> Result<Module, Error> {
        self.module("windows", &[])
    }

    /// Products of f32, f16 or bf16 without matrix instructions.
    pub fn product(&self, dtype: DType, epilogue: Epilogue) -> Result<Module, Error> {
        let ty = suffix(dtype).unwrap_or_default();
        self.module(&format!("product_{ty}"), &epilogue.constants())
    }

    /// Attention of f32, f16 or bf16.
    pub fn attention(&self, dtype: DType) -> Result<Module, Error> {
        let ty = suffix(dtype).unwrap_or_default();
        self.module(&format!("attention_{ty}"), &[])
    }

    /// Convolutions and maxima of f32, f16 or bf16 without matrix instructions.
    pub fn window(&self, dtype: DType, epilogue: Epilogue) -> Result<Module, Error> {
        let ty = suffix(dtype).unwrap_or_default();
        self.module(&format!("window_{ty}"), &epilogue.constants())
    }

    /// Attention by matrix instructions for heads of this width and a mask of this kind and type (`mask.h`); none if the
    /// device or the type has none, or if heads are too wide. With the columns that it is made for.
    pub fn flash(
        &self,
        dtype: DType,
        width: usize,
        kind: i32,
        mask_type: i32,
    ) -> Result<Option<(Module, usize)>, Error> {
        let lanes = self.device.architecture().matrix_sub_group();
        let width = match (lanes, width) {
            (Some(_), ..=64) => 64,
            (Some(16), ..=128) => 128,
            _ => return Ok(None),
        };
        let (Some(lanes), DType::F16 | DType::BF16, Some(ty)) = (lanes, dtype, suffix(dtype))
        else {
            return Ok(None);
        };
        let name = format!("flash_{ty}_sg{lanes}_{width}");
        let module = self.module(&name, &[kind, mask_type])?;
        Ok(Some((module, width)))
    }

    /// A module with values of its specialization constants 0, 1, ...
    fn module(&self, name: &str, values: &[i32]) -> Result<Module, Error> {
        let constants: Vec<(u32, i32)> = (0..).zip(values.iter().copied()).collect();
        self.numbered(name, &constants)
    }

    /// A module with values of these specialization constants.
    fn numbered(&self, name: &str, constants: &[(u32, i32)]) -> Result<Module, Error> {
        let found = MODULES.iter().find(|(n, _)| *n == name);
        let &(name, spirv) = found.ok_or_else(|| Error::Launch {
            kernel: name.into(),
            reason: "there is no such kernel".into(),
        })?;
        let key = (name, constants.to_vec());
        let known = self.modules.lock().ok().and_then(|m| m.get(&key).cloned());
        if let Some(module) = known {
            return Ok(module);
        }
        let module = self.device.module(&Source {
            name,
            spirv,
            // Tiles of matrix instructions take them.
            large_registers: name.contains("_sg"),
            constants,
        })?;
        if let Ok(mut modules) = self.modules.lock() {
            modules.insert(key, module.clone());
        }
        Ok(module)
    }
}
