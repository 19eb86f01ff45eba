//! vambrace.

fn main() {}
