//! Arguments of the operators that the compiler has rules for, with their defaults. `defaults.json` is written by
//! `make defaults` from PyTorch's own schemas.

use super::document::Argument;
use crate::error::Error;
use serde::Deserialize;
use std::collections::HashMap;

const TABLE: &str = include_str!("defaults.json");

/// One argument of an operator.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaArgument {
    /// Its name.
    pub name: String,
    default: Option<serde_json::Value>,
}

impl SchemaArgument {
    /// What a call that leaves the argument out means.
    pub fn default(&self) -> Option<Argument> {
        serde_json::from_value(self.default.clone()?).ok()
    }
}

/// Operators (`aten.add.Tensor`) with their arguments in order.
pub struct Schemas(HashMap<String, Vec<SchemaArgument>>);

impl Schemas {
    /// Reads the table.
    pub fn load() -> Result<Schemas, Error> {
        serde_json::from_str(TABLE)
            .map(Schemas)
            .map_err(|e| Error::Internal(format!("defaults.json: {e}")))
    }

    /// The arguments of an operator in the table.
    pub fn arguments(&self, target: &str) -> Option<&[SchemaArgument]> {
        self.0.get(target).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_schema() {
        let schemas = Schemas::load().unwrap();
        let missing: Vec<&str> = crate::ops::supported()
            .filter(|name| schemas.arguments(name).is_none())
            .collect();
        assert!(missing.is_empty(), "`make defaults` adds {missing:?}");
        for arg in schemas.0.values().flatten() {
            assert!(arg.default.is_none() || arg.default().is_some(), "{arg:?}");
        }
    }
}
