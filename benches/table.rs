//! Bytes of table that are written a second, rows of `embed` with a vector for each base:
//! `cargo bench --bench table`. The number of threads is rayon's, besides the one that writes:
//! `RAYON_NUM_THREADS=2` for two. The file goes to `$TMPDIR`, and is brought to disk.

#![allow(clippy::unwrap_used)]

use crocuta::io::atomic::AtomicFile;
use crocuta::io::vector::Element;
use crocuta::stream::TableOutput;
use crocuta::table::{Groups, LayerName, Positions, RowUnit, Vectors, embeddings};
use divan::{Bencher, counter::BytesCount};
use std::sync::Arc;

fn main() {
    divan::main();
}

/// Rows of a step, and steps of a table.
const STEP: usize = 1 << 16;
const STEPS: usize = 8;

/// One step of vectors that compress as little as a model's: sums of random numbers.
fn step(dim: usize) -> Positions {
    let mut state = 1u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let bases: Vec<u8> = (0..STEP).map(|i| (i * i / 7 % 4) as u8).collect();
    Positions {
        name: Arc::from("NC_000913.3"),
        strands: vec![b'+'; STEP],
        bases,
        flags: vec![0; STEP],
        values: (0..STEP * dim)
            .map(|_| random() + random() + random())
            .collect(),
        ..Positions::default()
    }
}

#[divan::bench(args = ["zstd", "zstd:3", "lz4", "none"], sample_count = 5)]
fn vectors_of_bases(bencher: Bencher, compression: &str) {
    let dim = 256;
    let vectors = Vectors {
        element: Element::F16,
        dim,
        layers: vec![LayerName {
            name: "ln_f".to_string(),
            suffix: "ln_f".to_string(),
        }],
        pool: None,
        causal: true,
    };
    let step = step(dim);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.parquet");
    let steps = || -> Vec<Positions> {
        let at = |i: usize| (i * STEP) as i64..((i + 1) * STEP) as i64;
        let placed = |i: usize| Positions {
            starts: at(i).collect(),
            ends: at(i).map(|start| start + 1).collect(),
            context: at(i).map(|start| start as i32).collect(),
            ..step.clone()
        };
        (0..STEPS).map(placed).collect()
    };
    let write = |steps: Vec<Positions>| {
        let columns = embeddings(RowUnit::Base, &vectors);
        let form = (Groups::of_positions(1), compression.parse().unwrap());
        let file = AtomicFile::create(&path, true).unwrap();
        let mut table = TableOutput::create(file, columns, form).unwrap();
        for rows in steps {
            table.write(rows).unwrap();
        }
        table.finish(&serde_json::json!({})).unwrap().bytes
    };
    let bytes = write(steps());
    bencher
        .counter(BytesCount::new(bytes))
        .with_inputs(steps)
        .bench_local_values(write);
}
