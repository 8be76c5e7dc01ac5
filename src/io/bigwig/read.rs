//! Reading a bigWig's values.

use super::MAGIC;
use super::tree::{INDEX, NAMES};
use crate::error::{Error, Result};
use crate::sequence::region::Region;
use flate2::read::ZlibDecoder;
use std::io::Read;
use std::path::Path;

/// Levels of a tree, at most: more would be a circle.
const DEPTH: usize = 16;

/// Reads all regions and their values, in the order of the file's index. Memory: the file, and the
/// regions.
///
/// # Errors
/// Io; Input, naming the byte: no bigWig, or a damaged one.
pub fn read(path: &Path) -> Result<Vec<(Region, f32)>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, &e))?;
    File(&bytes).records().map_err(|(at, what)| {
        Error::input(what)
            .file(path.display())
            .place(format!("byte {at}"))
    })
}

type Damage = (u64, &'static str);

struct File<'a>(&'a [u8]);

impl File<'_> {
    fn bytes<const N: usize>(&self, at: u64) -> Result<[u8; N], Damage> {
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let bytes = self.0.get(from..from.saturating_add(N));
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or((at, "the file ends too early"))
    }

    fn u16(&self, at: u64) -> Result<u16, Damage> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: u64) -> Result<u32, Damage> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: u64) -> Result<u64, Damage> {
        self.bytes(at).map(u64::from_le_bytes)
    }

    fn records(&self) -> Result<Vec<(Region, f32)>, Damage> {
        match self.u32(0)? {
            MAGIC => {}
            other if other.swap_bytes() == MAGIC => {
                return Err((0, "big-endian bigWig is not read"));
            }
            _ => return Err((0, "not a bigWig file")),
        }
        // Writers end the file with its first number.
        let last = self.0.len().saturating_sub(4) as u64;
        if self.u32(last)? != MAGIC {
            return Err((last, "the file ends too early"));
        }
        let (names, index, largest) = (self.u64(8)?, self.u64(24)?, self.u32(52)?);
        if self.u32(names)? != NAMES || self.u32(index)? != INDEX {
            return Err((names, "not an index of a bigWig file"));
        }
        let width = u64::from(self.u32(names + 8)?);
        let mut contigs = Vec::new();
        self.walk(names + 32, [width + 8, width + 8], DEPTH, &mut |at| {
            let end = usize::try_from(at + width).unwrap_or(usize::MAX);
            let key = self.0.get(at as usize..end).unwrap_or_default();
            let key = key.split(|byte| *byte == 0).next().unwrap_or_default();
            contigs.push((
                self.u32(at + width)?,
                String::from_utf8_lossy(key).into_owned(),
            ));
            Ok(())
        })?;
        let contigs = contigs.into_iter().collect();
        let mut records = Vec::new();
        self.walk(index + 48, [32, 24], DEPTH, &mut |at| {
            let (from, len) = (self.u64(at + 16)?, self.u64(at + 24)?);
            let to = from
                .checked_add(len)
                .and_then(|to| usize::try_from(to).ok());
            let section = to.and_then(|to| self.0.get(from as usize..to));
            let section = section.ok_or((at, "a section lies beyond the file"))?;
            let mut raw = Vec::new();
            match largest {
                0 => raw.extend_from_slice(section),
                largest => {
                    let read = ZlibDecoder::new(section).take(u64::from(largest) + 1);
                    let read = { read }.read_to_end(&mut raw);
                    read.map_err(|_| (from, "a damaged section"))?;
                }
            }
            File(&raw)
                .section(&contigs, &mut records)
                .map_err(|(_, what)| (from, what))
        })?;
        Ok(records)
    }

    /// Visits the leaf items of the tree below the node at `at`.
    fn walk(
        &self,
        at: u64,
        widths: [u64; 2],
        depth: usize,
        visit: &mut dyn FnMut(u64) -> Result<(), Damage>,
    ) -> Result<(), Damage> {
        let [leaf, _] = self.bytes(at)?;
        let count = u64::from(self.u16(at + 2)?);
        for i in 0..count {
            match (leaf, depth) {
                (1, _) => visit(at + 4 + i * widths[0])?,
                (_, 0) => return Err((at, "a tree that is too deep")),
                _ => {
                    // The child's place is an item's last number.
                    let child = self.u64(at + 4 + (i + 1) * widths[1] - 8)?;
                    self.walk(child, widths, depth - 1, visit)?;
                }
            }
        }
        Ok(())
    }

    /// The values of a section, as regions.
    fn section(
        &self,
        contigs: &std::collections::BTreeMap<u32, String>,
        records: &mut Vec<(Region, f32)>,
    ) -> Result<(), Damage> {
        let contig = contigs
            .get(&self.u32(0)?)
            .ok_or((0, "a section of no contig"))?;
        let [start, step, span] = [4, 12, 16].map(|at| self.u32(at));
        let (start, step, span) = (u64::from(start?), u64::from(step?), u64::from(span?));
        let ([kind, _], count) = (self.bytes(20)?, u64::from(self.u16(22)?));
        for i in 0..count {
            let (start, end, value) = match kind {
                1 => {
                    let at = 24 + 12 * i;
                    (
                        u64::from(self.u32(at)?),
                        u64::from(self.u32(at + 4)?),
                        at + 8,
                    )
                }
                2 => {
                    let start = u64::from(self.u32(24 + 8 * i)?);
                    (start, start + span, 28 + 8 * i)
                }
                3 => (start + i * step, start + i * step + span, 24 + 4 * i),
                _ => return Err((20, "a section of no known type")),
            };
            let value = self.bytes(value).map(f32::from_le_bytes)?;
            if end > start && value.is_finite() {
                let contig = contig.clone();
                records.push((Region { contig, start, end }, value));
            }
        }
        Ok(())
    }
}
