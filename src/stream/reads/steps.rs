//! Reads to steps. Where a read is cut depends on itself alone, not on what came before it.

use super::{ReadSettings, SourceRead};
use crate::error::Result;
use crate::io::alignments::{Alignments, flag};
use crate::sequence::Segment;
use crate::stream::Position;
use crate::table::ReadStatus;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Bytes of records after which a step ends, though it has room for more bases.
const RECORDS: usize = 8 << 20;

/// What a run over reads did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadTotals {
    /// Records of the input, those of other shards among them.
    pub records: u64,
    /// Secondary alignments that were left out.
    pub secondary: u64,
    /// Supplementary alignments that were left out.
    pub supplementary: u64,
    /// Rows: reads.
    pub rows: u64,
    /// Reads without a sequence.
    pub no_sequence: u64,
    /// Reads whose alignment is invalid.
    pub bad_alignment: u64,
    /// Bases of all reads.
    pub bases: u64,
    /// The longest read.
    pub longest: u64,
    /// Bases that are N or another ambiguity code.
    pub ambiguous: u64,
}

/// What the model reads in one call.
#[derive(Default)]
pub struct ReadStep {
    /// Parts of reads, end to end, and records between them that are not read.
    pub parts: Vec<ReadPart>,
}

/// Consecutive bases of a read.
pub struct ReadPart {
    /// The read.
    pub read: Arc<SourceRead>,
    /// The read's base that the part starts with.
    pub from: usize,
    /// Base codes in the order in which they are read; none of a record that is not.
    pub codes: Vec<u8>,
    /// Those that count: all, or the centre of a window.
    pub kept: Range<usize>,
    /// Where the part stands in the state; none without bases.
    pub segment: Option<Segment>,
    /// The read ends with this part.
    pub last: bool,
}

impl ReadPart {
    /// The read, for messages.
    pub fn name(&self) -> String {
        format!("read {}", String::from_utf8_lossy(self.read.record.name()))
    }
}

impl ReadStep {
    /// The name of the last read.
    pub fn name(&self) -> String {
        let name = self.parts.last().map(|part| part.read.record.name());
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
    }

    /// The read of a token, for messages.
    pub fn place(&self, token: usize) -> String {
        let mut before = 0;
        for part in &self.parts {
            before += part.codes.len();
            if token < before {
                return part.name();
            }
        }
        String::new()
    }

    /// Whether the state carries nothing after it.
    pub fn ends(&self) -> bool {
        let mut segments = self.parts.iter().rev().filter_map(|part| part.segment);
        segments.next().is_none_or(|segment| segment.ends)
    }

    /// About what it takes in memory.
    pub fn bytes(&self) -> usize {
        let records = self.parts.iter().filter(|part| part.last);
        let records = records.map(|part| part.read.record.bytes().len() + size_of::<ReadPart>());
        self.len() + records.sum::<usize>()
    }

    /// Tokens.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.codes.len()).sum()
    }
}

/// Makes steps of records.
pub struct ReadSteps<'a> {
    source: &'a mut Alignments,
    settings: ReadSettings,
    current: Option<Current>,
    totals: ReadTotals,
}

/// A read that is not read to its end.
struct Current {
    read: Arc<SourceRead>,
    codes: Vec<u8>,
    at: usize,
}

impl<'a> ReadSteps<'a> {
    pub fn new(source: &'a mut Alignments, settings: ReadSettings) -> Self {
        Self {
            source,
            settings,
            current: None,
            totals: ReadTotals::default(),
        }
    }

    /// What was read so far.
    pub fn totals(self) -> ReadTotals {
        self.totals
    }

    /// How far the records were read: so many of them, the last one up to this base, or all of it.
    pub fn position(&self) -> Position {
        let records = self.totals.records;
        match &self.current {
            // It waits for the next step.
            Some(Current { at: 0, .. }) => Position {
                sequences: records - 1,
                bases: 0,
            },
            Some(Current { at, .. }) => Position {
                sequences: records,
                bases: *at as u64,
            },
            None => Position {
                sequences: records,
                bases: 0,
            },
        }
    }

    /// Passes over everything before `position`.
    pub fn skip(&mut self, position: Position) -> Result<()> {
        let mut last = None;
        while self.totals.records < position.sequences {
            let Some(read) = self.next_read()? else {
                break;
            };
            if self.totals.records > position.sequences {
                // Those before it get no row.
                self.current = Some(self.open(read, 0));
                return Ok(());
            }
            last = Some(read);
        }
        if let (Some(read), 1..) = (last, position.bases) {
            self.current = Some(self.open(read, position.bases as usize));
        }
        Ok(())
    }

    fn open(&self, read: SourceRead, at: usize) -> Current {
        let codes = if read.wanted {
            read.record.codes(self.settings.sequenced)
        } else {
            Vec::new()
        };
        Current {
            read: Arc::new(read),
            codes,
            at,
        }
    }

    /// The next step; `None` after the last record.
    pub fn next_step(&mut self) -> Result<Option<ReadStep>> {
        let mut step = ReadStep::default();
        let (mut tokens, mut bytes) = (0, 0);
        while tokens < self.settings.chunk && bytes < RECORDS {
            let Some(current) = self.current.take() else {
                let Some(read) = self.next_read()? else { break };
                bytes += read.record.bytes().len() + size_of::<ReadPart>();
                self.current = Some(self.open(read, 0));
                continue;
            };
            let room = self.settings.chunk - tokens;
            let left = current.codes.len() - current.at;
            let windows = self.settings.windows;
            let size = windows.map_or(self.settings.chunk, |windows| windows.size);
            if size.min(left) > room && tokens > 0 {
                self.current = Some(current);
                break;
            }
            let part = self.part(&current, size);
            tokens += part.codes.len();
            let overlap = windows.map_or(0, |windows| windows.overlap);
            if !part.last {
                let at = current.at + part.codes.len() - overlap;
                self.current = Some(Current { at, ..current });
            }
            step.parts.push(part);
        }
        Ok((!step.parts.is_empty()).then_some(step))
    }

    /// At most `size` bases more.
    fn part(&self, current: &Current, size: usize) -> ReadPart {
        let from = current.at;
        let codes = &current.codes[from..];
        let last = codes.len() <= size;
        let codes = codes[..size.min(codes.len())].to_vec();
        let len = codes.len();
        let (kept, starts, ends) = match self.settings.windows {
            None => (0..len, from == 0, last),
            Some(windows) => {
                let after = if windows.centred {
                    windows.overlap / 2
                } else {
                    0
                };
                let first = if from == 0 {
                    0
                } else {
                    windows.overlap - after
                };
                (first..if last { len } else { len - after }, true, true)
            }
        };
        let segment = Segment {
            lane: 0,
            len,
            starts,
            ends,
        };
        ReadPart {
            read: Arc::clone(&current.read),
            from,
            codes,
            kept,
            segment: (len > 0).then_some(segment),
            last,
        }
    }

    /// The next record that is read, or handed on.
    fn next_read(&mut self) -> Result<Option<SourceRead>> {
        while let Some(record) = self.source.next_record()? {
            let index = self.totals.records.cast_signed();
            self.totals.records += 1;
            let blocks = self.settings.blocks;
            if blocks.is_some_and(|blocks| !blocks.has(index.cast_unsigned())) {
                continue;
            }
            let other = record.flag() & (flag::SECONDARY | flag::SUPPLEMENTARY);
            let wanted = other == 0 || self.settings.all;
            if !wanted {
                match other & flag::SECONDARY {
                    0 => self.totals.supplementary += 1,
                    _ => self.totals.secondary += 1,
                }
                if !self.settings.keep {
                    continue;
                }
            }
            let placed = record.placed(&self.source.header().contigs);
            let read = SourceRead {
                index,
                record,
                placed,
                wanted,
                positions: OnceLock::new(),
            };
            if wanted {
                self.totals.rows += 1;
                self.totals.bases += read.record.len() as u64;
                self.totals.longest = self.totals.longest.max(read.record.len() as u64);
                self.totals.no_sequence += u64::from(read.record.is_empty());
                let wrong = read.status() == ReadStatus::BadAlignment;
                self.totals.bad_alignment += u64::from(wrong);
            }
            return Ok(Some(read));
        }
        Ok(None)
    }
}
