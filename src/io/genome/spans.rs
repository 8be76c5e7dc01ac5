//! Regions: which spans of the contigs they are, and spans that are read at random by an index.

use super::Options;
use crate::error::Result;
use crate::io::indexed::Indexed;
use crate::io::sequences::{Planned, Sequence};
use crate::sequence::Contig;
use crate::sequence::region::{Span, merge, names};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

/// The spans of these contigs that are asked for: of the regions, or all; and of these the shard's.
///
/// # Errors
/// Usage, when a region cannot be.
pub fn asked(contigs: &[Contig], options: &Options) -> Result<Vec<Span>> {
    let places: HashMap<&str, usize> = contigs
        .iter()
        .enumerate()
        .map(|(i, contig)| (contig.name.as_str(), i))
        .collect();
    let mut spans = Vec::new();
    for region in &options.regions {
        spans.push(region.resolve_by(contigs, |name| places.get(name).copied())?);
    }
    if options.everything() {
        let whole = contigs.iter().zip(0..).map(|(contig, i)| Span {
            contig: i,
            start: 0,
            end: contig.length,
        });
        spans.extend(whole.filter(|span| span.end > 0));
    }
    spans.sort_unstable();
    if !options.keep_overlaps {
        merge(&mut spans);
    }
    Ok(match &options.shard {
        Some(cut) => cut.of(spans),
        None => spans,
    })
}

/// The sequence that some spans of one contig are read as.
pub fn planned(spans: &[Span], contigs: &[Contig], context: [u64; 2]) -> Planned {
    let reach = reach(spans, contigs, context);
    Planned {
        bases: reach.end - reach.start,
        rows: spans.iter().map(|span| span.start..span.end).collect(),
    }
}

/// What is read of spans of one contig, context included.
fn reach(spans: &[Span], contigs: &[Contig], [before, after]: [u64; 2]) -> Range<u64> {
    let length = contigs[spans[0].contig].length;
    let end = spans[spans.len() - 1].end.saturating_add(after);
    spans[0].start.saturating_sub(before)..end.min(length)
}

/// Spans read at random.
pub struct Spans {
    pub reader: Indexed,
    /// Bases before and after that are handed out too.
    context: [u64; 2],
    /// Spans that are read as one sequence each.
    left: VecDeque<Vec<Span>>,
}

impl Spans {
    pub fn new(reader: Indexed, options: &Options) -> Result<Self> {
        let spans = asked(reader.contigs(), options)?;
        let mut spans = Self {
            left: spans.into_iter().map(|span| vec![span]).collect(),
            reader,
            context: [options.context, options.context_after],
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
        reach(spans, self.reader.contigs(), self.context)
    }

    pub fn planned(&self) -> Vec<Planned> {
        let contigs = self.reader.contigs();
        let planned = |spans: &Vec<Span>| planned(spans, contigs, self.context);
        self.left.iter().map(planned).collect()
    }

    /// The contigs that are read.
    pub fn names(&self) -> Vec<String> {
        names(self.left.iter().flatten(), self.reader.contigs())
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
