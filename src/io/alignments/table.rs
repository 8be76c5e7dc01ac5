//! Tables with a column `sequence`: each row becomes an unaligned BAM record.

use super::record::{Record, unaligned};
use crate::error::{Error, Result};
use crate::io::bases::{Counts, decode};
use crate::io::foreign_table::ForeignTable;

/// The column of the bases, and those of which the first that is there names the records.
const SEQUENCE: &str = "sequence";
const NAMES: [&str; 2] = ["name", "id"];

/// The records of a table, which was read whole.
pub struct Records {
    rows: std::vec::IntoIter<(String, Vec<u8>)>,
}

/// Whether a file that begins so is text whose first line names a column `sequence`.
pub fn is_header(start: &[u8]) -> bool {
    let mut lines = start.split(|&byte| byte == b'\n');
    let line = lines.find(|line| !line.trim_ascii().is_empty() && !line.starts_with(b"##"));
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    let mut cells = line.trim_start_matches('#').split(['\t', ',']);
    cells.any(|cell| cell.trim().trim_matches('"').eq_ignore_ascii_case(SEQUENCE))
}

impl Records {
    /// Reads a table.
    ///
    /// # Errors
    /// Input, naming the line or the row: no column `sequence`, letters that are no bases.
    pub fn read(table: ForeignTable) -> Result<Self> {
        let find = |wanted: &str| {
            let mut names = table.names.iter();
            names.position(|name| name.eq_ignore_ascii_case(wanted))
        };
        let bases = find(SEQUENCE).ok_or_else(|| {
            let error = Error::input(format!("no column \"{SEQUENCE}\""));
            error.todo(format!("it has {}", table.names.join(", ")))
        })?;
        let mut columns = vec![bases];
        columns.extend(NAMES.iter().find_map(|name| find(name)));
        let mut rows = Vec::new();
        table.each(&columns, &mut |cells| {
            let letters = cells[0].trim();
            let mut codes = Vec::with_capacity(letters.len());
            let read = decode(letters.as_bytes(), &mut codes, &mut Counts::default());
            if let Some(letter) = letters.as_bytes().get(read) {
                return Err(format!("{:?} is no base", char::from(*letter)));
            }
            let name = cells.get(1).map_or("", |name| name.trim());
            rows.push((name.to_string(), codes));
            Ok(())
        })?;
        Ok(Self {
            rows: rows.into_iter(),
        })
    }

    /// The next record.
    ///
    /// # Errors
    /// Input: more bases than a record may have.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        let Some((name, codes)) = self.rows.next() else {
            return Ok(None);
        };
        let unknown = vec![255; codes.len()];
        unaligned(name.as_bytes(), &codes, &unknown).map(Some)
    }
}
