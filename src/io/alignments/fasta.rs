//! FASTA: each sequence becomes an unaligned BAM record.

use super::record::{MAX_RECORD, Record, unaligned};
use crate::error::{Error, Result};
use crate::io::fasta;
use std::io::BufRead;

/// Reads FASTA.
pub struct Reader<R> {
    sequences: fasta::Reader<R>,
}

impl<R: BufRead> Reader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self {
            sequences: fasta::Reader::new(input),
        }
    }

    /// The next record.
    ///
    /// # Errors
    /// As [`fasta::Reader`]; Input: a sequence is longer than a record may be.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        let Some(name) = self.sequences.next_sequence()? else {
            return Ok(None);
        };
        let most = MAX_RECORD / 2;
        let (mut codes, mut room) = (Vec::new(), most + 1);
        while self.sequences.read_bases(&mut codes, room)? > 0 {
            room = most + 1 - codes.len();
            if codes.len() > most {
                let what = format!("a sequence of more than {most} bases");
                return Err(Error::input(what).place(name));
            }
        }
        let unknown = vec![255; codes.len()];
        unaligned(name.as_bytes(), &codes, &unknown).map(Some)
    }
}
