//! An input read once, from its start to its end.

use super::Options;
use super::index::Index;
use crate::error::{Error, Result};
use crate::io::fasta::Reader;
use crate::io::input::Input;
use crate::io::sequences::Sequence;
use crate::sequence::Contig;
use crate::sequence::region::{Span, TO_END, merge};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

/// The input read from its start to its end.
pub struct Stream {
    pub reader: Reader<Input>,
    options: Options,
    /// The regions that may mean a contig, by its name.
    asked: HashMap<String, Vec<usize>>,
    /// Instead of regions, the spans of each contig that are wanted.
    spans: Option<HashMap<usize, Vec<Span>>>,
    /// The contig that answers to each region.
    answers: Vec<Option<usize>>,
    pub contigs: Vec<Contig>,
    /// The current contig's name, until all that was asked of it was handed out.
    name: Option<String>,
    /// Its length, once its end was read: spans before that may still be to come.
    length: Option<u64>,
    /// Spans of the current contig that are still to come, in order.
    left: VecDeque<Span>,
    /// The current span, from the next base to be handed out.
    span: Range<u64>,
    /// How far the current contig was read.
    read: u64,
    /// The last bases read, those that this or a coming span needs again.
    kept: VecDeque<u8>,
    /// What the file must have, if an index says so.
    index: Option<Index>,
}

impl Stream {
    pub fn new(input: Input, options: Options, index: Option<Index>) -> Self {
        let mut asked: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, region) in options.regions.iter().enumerate() {
            for name in region.names() {
                asked.entry(name.to_string()).or_default().push(i);
            }
        }
        Self {
            asked,
            spans: options.nothing.then(HashMap::new),
            reader: Reader::new(input).allow_empty(options.allow_empty),
            answers: vec![None; options.regions.len()],
            options,
            contigs: Vec::new(),
            name: None,
            length: None,
            left: VecDeque::new(),
            span: 0..0,
            read: 0,
            kept: VecDeque::new(),
            index,
        }
    }

    /// The same of these spans instead of regions.
    pub fn of_spans(input: Input, options: Options, index: Option<Index>, spans: &[Span]) -> Self {
        let mut of_contig: HashMap<usize, Vec<Span>> = HashMap::new();
        for span in spans {
            of_contig.entry(span.contig).or_default().push(*span);
        }
        let options = Options {
            regions: Vec::new(),
            ..options
        };
        Self {
            spans: Some(of_contig),
            ..Self::new(input, options, index)
        }
    }

    pub fn next_sequence(&mut self) -> Result<Option<Sequence>> {
        loop {
            if let Some(sequence) = self.next_span()? {
                return Ok(Some(sequence));
            }
            self.end_contig()?;
            let Some(name) = self.reader.next_sequence()? else {
                let unanswered = self.answers.iter().position(Option::is_none);
                if let Some(i) = unanswered {
                    return Err(self.options.regions[i].unknown(&self.contigs));
                }
                if let Some(index) = &self.index {
                    index.must_fit(&self.contigs)?;
                }
                return Ok(None);
            };
            self.begin_contig(name)?;
        }
    }

    /// Finds what is wanted of the contig that begins.
    fn begin_contig(&mut self, name: String) -> Result<()> {
        let contig = self.contigs.len();
        let mut spans = Vec::new();
        if let Some(of_contig) = &mut self.spans {
            spans.extend(of_contig.remove(&contig).unwrap_or_default());
        } else if self.options.regions.is_empty() && !self.reader.at_sequence_end()? {
            spans.push(Span {
                contig,
                start: 0,
                end: TO_END,
            });
        }
        for &i in self.asked.get(&name).map_or(&[][..], Vec::as_slice) {
            let region = &self.options.regions[i];
            let Some(wanted) = region.on(&name) else {
                continue;
            };
            if self.answers[i].replace(contig).is_some() {
                return Err(region.ambiguous());
            }
            spans.push(Span {
                contig,
                start: wanted.start,
                end: wanted.end,
            });
        }
        spans.sort_unstable();
        if !self.options.keep_overlaps {
            merge(&mut spans);
        }
        if spans.windows(2).any(|pair| pair[1].start < pair[0].end) {
            let what = format!("regions of \"{name}\" overlap, and the input is read only once");
            let todo = "let them be joined, or index the file (bgzip, samtools faidx)";
            return Err(Error::usage(what).todo(todo));
        }
        self.left = spans.into();
        self.name = Some(name);
        self.length = None;
        self.read = 0;
        self.span = 0..0;
        self.kept.clear();
        Ok(())
    }

    /// Goes to the next span of the current contig.
    fn next_span(&mut self) -> Result<Option<Sequence>> {
        let (Some(name), Some(span)) = (self.name.clone(), self.left.pop_front()) else {
            return Ok(None);
        };
        let start = span.start.saturating_sub(self.options.context);
        let known = self.read - self.kept.len() as u64;
        self.forget(start.saturating_sub(known));
        if self.read < start {
            self.read += self.reader.skip_bases(start - self.read)?;
            if self.read < start {
                self.end_contig()?;
                return Ok(None);
            }
        }
        let most = self.length.unwrap_or(TO_END);
        let end = span.end.saturating_add(self.options.context_after);
        let end = end.min(most);
        self.span = start..end;
        Ok(Some(Sequence {
            contig: span.contig,
            name,
            start,
            end,
            rows: span.start..span.end.min(most),
            gaps: Vec::new(),
            length: self.length,
        }))
    }

    pub fn read_bases(&mut self, codes: &mut Vec<u8>, max: usize) -> Result<usize> {
        let before = codes.len();
        while codes.len() - before < max && !self.span.is_empty() {
            let room = (max - (codes.len() - before)) as u64;
            let room = room.min(self.span.end - self.span.start) as usize;
            let known = self.read - self.kept.len() as u64;
            if self.span.start < self.read {
                let from = (self.span.start - known) as usize;
                let n = room.min(self.kept.len() - from);
                codes.extend(self.kept.range(from..from + n));
                self.span.start += n as u64;
                continue;
            }
            let keep = self.left.front().map_or(TO_END, |next| {
                next.start.saturating_sub(self.options.context)
            });
            self.forget(keep.saturating_sub(known));
            let n = self.reader.read_bases(codes, room)?;
            if n == 0 {
                self.span = 0..0;
                self.reach_end()?;
                break;
            }
            let new = &codes[codes.len() - n..];
            let skipped = keep.saturating_sub(self.read).min(n as u64) as usize;
            self.kept.extend(&new[skipped..]);
            self.read += n as u64;
            self.span.start = self.read;
        }
        Ok(codes.len() - before)
    }

    /// Forgets the first `n` kept bases.
    fn forget(&mut self, n: u64) {
        let n = n.min(self.kept.len() as u64) as usize;
        self.kept.drain(..n);
    }

    /// Leaves the current contig behind.
    fn end_contig(&mut self) -> Result<()> {
        self.reach_end()?;
        self.name = None;
        self.left.clear();
        self.span = 0..0;
        Ok(())
    }

    /// Reads the current contig to its end; checks what was asked of it against its length. Spans
    /// that are still to come stay: their bases are kept.
    fn reach_end(&mut self) -> Result<()> {
        let (Some(name), None) = (&self.name, self.length) else {
            return Ok(());
        };
        let length = self.reader.finish_sequence()?;
        let contig = Contig {
            name: name.clone(),
            length,
        };
        for &i in self.asked.get(name).map_or(&[][..], Vec::as_slice) {
            let region = &self.options.regions[i];
            if let Some(wanted) = region.on(name) {
                region.check_contig(wanted.start, &contig)?;
                if wanted.end != TO_END {
                    region.warn_if_clipped(wanted.end, length);
                }
            }
        }
        self.length = Some(length);
        self.contigs.push(contig);
        Ok(())
    }
}
