//! A head of a user's task, piece by piece: strands' parts, side by side, to what the head says.

use crate::error::Result;
use crate::head::{LocalState, TaskHead};
use crate::sequence::Segment;
use crate::table::{Batch, Positions};

/// The second stage of a head ([`TaskHead::end`]) on rows in the order of the reference.
pub(super) struct Ending<'a> {
    head: &'a TaskHead,
    state: Option<LocalState>,
    /// Rows whose right context has not come yet, without their values.
    waiting: Positions,
    /// Of a head that looks around, the last rows: whether a sequence ends with them shows later.
    last: Option<Positions>,
    begun: bool,
}

impl<'a> Ending<'a> {
    pub fn new(head: &'a TaskHead) -> Self {
        Self {
            head,
            state: head.start(),
            waiting: Positions::default(),
            last: None,
            begun: false,
        }
    }

    /// Rows of parts to the rows that are complete; `ends`: the sequence ends with them.
    pub fn push(&mut self, block: Positions, ends: bool) -> Result<Positions> {
        if !self.head.looks_around() {
            return self.end(block, ends);
        }
        let mut out = Positions::default();
        if !block.is_empty()
            && let Some(last) = self.last.replace(block)
        {
            out = self.end(last, false)?;
        }
        if ends && let Some(last) = self.last.take() {
            let more = self.end(last, true)?;
            out.append(&more, 0..more.len());
        }
        Ok(out)
    }

    fn end(&mut self, mut block: Positions, ends: bool) -> Result<Positions> {
        if block.is_empty() {
            return Ok(block);
        }
        let segment = Segment {
            lane: 0,
            len: block.len(),
            starts: !self.begun,
            ends,
        };
        self.begun = !ends;
        let parts = std::mem::take(&mut block.values);
        let said = self.head.end(parts, segment, &mut self.state)?;
        self.waiting.append(&block, 0..block.len());
        let mut out = self.waiting.take(said.len() / self.head.outputs());
        out.values = said;
        Ok(out)
    }
}
