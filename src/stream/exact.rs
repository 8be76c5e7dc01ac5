//! Whole sequences through an encoder that looks both ways, however long they are: its layers run
//! one after the other over scratch files.

use super::blocks::Bins;
use super::rows::{check, keys};
use super::{Engine, Head, Piece, Progress, SIGNAL, Settings, Sink, Totals};
use super::{interrupted, steps};
use crate::encoder::Layer;
use crate::encoder::caduceus::{Exact, Model, Store};
use crate::error::{Error, Result};
use crate::head::PREDICTIONS;
use crate::io::genome::Genome;
use crate::io::spill::Scratch;
use crate::sequence::Segment;
use bytemuck::{cast_slice, cast_slice_mut};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Runs all sequences of `genome` through `engine` into `sink`, in order, each as one `forward`
/// over the whole of it would: like [`run`](super::run), for the forward strand of encoders that
/// look both ways. Predictions of hidden bases are not made, and stay NULL beside the logits.
///
/// Memory: the model, and activations and rows of `settings.chunk` tokens. Scratch files: a byte a
/// base of the sequence at work, and [`stored`](crate::encoder::caduceus::Model::stored) values.
/// Measured (PS, D 32, chunk 8192, bins of 128): at most 26 MB for 0.1, 0.4 and 1.6 million bases.
pub fn run_exact(
    genome: &mut Genome,
    engine: &Engine,
    sink: &mut Sink,
    settings: &Settings,
    progress: &mut Progress,
) -> Result<Totals> {
    let model = layered(engine)?;
    let (chunk, scratch) = (settings.chunk, settings.scratch.as_path());
    let mut totals = Totals::default();
    let mut bins = settings.bins.map(|(size, pool)| Bins::new(size, pool));
    while let Some(sequence) = genome.next_sequence()? {
        let (sequence, codes) = steps::whole(genome, sequence, chunk, scratch)?;
        let sequence = Arc::new(sequence);
        let file = Scratch::create(scratch)?;
        let exact = Exact {
            model,
            store: Store {
                read: &|from, values| file.read(address(from), cast_slice_mut(values)),
                write: &|from, values| file.write(address(from), cast_slice(values)),
            },
            length: codes.bytes(),
            tile: chunk,
            layer: Layer::Norm,
        };
        let mut tokens = |range: std::ops::Range<u64>| {
            let codes = codes.read(range.start, (range.end - range.start) as usize)?;
            let token = |code: u8| engine.facts.vocabulary.token(code);
            Ok(codes.into_iter().map(token).collect())
        };
        let go_on = || match SIGNAL.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(interrupted()),
        };
        let (mut tiles, mut passed, mut shown) = (0, 0, 0);
        exact.layers(&mut tokens, &mut |tokens| {
            go_on()?;
            tiles += 1;
            passed += tokens as u64;
            let done = passed / exact.passes();
            progress.add(done - shown, &sequence.name);
            shown = done;
            Ok(())
        })?;
        totals.bases += exact.length;
        totals.steps += tiles;

        let (mut from, end) = (
            sequence.rows.start - sequence.start,
            sequence.rows.end.saturating_sub(sequence.start),
        );
        while from < end {
            go_on()?;
            let to = (from + chunk as u64).min(end);
            let len = (to - from) as usize;
            let piece = Piece {
                sequence: Arc::clone(&sequence),
                reverse: false,
                before: from,
                context: from,
                codes: codes.read(from, len)?,
                kept: 0..len,
                last: to == end,
                segment: Segment {
                    lane: 0,
                    len,
                    starts: from == 0,
                    ends: to == exact.length,
                },
            };
            let mut block = keys(&piece, 1);
            let values = engine.values(exact.rows(from..to)?)?;
            match &engine.head {
                Head::Embedding => block.values = values,
                Head::Task(_) => {
                    return Err(Error::usage("--exact does not go with heads of tasks"));
                }
                Head::Prediction { model, .. } => {
                    for logits in values.chunks_exact(model.width()) {
                        block.values.extend([f32::NAN; PREDICTIONS]);
                        block.values.extend_from_slice(logits);
                    }
                }
            }
            check(&block, engine)?;
            if let Some(bins) = &mut bins {
                block = bins.push(&block, piece.last);
            }
            totals.rows += block.len() as u64;
            sink.write(&block)?;
            from = to;
        }
    }
    Ok(totals)
}

/// Where the value of this number lies in a scratch file.
fn address(value: u64) -> u64 {
    value * size_of::<f32>() as u64
}

/// Bases a second of [`run_exact`] without reading and writing the table: measured on two tiles of
/// `tile` bases, with scratch files in `scratch`.
pub fn exact_speed(engine: &Engine, tile: usize, scratch: &Path) -> Result<f64> {
    let model = layered(engine)?;
    let file = Scratch::create(scratch)?;
    let exact = Exact {
        model,
        store: Store {
            read: &|from, values| file.read(address(from), cast_slice_mut(values)),
            write: &|from, values| file.write(address(from), cast_slice(values)),
        },
        length: 2 * tile as u64,
        tile,
        layer: Layer::Norm,
    };
    let token = |i: u64| engine.facts.vocabulary.token((i * i % 4) as u8);
    let start = Instant::now();
    exact.layers(&mut |range| Ok(range.map(token).collect()), &mut |_| Ok(()))?;
    for tile in [0..tile as u64, tile as u64..exact.length] {
        engine.values(exact.rows(tile)?)?;
    }
    Ok(exact.length as f64 / start.elapsed().as_secs_f64())
}

fn layered(engine: &Engine) -> Result<&Model> {
    engine.model.layered().ok_or_else(|| {
        Error::usage("only models that look both ways are run layer by layer, with --exact")
    })
}
