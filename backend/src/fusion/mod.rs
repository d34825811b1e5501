//! Groups of nodes that become one kernel.

pub mod refusal;
