//! Slices that reach beyond the end of their contig: reads may, and what they lie on there is N.

use super::blocks::{Container, Numbers};
use super::reference::BEYOND;
use crate::error::{Error, Result};
use flate2::Crc;
use md5::{Digest, Md5};

/// Bytes of a slice's digest of its reference (section 8.5).
const MD5: usize = 16;

/// Where a slice lies, and where its digest is in its block's data.
struct Place {
    contig: i32,
    start: usize,
    end: usize,
    md5: usize,
}

/// Holds the digest of each slice that reaches beyond its contig to the letters that there are, and
/// takes it out: the decoder would look for more of them. `letters`: those of a contig.
///
/// # Errors
/// Input: another reference, or a slice that reaches too far.
pub fn mend<L: AsRef<[u8]>>(
    container: &mut Container,
    letters: impl Fn(i32) -> Result<Option<L>>,
) -> Result<()> {
    let mut at = container.blocks;
    while at < container.bytes.len() {
        let mut rest = &container.bytes[at..];
        let before = rest.len();
        let mut numbers = Numbers::new(&mut rest);
        let (method, kind) = (numbers.byte()?, numbers.byte()?);
        numbers.itf8()?; // identifier
        let (packed, _) = (numbers.size()?, numbers.size()?);
        let data = at + before - rest.len();
        let end = data.saturating_add(packed);
        let Some(block) = container.bytes.get(data..end) else {
            return Ok(());
        };
        // The header of a slice; it is never compressed.
        if (method, kind) == (0, 2) {
            let place = Place::read(block)?;
            if let Some(found) = letters(place.contig)? {
                let letters = found.as_ref();
                if place.end > letters.len() {
                    place.check(block, letters)?;
                    let md5 = data + place.md5;
                    container.bytes[md5..md5 + MD5].fill(0);
                    let mut crc = Crc::new();
                    crc.update(&container.bytes[at..end]);
                    if let Some(sum) = container.bytes.get_mut(end..end + 4) {
                        sum.copy_from_slice(&crc.sum().to_le_bytes());
                    }
                }
            }
        }
        at = end + 4;
    }
    Ok(())
}

impl Place {
    fn read(header: &[u8]) -> Result<Self> {
        let mut rest = header;
        let mut numbers = Numbers::new(&mut rest);
        let contig = numbers.itf8()?;
        let start = numbers.itf8()?;
        let span = numbers.itf8()?;
        numbers.itf8()?; // records
        numbers.ltf8()?; // records before
        numbers.itf8()?; // blocks
        for _ in 0..numbers.size()? {
            numbers.itf8()?;
        }
        numbers.itf8()?; // embedded reference
        let md5 = header.len() - rest.len();
        if rest.len() < MD5 {
            return Err(Error::input("truncated slice header"));
        }
        let start = usize::try_from(start).unwrap_or_default().saturating_sub(1);
        let span = usize::try_from(span).unwrap_or_default();
        Ok(Self {
            contig,
            start,
            end: start.saturating_add(span),
            md5,
        })
    }

    fn check(&self, header: &[u8], letters: &[u8]) -> Result<()> {
        if self.end > letters.len() + BEYOND {
            let what = format!("a slice reaches more than {BEYOND} bases beyond its contig");
            return Err(Error::input(what));
        }
        let expected = &header[self.md5..self.md5 + MD5];
        let found = Md5::digest(letters.get(self.start..).unwrap_or_default());
        if expected.iter().all(|byte| *byte == 0) || found[..] == *expected {
            Ok(())
        } else {
            let error = Error::input("reference sequence checksum mismatch");
            Err(error.todo("give the reference that the CRAM was written with"))
        }
    }
}
