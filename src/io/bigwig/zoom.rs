//! Summaries of a track for browsers that show more bases than pixels.

use super::sections::Sections;
use crate::error::Result;
use std::path::Path;

/// Levels at most; the coarsest has windows of 64 · 4⁹ items, 17 million bases of one each.
const LEVELS: usize = 10;
/// Items of a window of the finest level.
const FINEST: u32 = 64;
/// Windows of a level in one of the next.
const COARSER: u32 = 4;
/// Summaries of a section.
const RECORDS: usize = 512;
/// Bytes of a summary.
pub(super) const RECORD: usize = 32;
/// Bytes of a section before compression, at most.
pub(super) const SECTION: usize = RECORDS * RECORD;

/// What some bases have in common.
#[derive(Clone, Copy)]
pub(super) struct Summary {
    pub contig: u32,
    /// From the first to the last base that has a value.
    pub start: u32,
    pub end: u32,
    /// Bases with a value.
    pub covered: u64,
    pub least: f64,
    pub most: f64,
    pub sum: f64,
    pub squares: f64,
}

impl Summary {
    /// Of bases that have one value.
    pub fn of(contig: u32, start: u32, end: u32, value: f32) -> Self {
        let (bases, value) = (f64::from(end - start), f64::from(value));
        Self {
            contig,
            start,
            end,
            covered: u64::from(end - start),
            least: value,
            most: value,
            sum: bases * value,
            squares: bases * value * value,
        }
    }

    /// Adds what lies behind it.
    pub fn add(&mut self, next: &Self) {
        self.end = next.end;
        self.covered += next.covered;
        self.least = self.least.min(next.least);
        self.most = self.most.max(next.most);
        self.sum += next.sum;
        self.squares += next.squares;
    }

    fn record(&self) -> Vec<u8> {
        let places = [self.contig, self.start, self.end, self.covered as u32];
        let numbers = [self.least, self.most, self.sum, self.squares].map(|x| x as f32);
        let places = places.map(u32::to_le_bytes);
        [places.concat(), numbers.map(f32::to_le_bytes).concat()].concat()
    }
}

/// The summaries of all levels. Memory: a section of each level, and its share of an index.
pub(super) struct Zoom {
    levels: Vec<Level>,
}

/// Summaries of windows of one size.
pub(super) struct Level {
    /// Bases of a window, which lies at a multiple of them.
    pub window: u32,
    /// How many windows have a value.
    pub count: u64,
    pub sections: Sections,
    open: Option<Summary>,
    /// Of the open section, its bounds and bytes.
    bounds: [u32; 3],
    raw: Vec<u8>,
}

impl Zoom {
    /// Of values of `span` bases each.
    pub fn create(scratch: &Path, span: u32) -> Result<Self> {
        let sizes = (0..LEVELS as u32).map_while(|level| {
            let items = FINEST.checked_mul(COARSER.checked_pow(level)?)?;
            items.checked_mul(span)
        });
        let level = |window| {
            Ok(Level {
                window,
                count: 0,
                sections: Sections::create(scratch)?,
                open: None,
                bounds: [0; 3],
                raw: Vec::new(),
            })
        };
        Ok(Self {
            levels: sizes.map(level).collect::<Result<_>>()?,
        })
    }

    /// Adds what lies behind all before.
    pub fn add(&mut self, value: Summary, file: &Path) -> Result<()> {
        let mut next = Some(value);
        for level in &mut self.levels {
            let Some(value) = next else {
                return Ok(());
            };
            next = level.add(value, file)?;
        }
        Ok(())
    }

    /// The levels that have fewer windows than the one before, of which the finest has `values`.
    pub fn finish(mut self, values: u64, file: &Path) -> Result<Vec<Level>> {
        // What is open of a level belongs to the next ones, too.
        for i in 0..self.levels.len() {
            let last = self.levels[i].open.take();
            let Some(last) = last else {
                continue;
            };
            self.levels[i].put(&last, file)?;
            self.levels[i].close(file)?;
            let mut next = Some(last);
            for level in &mut self.levels[i + 1..] {
                next = match next {
                    Some(value) => level.add(value, file)?,
                    None => break,
                };
            }
        }
        let mut before = values;
        let coarser = |level: &Level| level.count < std::mem::replace(&mut before, level.count);
        Ok(self.levels.into_iter().take_while(coarser).collect())
    }
}

impl Level {
    /// Adds to the open window, or ends it and returns its summary.
    fn add(&mut self, value: Summary, file: &Path) -> Result<Option<Summary>> {
        let window = |x: &Summary| (x.contig, x.start / self.window);
        match &mut self.open {
            Some(open) if window(open) == window(&value) => {
                open.add(&value);
                Ok(None)
            }
            open => match open.replace(value) {
                Some(done) => {
                    self.put(&done, file)?;
                    Ok(Some(done))
                }
                None => Ok(None),
            },
        }
    }

    fn put(&mut self, done: &Summary, file: &Path) -> Result<()> {
        if self.raw.len() == SECTION || self.bounds[0] != done.contig {
            self.close(file)?;
        }
        if self.raw.is_empty() {
            self.bounds = [done.contig, done.start, done.end];
        }
        self.bounds[2] = done.end;
        self.count += 1;
        self.raw.extend(done.record());
        Ok(())
    }

    fn close(&mut self, file: &Path) -> Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let raw = std::mem::take(&mut self.raw);
        self.sections.push(self.bounds, &raw, file)
    }

    /// Where it lies: its bytes, if they begin at `at`; the index follows.
    pub fn header(&self, at: u64) -> Vec<u8> {
        let places = [at, at + 4 + self.sections.bytes()];
        let window = [self.window, 0].map(u32::to_le_bytes).concat();
        [window, places.map(u64::to_le_bytes).concat()].concat()
    }

    /// Gives its bytes to `write`; they begin at `at`. Returns where they end.
    pub fn copy(&self, at: u64, write: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        write(&(self.count as u32).to_le_bytes())?;
        self.sections.copy(write)?;
        let place = at + 4 + self.sections.bytes();
        let index = self.sections.index(at + 4, place, RECORDS);
        write(&index)?;
        Ok(place + index.len() as u64)
    }

    /// Bytes of it all, if it begins at `at`.
    pub fn bytes(&self, at: u64) -> u64 {
        let place = at + 4 + self.sections.bytes();
        4 + self.sections.bytes() + self.sections.index(at + 4, place, RECORDS).len() as u64
    }
}
