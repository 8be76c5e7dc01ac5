//! bigWig files: tracks of values that genome browsers read at random (Kent et al. 2010,
//! doi:10.1093/bioinformatics/btq351, and UCSC's `bbiFile.h`).

mod read;
mod sections;
mod tree;
mod zoom;

pub use read::read;

use super::atomic::{AtomicFile, Written};
use crate::error::{Error, Result};
use sections::Sections;
use std::io::Write;
use std::path::Path;
use zoom::{Level, Summary, Zoom};

const MAGIC: u32 = 0x888F_FC26;
/// Values of a section.
const VALUES: usize = 1024;
const HEADER: u64 = 64;
/// Bytes of a level's header.
const ZOOM: u64 = 24;
/// Bytes of the summary of all.
const TOTAL: u64 = 40;

/// Writes one track, with summaries for browsers that show much of a genome at once. The values
/// wait, compressed, in scratch files. Memory: some sections, and 32 bytes for each section of 1,024
/// values.
pub struct Writer {
    target: AtomicFile,
    data: Sections,
    zoom: Zoom,
    contigs: Vec<(String, u32)>,
    /// Where the open section starts, the bases of each of its values, and these.
    start: u32,
    span: u32,
    values: Vec<f32>,
    count: u64,
    total: Option<Summary>,
}

impl Writer {
    /// Writes to `target` values of about `span` bases each; scratch files lie in `scratch`.
    ///
    /// # Errors
    /// Io.
    pub fn create(target: AtomicFile, span: u32, scratch: &Path) -> Result<Self> {
        Ok(Self {
            target,
            data: Sections::create(scratch)?,
            zoom: Zoom::create(scratch, span)?,
            contigs: Vec::new(),
            start: 0,
            span,
            values: Vec::new(),
            count: 0,
            total: None,
        })
    }

    /// Begins a contig; ends the one before. It is as long as its last value reaches, unless
    /// [`Writer::length`] knows better.
    ///
    /// # Errors
    /// Io.
    pub fn begin(&mut self, contig: &str) -> Result<()> {
        self.close()?;
        if self.contigs.last().is_none_or(|(name, _)| name != contig) {
            self.contigs.push((contig.to_string(), 0));
        }
        Ok(())
    }

    /// Adds the value of the bases from `start` to `end`, which lie behind all before of the contig.
    /// NaN is none.
    ///
    /// # Errors
    /// Io; Usage beyond 4,294,967,295 bases, which the format cannot count.
    pub fn push(&mut self, start: u64, end: u64, value: f32) -> Result<()> {
        let end = u32::try_from(end).map_err(|_| {
            let todo = "write the table alone";
            Error::usage("a contig is too long for bigWig").todo(todo)
        })?;
        let start = start as u32;
        if value.is_nan() {
            return Ok(());
        }
        let span = end - start;
        let next = u64::from(self.start) + self.values.len() as u64 * u64::from(self.span);
        if self.values.len() == VALUES || next != u64::from(start) || self.span != span {
            self.close()?;
        }
        if self.values.is_empty() {
            (self.start, self.span) = (start, span);
        }
        self.values.push(value);
        self.count += 1;
        if let Some((_, length)) = self.contigs.last_mut() {
            *length = (*length).max(end);
        }
        let contig = self.contigs.len().saturating_sub(1) as u32;
        let value = Summary::of(contig, start, end, value);
        match &mut self.total {
            Some(total) => total.add(&value),
            total => *total = Some(value),
        }
        self.zoom.add(value, self.target.name())
    }

    /// Says how long a contig is, if it has been begun.
    pub fn length(&mut self, contig: &str, length: u64) {
        let known = self.contigs.iter_mut().find(|(name, _)| name == contig);
        if let Some((_, known)) = known {
            *known = (*known).max(u32::try_from(length).unwrap_or(u32::MAX));
        }
    }

    fn close(&mut self) -> Result<()> {
        let count = self.values.len() as u32;
        if count == 0 {
            return Ok(());
        }
        let bounds = [
            self.contigs.len() as u32 - 1,
            self.start,
            self.start + count * self.span,
        ];
        let mut raw = Vec::with_capacity(24 + 4 * self.values.len());
        // Step and span are the same; type 3: values alone.
        let fields = [self.span, self.span, 3 | count << 16];
        for field in bounds.into_iter().chain(fields) {
            raw.extend(field.to_le_bytes());
        }
        let values = self.values.drain(..);
        values.for_each(|x| raw.extend(x.to_le_bytes()));
        self.data.push(bounds, &raw, self.target.name())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Io.
    pub fn finish(mut self) -> Result<Written> {
        self.close()?;
        let name = self.target.name().to_path_buf();
        let levels = self.zoom.finish(self.count, &name)?;
        let total = HEADER + ZOOM * levels.len() as u64;
        let names = tree::names(&self.contigs, total + TOTAL);
        let data = total + TOTAL + names.len() as u64;
        let index = data + 4 + self.data.bytes();
        let index_bytes = self.data.index(data + 4, index, VALUES);
        let mut head = header([total + TOTAL, data, index], total, levels.len());
        let mut at = index + index_bytes.len() as u64;
        for level in &levels {
            head.extend(level.header(at));
            at += level.bytes(at);
        }
        head.extend(summary(self.total.as_ref()));
        head.extend(names);
        head.extend((self.data.len() as u32).to_le_bytes());
        let mut target = self.target;
        let mut write = |bytes: &[u8]| target.write_all(bytes).map_err(|e| Error::io(&name, &e));
        write(&head)?;
        self.data.copy(&mut write)?;
        write(&index_bytes)?;
        let mut at = index + index_bytes.len() as u64;
        for level in &levels {
            at = Level::copy(level, at, &mut write)?;
        }
        write(&MAGIC.to_le_bytes())?;
        target.finish()
    }
}

/// The fixed header: the places of names, data and index, and of the summary of all.
fn header(places: [u64; 3], total: u64, levels: usize) -> Vec<u8> {
    let mut head = Vec::new();
    head.extend(MAGIC.to_le_bytes());
    head.extend([4, levels as u16].map(u16::to_le_bytes).concat()); // version, zoom levels
    head.extend(places.map(u64::to_le_bytes).concat());
    head.extend([0u8; 2 + 2 + 8]); // fields of bigBed
    head.extend(total.to_le_bytes());
    let largest = (24 + 4 * VALUES).max(zoom::SECTION);
    head.extend((largest as u32).to_le_bytes());
    head.extend([0u8; 8]);
    head
}

/// The summary of all values.
fn summary(total: Option<&Summary>) -> Vec<u8> {
    let (covered, numbers) = match total {
        Some(x) => (x.covered, [x.least, x.most, x.sum, x.squares]),
        None => (0, [0.0; 4]),
    };
    let numbers = numbers.map(f64::to_le_bytes).concat();
    [covered.to_le_bytes().to_vec(), numbers].concat()
}

#[cfg(test)]
mod tests;
