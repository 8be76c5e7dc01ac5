//! The `crocuta` program: parse, run, exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: crocuta::cli::Allocator = crocuta::cli::Allocator;

fn main() -> ExitCode {
    crocuta::cli::main()
}
