//! Which tensors of a model of bf16 images, row by row as they were traced, lie pixel by pixel instead.
//!
//! Our kernels for convolutions of bf16 are of images in channels-last order. So what only the graph sees lies so from the first of
//! them on, through whatever keeps the images' rank; what comes in and what the caller gets stays as it is. Weights lie as they
//! are, and are turned once if they are frozen. Training graphs are left alone, as in [`super::layout`].

use super::Meta;
use super::layout::{fixed, is_own, is_view, pixel_by_pixel, target};
use super::strided::row_major;
use crate::protocol::Document;
use crate::protocol::document::{Argument, Kind, Node};
use ipex_runtime::DType;
use ipex_runtime::cpu::Isa;
use std::collections::HashSet;

/// Names of the tensors inside of a graph that lie pixel by pixel where they were traced as row-major.
pub fn pixels<'a>(
    document: &'a Document,
    meta: &impl Fn(&str) -> Option<Meta>,
) -> HashSet<&'a str> {
    let ours = document.kind == Kind::Inference
        && !document.options.on_gpu()
        && Isa::detect() >= Isa::Avx512Bf16;
    if !ours {
        return HashSet::new();
    }
    let fixed = fixed(document);
    // Tensors of images that lie so, and views of them that are images still.
    let (mut laid, mut images) = (HashSet::new(), HashSet::new());
    // A convolution alone would turn what comes in and what it gives.
    let mut pays = false;
    for node in &document.graph_module.graph.nodes {
        let inputs = node.inputs.iter().flat_map(|i| i.arg.tensors());
        let of = inputs.clone().find(|name| images.contains(name));
        let from = of.and_then(meta);
        let convolution = is_convolution(node, meta);
        if !is_own(node) || !(convolution || from.is_some()) {
            continue;
        }
        pays |= convolution && from.is_some();
        for name in node.outputs.iter().flat_map(Argument::tensors) {
            let Some(m) = meta(name).filter(|m| m.sizes.len() == 4) else {
                continue;
            };
            if is_view(document, node) {
                let part =
                    |from: Meta| from.sizes[0] == m.sizes[0] && from.sizes[2..] == m.sizes[2..];
                if from.clone().is_some_and(part) {
                    images.insert(name);
                }
            } else if row_major(&m) && !pixel_by_pixel(&m) && !fixed.contains(name) {
                laid.insert(name);
                images.insert(name);
            }
        }
    }
    if pays { laid } else { HashSet::new() }
}

/// Whether a node is a convolution of bf16 images.
fn is_convolution(node: &Node, meta: &impl Fn(&str) -> Option<Meta>) -> bool {
    let [image, _, _, _, _, _, transposed, ..] = node.inputs.as_slice() else {
        return false;
    };
    let Argument::AsTensor(image) = &image.arg else {
        return false;
    };
    target(node) == "aten.convolution.default"
        && !matches!(transposed.arg, Argument::AsBool(true))
        && meta(&image.name).is_some_and(|m| m.dtype() == Some(DType::BF16))
}
