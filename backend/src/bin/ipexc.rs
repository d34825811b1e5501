//! `ipexc`: reads a protocol document or a `.pt2` and explains how it compiles.

fn main() {}
