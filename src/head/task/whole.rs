//! Heads of sequences, which read them piece by piece: memory does not depend on a sequence's length.

use super::{Readout, TaskHead, dense};
use crate::error::Result;
use crate::head::attention_pooling::{AttentionPooling, PAIRS, PoolingState, pairs};
use crate::ops::{Device, Reduction, Tensor, pool};
use crate::sequence::Segment;
use serde::{Deserialize, Serialize};

/// Rows that are summed in single precision; sums of these are added in double precision.
const ROWS: usize = 512;

/// What a head of sequences has read of one that goes on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SoFar {
    rows: u64,
    /// Of each dimension, for the mean.
    sums: Vec<f64>,
    /// Of attention.
    pooling: Option<PoolingState>,
    /// Of the same: which pairs of bases stand where, and the last base.
    pairs: Vec<f32>,
    last: Option<u8>,
}

/// Of each piece's sequence that ends, what is known of it.
type Summaries = Vec<Option<Vec<f32>>>;

/// Consecutive rows of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// How many, at least one, and whether they are the first and the last ones.
    pub segment: Segment,
    /// Rows of the whole sequence.
    pub length: usize,
}

impl TaskHead {
    /// What a head of sequences says of those that end among the rows of `hidden` (T, D), of these
    /// codes (T), whose pieces sum to T: K probabilities or values for each, and none for a piece whose sequence
    /// goes on. Only the first piece may go on with the sequence of `so_far`, which holds that of
    /// the last one afterwards.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn read(
        &self,
        (hidden, codes): (&Tensor, &[u8]),
        pieces: &[Piece],
        so_far: &mut SoFar,
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let (summaries, pairs) = match &self.pooling {
            None => (means(hidden, pieces, so_far)?, Vec::new()),
            Some(pooling) => attended(pooling, (hidden, codes), pieces, so_far)?,
        };
        let ended: Vec<f32> = summaries.iter().flatten().flatten().copied().collect();
        let mut said = self.of_summaries(ended, pairs)?.into_iter();
        let each = summaries
            .iter()
            .map(|summary| summary.as_ref().and_then(|_| said.next()));
        Ok(each.collect())
    }

    /// Summaries of sequences, side by side, and which pairs of bases stand where in them, to what
    /// the head says of each.
    fn of_summaries(&self, summaries: Vec<f32>, pairs: Vec<f32>) -> Result<Vec<Vec<f32>>> {
        let Readout::Dense(first, last) = &self.layer else {
            return Ok(Vec::new());
        };
        if summaries.is_empty() {
            return Ok(Vec::new());
        }
        let width = first.as_ref().unwrap_or(last).weight().width();
        let rows = summaries.len() / width;
        let summaries = Tensor::from_vec(summaries, (rows, width), &Device::Cpu)?;
        let mut said = dense(&summaries, first, last)?; // (rows, K)
        if let Some(linear) = &self.pairs {
            let pairs = Tensor::from_vec(pairs, (rows, linear.weight().width()), &Device::Cpu)?;
            said = linear.forward_residual(&pairs, &said)?;
        }
        let mut said: Vec<f32> = said.flatten_all()?.to_vec1()?;
        let said = said.chunks_exact_mut(self.outputs).map(|row| {
            self.link.apply(row);
            row.to_vec()
        });
        Ok(said.collect())
    }
}

/// What a head with attention finds in each piece's sequence that ends, and side by side, which pairs
/// of bases stand where in those.
fn attended(
    pooling: &AttentionPooling,
    (hidden, codes): (&Tensor, &[u8]),
    pieces: &[Piece],
    so_far: &mut SoFar,
) -> Result<(Summaries, Vec<f32>)> {
    let hidden = hidden.in_memory()?;
    let (mut found, mut found_pairs, mut first) = (Vec::with_capacity(pieces.len()), Vec::new(), 0);
    for piece in pieces {
        let len = piece.segment.len;
        let rows = hidden.narrow(0, first, len)?;
        let codes = &codes[first..first + len];
        first += len;
        if piece.segment.starts {
            so_far.rows = 0;
            (so_far.pairs, so_far.last) = (vec![0.0; PAIRS * pooling.places()], None);
        }
        let from = (so_far.rows as usize, piece.length);
        for pair in pairs(codes, so_far.last, from, pooling.places()) {
            so_far.pairs[pair] = 1.0;
        }
        so_far.last = codes.last().copied().or(so_far.last);
        so_far.rows += len as u64;
        let mut state = match so_far.pooling.take() {
            Some(state) if !piece.segment.starts => state,
            _ => pooling.start(),
        };
        let of_whole = (piece.segment, piece.length);
        let read = pooling.read((&rows, codes), of_whole, &mut state)?;
        if piece.segment.ends {
            found_pairs.append(&mut so_far.pairs);
        } else {
            so_far.pooling = Some(state);
        }
        found.push(read);
    }
    Ok((found, found_pairs))
}

/// The mean vector of each piece's sequence that ends.
fn means(hidden: &Tensor, pieces: &[Piece], so_far: &mut SoFar) -> Result<Summaries> {
    let width = hidden.width();
    let (mut runs, mut counts, mut first) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        let end = first + piece.segment.len;
        let before = runs.len();
        runs.extend(
            (first..end)
                .step_by(ROWS)
                .map(|from| from..end.min(from + ROWS)),
        );
        counts.push(runs.len() - before);
        first = end;
    }
    let sums: Vec<f32> = pool(hidden, &runs, Reduction::Sum)?.to_vec1()?; // (runs, D)
    let (mut sums, mut means) = (sums.chunks_exact(width), Vec::with_capacity(pieces.len()));
    for (piece, runs) in pieces.iter().zip(counts) {
        if piece.segment.starts {
            (so_far.rows, so_far.sums) = (0, vec![0.0; width]);
        }
        for run in sums.by_ref().take(runs) {
            let added = so_far.sums.iter_mut().zip(run);
            added.for_each(|(sum, x)| *sum += f64::from(*x));
        }
        so_far.rows += piece.segment.len as u64;
        let rows = so_far.rows as f64;
        let mean = || so_far.sums.iter().map(|sum| (sum / rows) as f32).collect();
        means.push(piece.segment.ends.then(mean));
    }
    Ok(means)
}
