//! The `crocuta` program.
fn main() {}
