//! Which resource binds a run: each is measured alone, on this machine and this input, for a moment.

use super::estimate::Estimate;
use super::memory::available_memory;
use super::options::{Compute, Output};
use super::session::Session;
use super::units::{number, readable};
use crate::encoder::Facts;
use crate::error::Result;
use crate::io::alignments::{self, Alignments};
use crate::io::atomic::{AtomicFile, is_stdout};
use crate::io::compression::Compression;
use crate::io::genome::{self, Genome};
use crate::io::table_writer::{ColumnKind, ColumnSpec, TableWriter, Values};
use crate::io::vector::Element;
use crate::ops::{Device, Linear, Tensor};
use half::f16;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long each is measured.
const MOMENT: Duration = Duration::from_millis(150);
/// Rows that are written at a time.
const ROWS: usize = 8192;
/// Rows and columns of the matrices that the device multiplies.
const MATRIX: usize = 1024;
/// Memory binds from this part of what is free on.
const SCARCE: f64 = 0.6;
/// Attention is most of the work from this part of the operations on.
const MOSTLY: f64 = 0.5;

/// What binds a run, in lines of `name: value`, of which the last one says so.
///
/// # Errors
/// Those of the device.
pub fn describe(
    session: &Session,
    (compute, output): (&Compute, &Output),
    inputs: &[(&'static str, PathBuf)],
) -> Result<String> {
    let estimate = &session.estimate;
    let Some(speed) = estimate.speed else {
        return Ok(String::new());
    };
    let reading = inputs.iter().find_map(|(what, path)| reading(what, path));
    let writing = writing(estimate, output.compressed.compression);
    let mut lines = String::new();
    for (name, rate) in [("reading", reading), ("writing", writing)] {
        let rate = rate.map_or_else(
            || "unknown".to_string(),
            |rate| format!("{} bases a second", number(rate as u64)),
        );
        lines += &format!("{name}: {rate}\n");
    }
    let facts = &session.engine.facts;
    let read = estimate.bases.unwrap_or_default();
    let (operations, attention) = operations(facts, read);
    let peak = products(&session.engine.device)?;
    lines += &format!(
        "operations: {:.1} of the {:.1} GFLOP/s that matrix products reach here\n",
        speed * operations / 1e9,
        peak / 1e9
    );
    let memory = available_memory().map(|free| estimate.memory() as f64 / free as f64);
    let rates = [
        ("compute", Some(speed)),
        ("reading", reading),
        ("writing", writing),
    ];
    let (name, least) = slowest(&rates);
    let name = match memory {
        Some(part) if part > SCARCE => "memory",
        _ => name,
    };
    let mut room: Vec<String> = rates
        .iter()
        .filter(|(other, _)| *other != name)
        .filter_map(|(other, rate)| Some((other, (*rate)? / least)))
        .map(|(other, times)| format!("{other} could be {} times as fast", factor(times)))
        .collect();
    if let Some(part) = memory {
        let (percent, need) = (100.0 * part, readable(estimate.memory()));
        room.push(format!("memory: {need} are {percent:.0} % of what is free"));
    }
    let help = match name {
        "memory" => for_memory(facts),
        "reading" => "a file in BGZF or zstd instead of gzip, or a faster disk",
        "writing" => "--bin, --dtype f16, fewer --layer, or a faster disk",
        _ => for_compute(session, compute, attention),
    };
    Ok(format!(
        "{lines}binds: {name} ({}): {help}\n",
        room.join("; ")
    ))
}

/// What binds a training run that takes so many bytes, in a line: what it reads lies in memory, and
/// what it writes is small.
pub fn training(memory: u64) -> String {
    let part = available_memory().map(|free| memory as f64 / free as f64);
    let (name, help) = match part {
        Some(part) if part > SCARCE => ("memory", "--accumulate, a smaller --chunk or --batch"),
        _ => (
            "compute",
            "a GPU (--device cuda), more --threads, or a smaller model",
        ),
    };
    let percent = part.map_or_else(String::new, |part| {
        let (need, percent) = (readable(memory), 100.0 * part);
        format!(" (memory: {need} are {percent:.0} % of what is free)")
    });
    format!("binds: {name}{percent}: {help}\n")
}

/// How many times: `1.5`, `1,234`.
fn factor(times: f64) -> String {
    if times < 10.0 {
        format!("{times:.1}")
    } else {
        number(times as u64)
    }
}

/// The one of the least rate.
fn slowest<'a>(rates: &[(&'a str, Option<f64>)]) -> (&'a str, f64) {
    let known = rates
        .iter()
        .filter_map(|(name, rate)| Some((*name, (*rate)?)));
    let least = known.min_by(|a, b| a.1.total_cmp(&b.1));
    least.unwrap_or(("compute", 1.0))
}

/// Operations a base of so long a sequence, and the part of them that is attention's.
fn operations(facts: &Facts, bases: u64) -> (f64, f64) {
    let before = if facts.causal {
        bases as f64 / 2.0
    } else {
        bases as f64
    };
    let seen = facts.seen.map_or(before, |seen| before.min(seen as f64));
    let pairs = facts.pair_flops as f64 * seen;
    let all = facts.flops as f64 + pairs;
    (all, pairs / all.max(1.0))
}

fn for_memory(facts: &Facts) -> &'static str {
    if facts.token_bytes > 0 {
        "a model whose state does not grow (state space, long convolutions), or --attention-window"
    } else if facts.causal {
        "a smaller --chunk, or a smaller model"
    } else {
        "a shorter --window"
    }
}

fn for_compute(session: &Session, compute: &Compute, attention: f64) -> &'static str {
    let rounded = compute.precision == super::options::Precision::Bf16;
    match &session.engine.device {
        _ if attention > MOSTLY => {
            "attention is most of the work: --attention-window, an approximation of it, or a model \
             of long convolutions or state spaces"
        }
        Device::Cuda(_) if !rounded => "--precision bf16, or more GPUs",
        Device::Cuda(_) => "more GPUs, or a smaller model",
        Device::Cpu => "a GPU (--device cuda), more --threads, or a smaller model",
    }
}

/// Bases a second that are read and decompressed; none where that cannot be tried.
fn reading(what: &str, path: &Path) -> Option<f64> {
    if is_stdout(path) {
        return None;
    }
    match what {
        "reads" => records(path),
        "input" | "reference" => contigs(path),
        _ => None,
    }
}

fn contigs(path: &Path) -> Option<f64> {
    let begun = Instant::now();
    let mut genome = Genome::open(path, genome::Options::default()).ok()?;
    let (mut bases, mut codes) = (0, Vec::new());
    while genome.next_sequence().ok()?.is_some() {
        loop {
            codes.clear();
            let read = genome.read_bases(&mut codes, 1 << 16).ok()?;
            bases += codes.len();
            if begun.elapsed() > MOMENT {
                return Some(bases as f64 / begun.elapsed().as_secs_f64());
            }
            if read == 0 {
                break;
            }
        }
    }
    Some(bases as f64 / begun.elapsed().as_secs_f64())
}

fn records(path: &Path) -> Option<f64> {
    let begun = Instant::now();
    let mut source = Alignments::open(path, &alignments::Options::default()).ok()?;
    let mut bases = 0;
    while let Some(record) = source.next_record().ok()? {
        bases += record.len();
        if begun.elapsed() > MOMENT {
            break;
        }
    }
    Some(bases as f64 / begun.elapsed().as_secs_f64())
}

/// Bases a second whose rows are compressed and written to a temporary file, of random numbers: those
/// of a model are hardly less so. None where that cannot be tried.
fn writing(estimate: &Estimate, compression: Compression) -> Option<f64> {
    if estimate.columns.is_empty() {
        return None;
    }
    let name = format!("crocuta-check-{}.parquet", std::process::id());
    let target = AtomicFile::create(&std::env::temp_dir().join(name), true).ok()?;
    let mut writer = TableWriter::create(target, &estimate.columns, compression).ok()?;
    let rows: Vec<Values> = estimate.columns.iter().map(some).collect();
    let begun = Instant::now();
    let mut written = 0;
    while begun.elapsed() < MOMENT {
        writer.write(rows.clone()).ok()?;
        written += ROWS;
        if written % (4 * ROWS) == 0 {
            writer.close_group().ok()?;
        }
    }
    writer.close_group().ok()?;
    let rate = written as f64 / begun.elapsed().as_secs_f64();
    let bases = estimate
        .bases
        .zip(estimate.rows)
        .filter(|(_, rows)| *rows > 0);
    let each = bases.map_or(1.0, |(bases, rows)| bases as f64 / rows as f64);
    Some(rate * each)
}

/// Rows of a column.
fn some(column: &ColumnSpec) -> Values {
    // Of a generator of Lehmer's.
    let mut state = 1u64;
    let mut random = move || {
        state = state * 48_271 % 0x7fff_ffff;
        state as f32 / 0x4000_0000 as f32 - 1.0
    };
    let mut numbers = |count: usize| -> Vec<f32> { (0..count).map(|_| random()).collect() };
    let halves = |values: Vec<f32>| values.into_iter().map(f16::from_f32).collect::<Vec<_>>();
    let words = || {
        vec![
            "A".to_string(),
            "C".to_string(),
            "G".to_string(),
            "T".to_string(),
        ]
    };
    let counted = 0..ROWS as i64;
    match column.kind {
        ColumnKind::Words => Values::Words {
            codes: counted.map(|i| (i % 4) as i32).collect(),
            words: words(),
        },
        ColumnKind::OptionalWords => Values::OptionalWords {
            codes: counted.map(|i| Some((i % 4) as i32)).collect(),
            words: words(),
        },
        ColumnKind::Text => Values::Text(counted.map(|i| Some(format!("read{i}"))).collect()),
        ColumnKind::I64 => Values::I64(counted.collect()),
        ColumnKind::OptionalI64 => Values::OptionalI64(counted.map(Some).collect()),
        ColumnKind::I32 => Values::I32(counted.map(|i| i as i32).collect()),
        ColumnKind::U8 => Values::U8(vec![0; ROWS]),
        ColumnKind::OptionalU8 => Values::OptionalU8(vec![Some(0); ROWS]),
        ColumnKind::U16 => Values::U16(vec![0; ROWS]),
        ColumnKind::F32 => Values::F32(numbers(ROWS)),
        ColumnKind::OptionalF32 => {
            Values::OptionalF32(numbers(ROWS).into_iter().map(Some).collect())
        }
        ColumnKind::OptionalF64 => {
            let values = numbers(ROWS).into_iter();
            Values::OptionalF64(values.map(|value| Some(f64::from(value))).collect())
        }
        ColumnKind::Vector { element, dim } => match element {
            Element::F16 => Values::F16Vectors(halves(numbers(ROWS * dim))),
            Element::F32 => Values::F32Vectors(numbers(ROWS * dim)),
        },
        ColumnKind::OptionalVector { element, dim } => {
            let (values, present) = (numbers(ROWS * dim), vec![true; ROWS]);
            match element {
                Element::F16 => Values::OptionalF16Vectors {
                    values: halves(values),
                    present,
                },
                Element::F32 => Values::OptionalF32Vectors { values, present },
            }
        }
    }
}

/// Operations a second of large matrix products: what the device attains at best.
fn products(device: &Device) -> Result<f64> {
    let matrix = || Tensor::zeros((MATRIX, MATRIX), device);
    let (layer, x) = (
        Linear::new(Tensor::zeros((MATRIX, MATRIX), &Device::Cpu)?, None),
        matrix()?,
    );
    let mut best = f64::INFINITY;
    let begun = Instant::now();
    while begun.elapsed() < MOMENT {
        let one = Instant::now();
        layer.forward(&x)?;
        device.synchronize()?;
        best = best.min(one.elapsed().as_secs_f64());
    }
    Ok(2.0 * (MATRIX as f64).powi(3) / best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_what_is_known_binds() {
        let rates = [
            ("compute", Some(3.0)),
            ("reading", None),
            ("writing", Some(2.0)),
        ];
        assert_eq!(slowest(&rates), ("writing", 2.0));
        assert_eq!(slowest(&[("compute", None)]), ("compute", 1.0));
    }
}
