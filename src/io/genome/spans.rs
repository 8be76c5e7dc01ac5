//! Regions, read at random by an index.

use super::Options;
use crate::error::Result;
use crate::io::indexed::Indexed;
use crate::io::sequences::{Planned, Sequence};
use crate::sequence::region::{Span, merge};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

/// Spans read at random.
pub struct Spans {
    pub reader: Indexed,
    context: u64,
    context_after: u64,
    /// Spans that are read as one sequence each.
    left: VecDeque<Vec<Span>>,
}

impl Spans {
    pub fn new(reader: Indexed, options: &Options) -> Result<Self> {
        let contigs = reader.contigs();
        let places: HashMap<&str, usize> = contigs
            .iter()
            .enumerate()
            .map(|(i, contig)| (contig.name.as_str(), i))
            .collect();
        let mut spans = Vec::new();
        for region in &options.regions {
            spans.push(region.resolve_by(contigs, |name| places.get(name).copied())?);
        }
        spans.sort_unstable();
        if !options.keep_overlaps {
            merge(&mut spans);
        }
        let mut spans = Self {
            left: spans.into_iter().map(|span| vec![span]).collect(),
            reader,
            context: options.context,
            context_after: options.context_after,
        };
        if options.together && !options.keep_overlaps {
            spans.bring_together();
        }
        Ok(spans)
    }

    /// Makes one sequence of a contig's spans where with their contexts they are more than it.
    fn bring_together(&mut self) {
        let mut left: VecDeque<Vec<Span>> = VecDeque::new();
        let mut all = std::mem::take(&mut self.left).into_iter().peekable();
        while let Some(first) = all.next() {
            let contig = first[0].contig;
            let mut of_contig = vec![first];
            while let Some(next) = all.next_if(|next| next[0].contig == contig) {
                of_contig.push(next);
            }
            let read = of_contig.iter().map(|spans| self.reach(spans));
            let bases: u64 = read.map(|reach| reach.end - reach.start).sum();
            if bases > self.reader.contigs()[contig].length {
                left.push_back(of_contig.concat());
            } else {
                left.extend(of_contig);
            }
        }
        self.left = left;
    }

    /// What is read of spans of one contig, context included.
    fn reach(&self, spans: &[Span]) -> Range<u64> {
        let length = self.reader.contigs()[spans[0].contig].length;
        let end = spans[spans.len() - 1]
            .end
            .saturating_add(self.context_after);
        spans[0].start.saturating_sub(self.context)..end.min(length)
    }

    pub fn planned(&self) -> Vec<Planned> {
        let planned = |spans: &Vec<Span>| {
            let reach = self.reach(spans);
            Planned {
                bases: reach.end - reach.start,
                rows: spans.iter().map(|span| span.start..span.end).collect(),
            }
        };
        self.left.iter().map(planned).collect()
    }

    pub fn next_sequence(&mut self) -> Result<Option<Sequence>> {
        let Some(spans) = self.left.pop_front() else {
            return Ok(None);
        };
        let Range { start, end } = self.reach(&spans);
        let (first, last) = (spans[0], spans[spans.len() - 1]);
        self.reader.seek(Span {
            start,
            end,
            ..first
        })?;
        let contig = &self.reader.contigs()[first.contig];
        Ok(Some(Sequence {
            contig: first.contig,
            name: contig.name.clone(),
            start,
            end,
            rows: first.start..last.end,
            gaps: spans
                .windows(2)
                .map(|pair| pair[0].end..pair[1].start)
                .collect(),
            length: Some(contig.length),
        }))
    }
}
