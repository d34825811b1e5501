//! Which tensors of a channels-last model lie row by row instead.
//!
//! Our convolutions are of row-major images. Where a model's images lie channels-last (`model.to(memory_format=
//! torch.channels_last)`), what only the graph sees may be laid out row by row from the first convolution on, so that the
//! kernels between two of them copy nothing; what comes in and what the caller gets stays as it is. That pays where
//! convolutions with windows over many channels take long, and if their weights are frozen, so that they are turned once.
//! Training graphs are left alone: their activations are results, which the backward reads as they were traced.

use super::Meta;
use super::strided::{contiguous, row_major};
use crate::protocol::Document;
use crate::protocol::document::{Argument, Kind, Node};
use ipex_runtime::DType;
use ipex_runtime::cpu::Isa;
use std::collections::HashSet;

/// Names of the tensors inside of a graph that lie row by row where they were traced as channels-last.
pub fn rows<'a>(document: &'a Document, meta: &impl Fn(&str) -> Option<Meta>) -> HashSet<&'a str> {
    let graph = &document.graph_module.graph;
    let ours = document.kind == Kind::Inference
        && !document.options.on_gpu()
        && Isa::detect() >= Isa::Avx2
        && pays(document, meta);
    if !ours {
        return HashSet::new();
    }
    let fixed = fixed(document);
    let inside = graph.nodes.iter().flat_map(|n| &n.outputs);
    let inside = inside.flat_map(Argument::tensors);
    inside
        .filter(|name| !fixed.contains(name) && meta(name).is_some_and(|m| channels_last(&m)))
        .collect()
}

/// Names of tensors that lie as they were traced, since somebody may look.
pub fn fixed(document: &Document) -> HashSet<&str> {
    let graph = &document.graph_module.graph;
    let fixing = graph.nodes.iter().filter(|n| !is_own(n) || sees_strides(n));
    let operands = fixing.clone().flat_map(|n| n.inputs.iter().map(|i| &i.arg));
    let results = fixing.flat_map(|n| &n.outputs).chain(&graph.outputs);
    let mut names: HashSet<&str> = operands
        .chain(results)
        .flat_map(Argument::tensors)
        .collect();
    // So does what a view of them shows.
    for node in graph.nodes.iter().rev().filter(|n| is_view(document, n)) {
        if node
            .outputs
            .iter()
            .flat_map(Argument::tensors)
            .any(|view| names.contains(view))
        {
            names.extend(node.inputs.iter().flat_map(|i| i.arg.tensors()));
        }
    }
    names
}

/// Whether an operator is PyTorch's: somebody else's may be written for the strides that it was traced with.
pub fn is_own(node: &Node) -> bool {
    ["aten.", "prims."]
        .iter()
        .any(|p| target(node).starts_with(p))
}

/// Whether a node's result is a view, which lies as what it shows does.
pub fn is_view(document: &Document, node: &Node) -> bool {
    let schema = document.schemas.get(&node.target);
    schema.is_none_or(|text| text.contains("-> Tensor(a"))
}

/// Whether a tensor `[n, c, h, w]` lies as `[n, h, w, c]`, and not row by row as well.
pub fn channels_last(meta: &Meta) -> bool {
    !row_major(meta) && pixel_by_pixel(meta)
}

/// Whether a tensor `[n, c, h, w]` lies as `[n, h, w, c]`.
pub fn pixel_by_pixel(meta: &Meta) -> bool {
    let (&[n, c, h, w], &[sn, sc, sh, sw]) = (meta.sizes.as_slice(), meta.strides.as_slice())
    else {
        return false;
    };
    row_major(&Meta {
        scalar_type: meta.scalar_type,
        sizes: vec![n, h, w, c],
        strides: vec![sn, sh, sw, sc],
    })
}

/// A tensor's metadata as it lies row by row.
pub fn by_rows(meta: Meta) -> Meta {
    Meta {
        strides: contiguous(&meta.sizes),
        ..meta
    }
}

/// The metadata of a tensor `[n, c, h, w]` as it lies pixel by pixel.
pub fn by_pixels(meta: Meta) -> Meta {
    let strides = match *meta.sizes.as_slice() {
        [_, c, h, w] => vec![h * w * c, 1, w * c, c],
        _ => contiguous(&meta.sizes),
    };
    Meta { strides, ..meta }
}

/// An operator's name: `aten.add.Tensor`.
pub fn target(node: &Node) -> &str {
    node.target.trim_start_matches("torch.ops.")
}

/// One of the f32 convolutions whose images or weights lie channels-last.
struct Convolution<'a> {
    weight: &'a str,
    /// Multiplications.
    work: i64,
    /// Windows over several pixels and all channels, which overlap or have gaps.
    dense: bool,
}

/// Whether windows over many channels are a good part of the work, and all their weights are frozen.
fn pays(document: &Document, meta: &impl Fn(&str) -> Option<Meta>) -> bool {
    /// One part in so many; measured: ResNet-50 has half and gains, MobileNetV3 a twentieth and loses.
    const PART: i64 = 4;
    let graph = &document.graph_module.graph;
    let all = graph.nodes.iter().filter_map(|n| convolution(n, meta));
    let all: Vec<Convolution> = all.collect();
    let is_frozen = |name: &str| {
        let mut inputs = graph.inputs.iter();
        let place = inputs.position(|i| i.tensors().contains(&name));
        place.is_some_and(|n| document.options.frozen.contains(&(n as u32)))
    };
    let dense = || all.iter().filter(|c| c.dense);
    let work = all.iter().map(|c| c.work).sum::<i64>();
    work > 0
        && dense().map(|c| c.work).sum::<i64>() * PART >= work
        && dense().all(|c| is_frozen(c.weight))
}

fn convolution<'a>(
    node: &'a Node,
    meta: &impl Fn(&str) -> Option<Meta>,
) -> Option<Convolution<'a>> {
    let [image, weight, _, stride, _, _, transposed, _, groups] = node.inputs.as_slice() else {
        return None;
    };
    let (Argument::AsTensor(image), Argument::AsTensor(weight)) = (&image.arg, &weight.arg) else {
        return None;
    };
    let (result, name) = (node.outputs.first()?.tensors(), &weight.name);
    let result = meta(result.first()?)?;
    let (image, weight) = (meta(&image.name)?, meta(name)?);
    let &[_, per_group, kh, kw] = weight.sizes.as_slice() else {
        return None;
    };
    let tiles = matches!(&stride.arg, Argument::AsInts(s) if *s == [kh, kw]);
    let ours = target(node) == "aten.convolution.default"
        && !matches!(transposed.arg, Argument::AsBool(true))
        && image.dtype() == Some(DType::F32)
        && [&image, &weight].into_iter().any(channels_last);
    ours.then_some(Convolution {
        weight: name,
        work: result.numel() * per_group * kh * kw,
        dense: kh * kw > 1 && !tiles && matches!(groups.arg, Argument::AsInt(1)),
    })
}

/// Whether what an operator means depends on how its operand lies in memory.
fn sees_strides(node: &Node) -> bool {
    const SEE: [&str; 5] = [
        "aten.as_strided",
        "aten._reshape_alias",
        "aten.view.dtype",
        "aten.set_",
        "aten.resize_",
    ];
    SEE.iter().any(|name| target(node).starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(sizes: &[i64], strides: &[i64]) -> Meta {
        Meta {
            scalar_type: 6,
            sizes: sizes.to_vec(),
            strides: strides.to_vec(),
        }
    }

    #[test]
    fn layouts() {
        assert!(channels_last(&meta(&[2, 3, 4, 5], &[60, 1, 15, 3])));
        assert!(!channels_last(&meta(&[2, 3, 4, 5], &[60, 20, 5, 1])));
        assert!(!channels_last(&meta(&[2, 3, 1, 1], &[3, 1, 3, 3])), "both");
        assert!(!channels_last(&meta(&[2, 3, 4], &[12, 1, 3])));
    }
}
