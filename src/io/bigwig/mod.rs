//! bigWig files: tracks of values that genome browsers read at random (Kent et al. 2010,
//! doi:10.1093/bioinformatics/btq351, and UCSC's `bbiFile.h`).
//!
//! Written files have no zoom levels: browsers make their summaries from the values.

mod read;

pub use read::read;

use super::atomic::{AtomicFile, Written};
use super::spill::Spill;
use crate::error::{Error, Result};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::io::Write;
use std::path::Path;

const MAGIC: u32 = 0x888F_FC26;
const NAMES: u32 = 0x78CA_8C91;
const INDEX: u32 = 0x2468_ACE0;
/// Children of a node of the trees.
const CHILDREN: usize = 256;
/// Values of a section.
const VALUES: usize = 1024;
const HEADER: u64 = 64;
const SUMMARY: u64 = 40;

/// Writes one track. The values wait, compressed, in a scratch file. Memory: a section, and 32 bytes
/// for each section of 1024 values.
pub struct Writer {
    target: AtomicFile,
    data: Spill,
    sections: Vec<Section>,
    contigs: Vec<(String, u32)>,
    /// Where the open section starts, and its values.
    start: u32,
    values: Vec<f32>,
    covered: u64,
    least: f64,
    most: f64,
    sum: f64,
    squares: f64,
}

#[derive(Clone, Copy)]
struct Section {
    contig: u32,
    start: u32,
    end: u32,
    bytes: u64,
}

impl Writer {
    /// Writes to `target`; scratch files lie in `scratch`.
    ///
    /// # Errors
    /// Io.
    pub fn create(target: AtomicFile, scratch: &Path) -> Result<Self> {
        Ok(Self {
            target,
            data: Spill::create(scratch)?,
            sections: Vec::new(),
            contigs: Vec::new(),
            start: 0,
            values: Vec::new(),
            covered: 0,
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
            sum: 0.0,
            squares: 0.0,
        })
    }

    /// Begins a contig; ends the one before. Its length is known with [`Writer::end`].
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

    /// Adds the value of the base at `position`, which grows within a contig. NaN is none.
    ///
    /// # Errors
    /// Io; Usage beyond 4,294,967,295 bases, which the format cannot count.
    pub fn push(&mut self, position: u64, value: f32) -> Result<()> {
        let at = u32::try_from(position + 1).map_err(|_| {
            Error::usage("a contig is too long for bigWig").todo("write the table alone")
        })? - 1;
        if value.is_nan() {
            return Ok(());
        }
        if self.values.len() == VALUES
            || u64::from(self.start) + self.values.len() as u64 != position
        {
            self.close()?;
        }
        if self.values.is_empty() {
            self.start = at;
        }
        self.values.push(value);
        if let Some((_, length)) = self.contigs.last_mut() {
            *length = (*length).max(at + 1);
        }
        let x = f64::from(value);
        self.covered += 1;
        self.least = self.least.min(x);
        self.most = self.most.max(x);
        self.sum += x;
        self.squares += x * x;
        Ok(())
    }

    /// Says how long the current contig is.
    pub fn end(&mut self, length: u64) {
        if let Some((_, known)) = self.contigs.last_mut() {
            *known = (*known).max(u32::try_from(length).unwrap_or(u32::MAX));
        }
    }

    fn close(&mut self) -> Result<()> {
        let count = self.values.len() as u32;
        if count == 0 {
            return Ok(());
        }
        let contig = self.contigs.len() as u32 - 1;
        let (start, end) = (self.start, self.start + count);
        let mut raw = Vec::with_capacity(24 + 4 * self.values.len());
        // Step and span of one base; type 3: values alone.
        for field in [contig, start, end, 1, 1, 3 | count << 16] {
            raw.extend(field.to_le_bytes());
        }
        self.values
            .drain(..)
            .for_each(|x| raw.extend(x.to_le_bytes()));
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        let packed = encoder.write_all(&raw).and_then(|()| encoder.finish());
        let packed = packed.map_err(|e| Error::io(self.target.name(), &e))?;
        self.data.push(&packed)?;
        self.sections.push(Section {
            contig,
            start,
            end,
            bytes: packed.len() as u64,
        });
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Io.
    pub fn finish(mut self) -> Result<Written> {
        self.close()?;
        let names = self.names(HEADER + SUMMARY);
        let data = HEADER + SUMMARY + names.len() as u64;
        let index = data + 4 + self.data.bytes();
        let mut head = Vec::new();
        head.extend(MAGIC.to_le_bytes());
        head.extend([4u16, 0].map(u16::to_le_bytes).concat()); // version, zoom levels
        head.extend(
            [HEADER + SUMMARY, data, index]
                .map(u64::to_le_bytes)
                .concat(),
        );
        head.extend([0u8; 2 + 2 + 8]); // fields of bigBed
        head.extend(HEADER.to_le_bytes());
        head.extend((24 + 4 * VALUES as u32).to_le_bytes());
        head.extend([0u8; 8]);
        let bounds = if self.covered > 0 {
            [self.least, self.most]
        } else {
            [0.0; 2]
        };
        head.extend(self.covered.to_le_bytes());
        head.extend(
            [bounds[0], bounds[1], self.sum, self.squares]
                .map(f64::to_le_bytes)
                .concat(),
        );
        head.extend(names);
        head.extend((self.sections.len() as u32).to_le_bytes());
        let index = self.index(data + 4, index);
        let (mut target, mut at) = (self.target, 0);
        let name = target.name().to_path_buf();
        let mut write = |bytes: &[u8]| target.write_all(bytes).map_err(|e| Error::io(&name, &e));
        write(&head)?;
        for section in &self.sections {
            write(&self.data.read(at, section.bytes as usize)?)?;
            at += section.bytes;
        }
        write(&index)?;
        write(&MAGIC.to_le_bytes())?;
        target.finish()
    }

    /// The tree of names, whose file position is `at`.
    fn names(&self, at: u64) -> Vec<u8> {
        let mut order: Vec<u32> = (0..self.contigs.len() as u32).collect();
        order.sort_by_key(|id| &self.contigs[*id as usize].0);
        let width = self
            .contigs
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(1);
        let key = |i: usize| {
            let mut key = self.contigs[order[i] as usize].0.as_bytes().to_vec();
            key.resize(width, 0);
            key
        };
        let mut out = Vec::new();
        for field in [NAMES, CHILDREN as u32, width as u32, 8] {
            out.extend(field.to_le_bytes());
        }
        out.extend([order.len() as u64, 0].map(u64::to_le_bytes).concat());
        let leaf = |i: usize| {
            let id = order[i];
            [
                key(i),
                [id, self.contigs[id as usize].1]
                    .map(u32::to_le_bytes)
                    .concat(),
            ]
            .concat()
        };
        let inner =
            |from: usize, _: usize, child: u64| [key(from), child.to_le_bytes().to_vec()].concat();
        tree(
            &mut out,
            at + 32,
            order.len(),
            [width + 8, width + 8],
            &leaf,
            &inner,
        );
        out
    }

    /// The index of the sections, which lie from `data` on; its file position is `at`.
    fn index(&self, data: u64, at: u64) -> Vec<u8> {
        let sections = &self.sections;
        let mut places = vec![data];
        places.extend(sections.iter().scan(data, |at, section| {
            *at += section.bytes;
            Some(*at)
        }));
        let bounds = |from: usize, to: usize| -> Vec<u8> {
            let (first, last) = (sections.get(from), sections.get(to.wrapping_sub(1)));
            let first = first.map_or([0; 2], |s| [s.contig, s.start]);
            let last = last.map_or([0; 2], |s| [s.contig, s.end]);
            [first, last]
                .concat()
                .into_iter()
                .flat_map(u32::to_le_bytes)
                .collect()
        };
        let mut out = Vec::new();
        out.extend([INDEX, CHILDREN as u32].map(u32::to_le_bytes).concat());
        out.extend((sections.len() as u64).to_le_bytes());
        out.extend(bounds(0, sections.len()));
        out.extend(at.to_le_bytes()); // the end of the data
        out.extend([VALUES as u32, 0].map(u32::to_le_bytes).concat());
        let leaf = |i: usize| {
            let place = [places[i], sections[i].bytes]
                .map(u64::to_le_bytes)
                .concat();
            [bounds(i, i + 1), place].concat()
        };
        let inner = |from: usize, to: usize, child: u64| {
            [bounds(from, to), child.to_le_bytes().to_vec()].concat()
        };
        tree(&mut out, at + 48, sections.len(), [32, 24], &leaf, &inner);
        out
    }
}

/// Appends a tree of `count` leaf items, of which [`CHILDREN`] share a node, from its root down;
/// `at`: the root's place in the file. `widths`: bytes of an item of a leaf and of an inner node.
/// `inner` is given the range of leaf items below a child, and the child's place.
fn tree(
    out: &mut Vec<u8>,
    mut at: u64,
    count: usize,
    widths: [usize; 2],
    leaf: &dyn Fn(usize) -> Vec<u8>,
    inner: &dyn Fn(usize, usize, u64) -> Vec<u8>,
) {
    // Leaf items below one item of each level, the root's level first.
    let mut below = vec![1];
    while below[0] * CHILDREN < count {
        below.insert(0, below[0] * CHILDREN);
    }
    for (level, &each) in below.iter().enumerate() {
        let width = widths[usize::from(each > 1)];
        let nodes = count.div_ceil(each * CHILDREN).max(1);
        let next = at + (nodes * (4 + CHILDREN * width)) as u64;
        let child = below
            .get(level + 1)
            .map_or(0, |each| 4 + CHILDREN * widths[usize::from(*each > 1)]);
        for node in 0..nodes {
            let first = node * CHILDREN;
            let items = count.div_ceil(each).saturating_sub(first).min(CHILDREN);
            out.extend([u8::from(each == 1), 0]);
            out.extend((items as u16).to_le_bytes());
            for item in first..first + items {
                let range = (item * each, ((item + 1) * each).min(count));
                out.extend(match each {
                    1 => leaf(item),
                    _ => inner(range.0, range.1, next + (item * child) as u64),
                });
            }
            // Nodes have one size.
            out.resize(out.len() + (CHILDREN - items) * width, 0);
        }
        at = next;
    }
}

#[cfg(test)]
mod tests;
