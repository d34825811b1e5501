//! Groups of nodes that become one kernel.

pub mod cluster;
pub mod refusal;
pub mod sink;
