//! On which devices the tensors of a document are.
//!
//! Without `xpu` all are on the CPU. With it arguments and results are on that device; arguments without dimensions may be on the CPU, as
//! PyTorch allows, and so may what lies between: where a value is computed is the plan's business.

use super::document::{Argument, Device, Document, TensorMeta};
use crate::error::Error;
use std::fmt;

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) if self.r#type != "cpu" => write!(f, "{}:{index}", self.r#type),
            _ => write!(f, "{}", self.r#type),
        }
    }
}

impl Device {
    fn is_cpu(&self) -> bool {
        self.r#type == "cpu"
    }

    fn is_xpu(&self, index: u32) -> bool {
        let own = self.index.unwrap_or(0);
        self.r#type == "xpu" && u32::try_from(own) == Ok(index)
    }
}

/// Refuses documents whose tensors are on other devices than the options say, by their names.
pub fn check(document: &Document) -> Result<(), Error> {
    let graph = &document.graph_module.graph;
    let refused = |name: &str, device: &Device, all: &str| {
        let (node, reason) = (name.into(), format!("on {device}, {all}"));
        Err(Error::Unsupported { node, reason })
    };
    let Some(index) = document.options.xpu else {
        let all = graph.tensor_values.iter();
        let elsewhere = all.filter(|(_, m)| !m.device.is_cpu());
        return match elsewhere.min_by_key(|(name, _)| *name) {
            Some((name, meta)) => refused(name, &meta.device, "not on the CPU"),
            None => Ok(()),
        };
    };
    if document.options.gpu.is_some() {
        let text = "gpu and xpu in one document's options";
        return Err(Error::Invalid(text.into()));
    }
    let stated = |a: &Argument| -> Vec<(String, TensorMeta)> {
        let names = a.tensors().into_iter();
        names
            .filter_map(|n| Some((n.to_string(), graph.tensor_values.get(n)?.clone())))
            .collect()
    };
    let others = |(_, meta): &(String, TensorMeta)| !meta.device.is_xpu(index);
    let numbers = |(_, meta): &(String, TensorMeta)| meta.device.is_cpu() && meta.sizes.is_empty();
    let inputs = graph.inputs.iter().flat_map(stated).filter(|t| !numbers(t));
    let outputs = graph.outputs.iter().flat_map(stated);
    let all = format!("and others of the graph's arguments and results on xpu:{index}");
    match inputs.chain(outputs).find(others) {
        Some((name, meta)) => refused(&name, &meta.device, &all),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;

    /// A document of `neg` whose argument and result are there.
    fn document(options: &str, input: &str, output: &str) -> String {
        let tensor = |device: &str, sizes: &str| {
            format!(r#"{{"dtype": 7, "sizes": {sizes}, "strides": {sizes}, "device": {device}}}"#)
        };
        let one = r#"[{"as_int": 1}]"#;
        let sizes = if input.contains("cpu") { "[]" } else { one };
        let (x, y) = (tensor(input, sizes), tensor(output, one));
        format!(
            r#"{{"protocol": 2, "producer": {{"torch": "2.15.0"}}, "kind": "inference", "options": {options},
            "graph_module": {{"graph": {{"inputs": [{{"as_tensor": {{"name": "x"}}}}], "outputs": [{{"as_tensor": {{"name": "y"}}}}],
            "nodes": [{{"target": "torch.ops.aten.neg.default", "inputs": [{{"name": "self", "arg": {{"as_tensor": {{"name": "x"}}}}}}],
            "outputs": [{{"as_tensor": {{"name": "y"}}}}], "metadata": {{}}}}], "tensor_values": {{"x": {x}, "y": {y}}}}}}}}}"#
        )
    }

    #[test]
    fn what_is_where() {
        let cpu = r#"{"type": "cpu", "index": null}"#;
        let [zero, one] = [0, 1].map(|n| format!(r#"{{"type": "xpu", "index": {n}}}"#));
        let said = |options: &str, x: &str, y: &str| {
            let text = document(options, x, y);
            decode(text.as_bytes())
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        let on_zero = r#"{"xpu": 0}"#;
        assert_eq!(said("{}", cpu, cpu), Ok(()));
        assert_eq!(said(on_zero, &zero, &zero), Ok(()));
        // An argument without dimensions may be the CPU's, a result not.
        assert_eq!(said(on_zero, cpu, &zero), Ok(()));
        let others = "and others of the graph's arguments and results on xpu:0";
        for (options, x, y, text) in [
            ("{}", &*zero, cpu, "x: on xpu:0, not on the CPU".to_string()),
            (on_zero, &one, &zero, format!("x: on xpu:1, {others}")),
            (on_zero, &zero, cpu, format!("y: on cpu, {others}")),
        ] {
            assert_eq!(said(options, x, y), Err(text));
        }
        let both = said(r#"{"gpu": 0, "xpu": 0}"#, &zero, &zero);
        assert!(both.is_err_and(|e| e.contains("gpu and xpu")));
    }
}
