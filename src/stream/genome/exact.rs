//! Whole sequences through a bidirectional encoder, however long they are: its layers run one
//! after the other over scratch files.
//!
//! This is no client of the pipeline: a layer needs the whole of the layer below before its first
//! row, so reading, computing and writing cannot overlap, and there is no state to go on with.

use super::rows::{Pooling, keys};
use super::sink::GenomeSink;
use super::{Head, Piece, Reading, steps};
use crate::encoder::Layer;
use crate::encoder::caduceus::{Exact, Model, Store};
use crate::error::{Error, Result};
use crate::head::PREDICTIONS;
use crate::io::genome::{Genome, Sequence};
use crate::io::spill::{Scratch, Spill};
use crate::sequence::Segment;
use crate::stream::engine::Engine;
use crate::stream::finite::check_finite;
use crate::stream::pipeline::{Sink, Totals};
use crate::stream::progress::Progress;
use crate::stream::stop::go_on;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Runs all sequences of `genome` into `sink`, in order, each as one `forward` over the whole of it
/// would: like [`run`](super::run), for the forward strand of bidirectional encoders. No base is
/// masked, so the language model's predictions stay NULL beside the logits.
///
/// Memory: the model, and activations and rows of `settings.chunk` tokens. Scratch files: a byte a
/// base of the sequence at work, and [`stored`](crate::encoder::caduceus::Model::stored) values.
/// Measured (PS, D 32, chunk 8192, bins of 128): at most 26 MB for 0.1, 0.4 and 1.6 million bases.
///
/// # Errors
/// Usage: the encoder is causal, or the head is a task's; and those of the reader, the model and
/// the sink.
pub fn run_exact(
    genome: &mut Genome,
    reading: Reading,
    sink: &mut GenomeSink,
    progress: &mut Progress,
) -> Result<Totals> {
    let (model, layer) = layered(reading.engine)?;
    let settings = reading.settings;
    let mut totals = Totals::default();
    let mut pooling = Pooling::new(settings);
    while let Some(sequence) = genome.next_sequence()? {
        let (sequence, codes) = steps::whole(genome, sequence, settings.chunk, &settings.scratch)?;
        let sequence = Arc::new(sequence);
        let file = Scratch::create(&settings.scratch)?;
        let exact = Exact {
            model,
            layer,
            store: Store {
                read: &|from, values| file.read_numbers(from, values),
                write: &|from, values| file.write_numbers(from, values),
            },
            length: codes.bytes(),
            tile: settings.chunk,
        };
        totals.steps += run_layers(&exact, reading.engine, &codes, &sequence.name, progress)?;
        totals.bases += exact.length;
        let from = sequence.rows.start - sequence.start;
        let to = sequence.rows.end.saturating_sub(sequence.start);
        let mut start = from;
        while start < to {
            go_on()?;
            let end = (start + settings.chunk as u64).min(to);
            let piece = piece(&sequence, &codes, start..end, exact.length, end == to)?;
            let mut rows = keys(&piece, 1);
            rows.values = values(reading, &exact, &piece, start..end)?;
            rows = pooling.push(rows, settings, piece.last);
            sink.write(rows)?;
            start = end;
        }
    }
    Ok(totals)
}

/// Runs the layers over all of a sequence; returns how many tiles that were.
fn run_layers(
    exact: &Exact,
    engine: &Engine,
    codes: &Spill,
    name: &str,
    progress: &mut Progress,
) -> Result<u64> {
    let mut tokens = |range: Range<u64>| {
        let codes = codes.read(range.start, (range.end - range.start) as usize)?;
        Ok(engine.tokens(&codes))
    };
    let (mut tiles, mut passed, mut shown) = (0, 0, 0);
    exact.layers(&mut tokens, &mut |tokens| {
        go_on()?;
        tiles += 1;
        passed += tokens as u64;
        let done = passed / exact.passes();
        progress.add(done - shown, name);
        shown = done;
        Ok(())
    })?;
    Ok(tiles)
}

/// Bases `range` of what was handed out of a sequence of `length`.
fn piece(
    sequence: &Arc<Sequence>,
    codes: &Spill,
    range: Range<u64>,
    length: u64,
    last: bool,
) -> Result<Piece> {
    let len = (range.end - range.start) as usize;
    Ok(Piece {
        sequence: Arc::clone(sequence),
        reverse: false,
        before: range.start,
        context: range.start,
        codes: codes.read(range.start, len)?,
        kept: 0..len,
        last,
        segment: Segment {
            lane: 0,
            len,
            starts: range.start == 0,
            ends: range.end == length,
        },
    })
}

/// The numbers of the rows of a piece.
fn values(reading: Reading, exact: &Exact, piece: &Piece, range: Range<u64>) -> Result<Vec<f32>> {
    let hidden = exact.rows(range)?;
    let (width, values) = match reading.head {
        Head::Task(_) => {
            let what = "--exact does not go with heads of tasks";
            return Err(Error::usage(what));
        }
        Head::Embedding | Head::Prediction { .. } => {
            let values = reading.head.values(hidden, &[])?.to_vec1()?;
            (values.len() / piece.codes.len(), values)
        }
    };
    let place = |row| format!("{}:{}", piece.sequence.name, piece.position(row) + 1);
    check_finite(&values, width, place)?;
    if let Head::Embedding = reading.head {
        return Ok(values);
    }
    let rows = values.chunks_exact(width);
    let unpredicted = [f32::NAN; PREDICTIONS];
    Ok(rows
        .flat_map(|logits| unpredicted.iter().chain(logits))
        .copied()
        .collect())
}

/// Bases a second of [`run_exact`] without reading and writing the table: measured on two tiles of
/// `tile` bases, with scratch files in `scratch`.
///
/// # Errors
/// As [`run_exact`].
pub fn exact_speed(engine: &Engine, head: &Head, tile: usize, scratch: &Path) -> Result<f64> {
    let (model, layer) = layered(engine)?;
    let file = Scratch::create(scratch)?;
    let exact = Exact {
        model,
        layer,
        store: Store {
            read: &|from, values| file.read_numbers(from, values),
            write: &|from, values| file.write_numbers(from, values),
        },
        length: 2 * tile as u64,
        tile,
    };
    let token = |i: u64| engine.facts.vocabulary.token((i * i % 4) as u8);
    let start = Instant::now();
    exact.layers(&mut |range| Ok(range.map(token).collect()), &mut |_| Ok(()))?;
    for tile in [0..tile as u64, tile as u64..exact.length] {
        head.values(exact.rows(tile)?, &[])?.to_vec1::<f32>()?;
    }
    Ok(exact.length as f64 / start.elapsed().as_secs_f64())
}

/// The model, and the one layer whose vectors are read.
fn layered(engine: &Engine) -> Result<(&Model, Layer)> {
    let model = engine.model.layered().ok_or_else(|| {
        Error::usage("only bidirectional models are run layer by layer, with --exact")
    })?;
    match engine.layers[..] {
        [layer] => Ok((model, layer)),
        _ => Err(Error::usage("--exact gives the vectors of one layer")
            .todo("run it once for each --layer")),
    }
}
