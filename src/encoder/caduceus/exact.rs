//! One whole sequence of any length: layer by layer over tiles, what lies between the layers
//! outside memory. Gu & Dao's scan carries its state either way, so only the order of work differs
//! from [`Encoder::forward`](super::Encoder::forward).
//!
//! Each layer passes over the tiles twice: from the first to the last for the share of the
//! rightward scan, which is stored, then from the last to the first for the leftward scan's, which
//! completes the layer. The residual stream may change only then, so norm and projections are
//! computed in both passes; storing them instead would take I values a base more.
//!
//! Stored: the residual stream of each strand and one strand's shares, D values a base each. That
//! is 8 D bytes a base for Ph and 12 D for PS (D 256: 2 and 3 KiB). A layer reads 12 D and writes
//! 8 D bytes a base and strand. Its products grow from the projections' 6 I D operations a base to
//! 12 I D; the scans do not. In memory: the activations of a tile, and one scan's state.

use super::mixer::{Carry, Direction};
use super::{Block, Model};
use crate::encoder::Segment;
use crate::encoder::facts::Layer;
use crate::encoder::layers::depth;
use crate::error::{Error, Kind, Result};
use crate::ops::with_slices;
use crate::ops::{Device, Tensor};
use crate::sequence::mirrored;
use std::ops::Range;

/// Values outside memory, addressed from 0. None is read before it was written.
pub struct Store<'a> {
    /// Fills the slice with the values from this address on.
    pub read: &'a dyn Fn(u64, &mut [f32]) -> Result<()>,
    /// Writes values from this address on, over what was there.
    pub write: &'a dyn Fn(u64, &[f32]) -> Result<()>,
}

/// A sequence that runs through all layers outside memory.
pub struct Exact<'a> {
    /// The encoder.
    pub model: &'a Model,
    /// Room for [`Model::stored`] values a token.
    pub store: Store<'a>,
    /// Tokens of the sequence, L.
    pub length: u64,
    /// Tokens that are in memory at a time, at least 1. Changes the numbers by rounding only.
    pub tile: usize,
    /// The layer whose vectors are asked for; blocks behind it do not run.
    pub layer: Layer,
}

impl Model {
    /// Values that [`Exact`] stores for each token.
    pub fn stored(&self) -> usize {
        (self.strands() + 1) as usize * self.width()
    }

    fn strands(&self) -> u64 {
        1 + u64::from(self.complement.is_some())
    }

    /// D.
    fn width(&self) -> usize {
        self.embedding.dims().last().copied().unwrap_or_default()
    }
}

impl Exact<'_> {
    /// How often [`Exact::layers`] passes over the sequence.
    pub fn passes(&self) -> u64 {
        self.model.strands() * 2 * self.depth() as u64
    }

    /// Blocks that must run.
    fn depth(&self) -> usize {
        depth(&[self.layer], self.model.blocks.len())
    }

    /// Runs all blocks that must run; [`rows`](Self::rows) may be read then.
    ///
    /// `tokens` gives the ids of a range of the sequence. `passed` is told the tokens of each tile
    /// that is done, [`Exact::passes`] times L in all; an error of either ends the run. All room is
    /// taken by the end of the first pass, so a full disk shows early.
    pub fn layers(
        &self,
        tokens: &mut dyn FnMut(Range<u64>) -> Result<Vec<u32>>,
        passed: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        for strand in 0..self.model.strands() {
            for tile in self.tiles() {
                let ids = match strand {
                    0 => tokens(tile.clone())?,
                    _ => self.complement(tokens(self.mirror(&tile))?),
                };
                let ids = Tensor::new(ids, &Device::Cpu)?; // (T)
                let x = self.model.embedding.index_select(&ids, 0)?; // (T, D)
                self.write(strand, &tile, &x)?;
            }
        }
        for strand in 0..self.model.strands() {
            for block in self.model.blocks.iter().take(self.depth()) {
                self.layer(block, strand, passed)?;
            }
        }
        Ok(())
    }

    /// The layer's vectors (T, D) of T tokens, for PS (T, 2D), as of
    /// [`forward_layers`](super::Encoder::forward_layers). Any ranges, in any order.
    pub fn rows(&self, rows: Range<u64>) -> Result<Tensor> {
        if rows.is_empty() || rows.end > self.length {
            let what = format!("rows {rows:?} of a sequence of {}", self.length);
            return Err(Error::new(Kind::Internal, what));
        }
        if matches!(self.layer, Layer::Within(..)) {
            return Err(Error::new(Kind::Internal, "only whole blocks are stored"));
        }
        let f = self.read(0, &rows)?;
        if self.model.complement.is_none() {
            return match self.layer {
                Layer::Norm => self.model.norm.forward(&f),
                _ => Ok(f),
            };
        }
        let g = self.read(1, &self.mirror(&rows))?;
        let flip = Tensor::new(mirrored(&[self.segment(&rows, false)]), &Device::Cpu)?;
        self.model.join(f, g, &flip, self.layer)
    }

    fn layer(
        &self,
        block: &Block,
        strand: u64,
        passed: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let shares = self.model.strands(); // behind the strands
        let mut carry = block.mixer.start(Direction::Rightward);
        for tile in self.tiles() {
            let segment = self.segment(&tile, false);
            let x = self.read(strand, &tile)?;
            let share = block.share(&x, Direction::Rightward, &mut carry, segment)?;
            self.write(shares, &tile, &share)?;
            passed(segment.len)?;
        }
        let mut carry = block.mixer.start(Direction::Leftward);
        for tile in self.tiles().rev() {
            let segment = self.segment(&tile, true);
            let x = self.read(strand, &tile)?;
            let left = block.share(&x, Direction::Leftward, &mut carry, segment)?;
            let right = self.read(shares, &tile)?;
            let both = if block.multiply {
                right.mul(&left)?
            } else {
                right.add(&left)?
            };
            self.write(strand, &tile, &both.add(&x)?)?;
            passed(segment.len)?;
        }
        Ok(())
    }

    fn tiles(&self) -> impl DoubleEndedIterator<Item = Range<u64>> {
        let (length, tile) = (self.length, self.tile.max(1) as u64);
        (0..length.div_ceil(tile)).map(move |i| i * tile..((i + 1) * tile).min(length))
    }

    /// The same bases in the other strand's direction of reading.
    fn mirror(&self, tile: &Range<u64>) -> Range<u64> {
        self.length - tile.end..self.length - tile.start
    }

    fn complement(&self, ids: Vec<u32>) -> Vec<u32> {
        let map = self.model.complement.as_deref().unwrap_or_default();
        let complement = |id: u32| map.get(id as usize).copied().unwrap_or(map.len() as u32);
        ids.into_iter().rev().map(complement).collect()
    }

    fn segment(&self, tile: &Range<u64>, leftward: bool) -> Segment {
        let (first, last) = (tile.start == 0, tile.end == self.length);
        let (starts, ends) = if leftward {
            (last, first)
        } else {
            (first, last)
        };
        Segment {
            lane: 0,
            len: (tile.end - tile.start) as usize,
            starts,
            ends,
        }
    }

    /// Where the rows of a strand, or the shares behind them, are stored.
    fn address(&self, strand: u64, row: u64) -> u64 {
        (strand * self.length + row) * self.model.width() as u64
    }

    fn read(&self, strand: u64, tile: &Range<u64>) -> Result<Tensor> {
        let rows = (tile.end - tile.start) as usize;
        let mut values = vec![0.0; rows * self.model.width()];
        (self.store.read)(self.address(strand, tile.start), &mut values)?;
        let shape = (rows, self.model.width());
        Tensor::from_vec(values, shape, &Device::Cpu)
    }

    fn write(&self, strand: u64, tile: &Range<u64>, x: &Tensor) -> Result<()> {
        let address = self.address(strand, tile.start);
        with_slices([x], |[x]| (self.store.write)(address, x))
    }
}

impl Block {
    /// What one direction adds to, or multiplies into, the layer's output: (T, D) to (T, D).
    fn share(
        &self,
        x: &Tensor,
        direction: Direction,
        carry: &mut Carry,
        segment: Segment,
    ) -> Result<Tensor> {
        let y = self.norm.forward(x)?;
        let y = self.mixer.one(&y, direction, carry, &[segment])?; // (T, I)
        self.out_proj.forward(&y)
    }
}
