//! What a container's compression header (CRAM specification, section 8.4) says that the decoder
//! keeps to itself: whether records need the reference, and where their CRAM flags lie.

use super::blocks::{Container, Numbers};
use crate::error::Result;
use std::borrow::Cow;

/// Bits of a record's CRAM flags (section 10.4).
pub mod bit {
    /// Qualities are stored as an array.
    pub const QUALITIES: u32 = 1;
    /// The mate is described by the record itself.
    pub const DETACHED: u32 = 2;
    /// The mate follows in the slice.
    pub const DOWNSTREAM: u32 = 4;
}

/// The codec of byte arrays each of which ends with a byte (section 13).
const BYTES_WITH_AN_END: i32 = 5;

/// How records of a container are laid out.
pub struct Layout {
    /// Bases are those of an external reference where nothing else is said.
    pub needs_reference: bool,
    flags: Flags,
    /// The byte that ends each name, and the block that they lie in, if all are stored there.
    names: Option<(u8, i32)>,
}

/// Where the flags of records lie.
#[derive(Clone, Copy)]
enum Flags {
    /// In the block of this identifier, one number a record.
    Block(i32),
    /// They are the same for all records.
    All(u32),
    /// Among bits of other series.
    Unknown,
}

impl Layout {
    /// The layout of a container.
    ///
    /// # Errors
    /// Input: the header is damaged.
    pub fn of(container: &Container) -> Result<Self> {
        let header = container.compression_header()?;
        let mut rest = &header[..];
        let mut numbers = Numbers::new(&mut rest);
        numbers.size()?;
        let (mut needs_reference, mut has_names) = (true, true);
        for _ in 0..numbers.size()? {
            let key = [numbers.byte()?, numbers.byte()?];
            match &key {
                b"RN" => has_names = numbers.byte()? != 0,
                b"AP" | b"QO" => drop(numbers.byte()?),
                b"RR" => needs_reference = numbers.byte()? != 0,
                b"SM" => numbers.skip(5)?,
                _ => {
                    let size = numbers.size()?;
                    numbers.skip(size)?;
                }
            }
        }
        numbers.size()?;
        let (mut flags, mut names) = (Flags::Unknown, None);
        for _ in 0..numbers.size()? {
            let key = [numbers.byte()?, numbers.byte()?];
            let (codec, size) = (numbers.itf8()?, numbers.size()?);
            let parameters = numbers.take(size)?;
            match (&key, codec) {
                (b"CF", _) => flags = Flags::of(codec, &parameters)?,
                (b"RN", BYTES_WITH_AN_END) => {
                    let mut parameters = &parameters[..];
                    let mut numbers = Numbers::new(&mut parameters);
                    names = Some((numbers.byte()?, numbers.itf8()?));
                }
                _ => {}
            }
        }
        Ok(Self {
            needs_reference,
            flags,
            names: names.filter(|_| has_names),
        })
    }

    /// Which of a slice's `records` have the name `*`, for which the decoder makes one up; if it can
    /// be told.
    pub fn nameless(&self, records: usize, blocks: &[(i32, Cow<'_, [u8]>)]) -> Option<Vec<bool>> {
        let (end, id) = self.names?;
        let (_, block) = blocks.iter().find(|(other, _)| *other == id)?;
        let names = block.strip_suffix(&[end])?.split(|&byte| byte == end);
        let nameless: Vec<bool> = names.map(|name| name == b"*").collect();
        Some(nameless).filter(|all| all.len() == records)
    }

    /// The flags of a slice's `records`, if they can be told from its external blocks.
    pub fn flags(&self, records: usize, blocks: &[(i32, Cow<'_, [u8]>)]) -> Option<Vec<u32>> {
        let id = match self.flags {
            Flags::Unknown => return None,
            Flags::All(flags) => return Some(vec![flags; records]),
            Flags::Block(id) => id,
        };
        let (_, block) = blocks.iter().find(|(other, _)| *other == id)?;
        let mut rest = &block[..];
        let mut numbers = Numbers::new(&mut rest);
        let flags: Result<Vec<u32>> = (0..records)
            .map(|_| numbers.itf8().map(i32::cast_unsigned))
            .collect();
        // A block that holds more is shared with another series.
        flags.ok().filter(|_| rest.is_empty())
    }
}

impl Flags {
    fn of(codec: i32, mut parameters: &[u8]) -> Result<Self> {
        const EXTERNAL: i32 = 1;
        const HUFFMAN: i32 = 3;
        let mut numbers = Numbers::new(&mut parameters);
        Ok(match codec {
            EXTERNAL => Self::Block(numbers.itf8()?),
            HUFFMAN if numbers.size()? == 1 => Self::All(numbers.itf8()?.cast_unsigned()),
            _ => Self::Unknown,
        })
    }
}
