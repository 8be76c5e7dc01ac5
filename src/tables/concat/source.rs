//! The rows of one table in their order: row groups by what their statistics say, or decoded.

use super::keys::{Ends, Keys, Place};
use crate::error::Result;
use crate::io::table_file::TableFile;
use arrow_array::RecordBatch;
use std::ops::Range;

/// A table whose rows are taken from the front.
pub struct Source<'a> {
    pub table: &'a TableFile,
    keys: &'a Keys,
    groups: Vec<Ends>,
    /// The first row group with rows that are left.
    group: usize,
    open: Option<Decoded>,
}

/// A row group with its rows.
pub struct Decoded {
    pub batch: RecordBatch,
    pub places: Vec<(Place, i64)>,
    /// Rows that were taken.
    at: usize,
}

/// A row group that can be taken as it is.
pub struct Whole {
    pub group: usize,
    pub rows: usize,
    pub first: Place,
    pub last: Place,
    pub end: i64,
    /// Where the table goes on.
    pub next: Option<Place>,
}

/// Up to where rows are taken.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Those before it.
    pub before: Place,
    /// And those there.
    pub or_there: bool,
}

impl Limit {
    fn takes(limit: Option<Self>, place: Place) -> bool {
        limit.is_none_or(|limit| place < limit.before || limit.or_there && place == limit.before)
    }
}

impl<'a> Source<'a> {
    /// Looks at a table's row groups; decodes the keys of those that hold several contigs.
    pub fn open(table: &'a TableFile, keys: &'a Keys) -> Result<Self> {
        let groups = 0..table.parquet().num_row_groups();
        let groups = groups.map(|group| keys.ends(table, group));
        Ok(Self {
            table,
            keys,
            groups: groups.collect::<Result<_>>()?,
            group: 0,
            open: None,
        })
    }

    /// Where the next row stands.
    pub fn next(&self) -> Option<Place> {
        match &self.open {
            Some(open) => open.places.get(open.at).map(|(place, _)| *place),
            None => self.groups.get(self.group).map(|group| group.first),
        }
    }

    /// The next row group, if no row of it was taken and all stand before `limit`.
    pub fn whole(&self, limit: Option<Limit>) -> Option<Whole> {
        let Ends { first, last, end } = *self.groups.get(self.group)?;
        let rows = self.table.parquet().row_group(self.group).num_rows();
        (self.open.is_none() && Limit::takes(limit, last)).then(|| Whole {
            group: self.group,
            rows: usize::try_from(rows).unwrap_or_default(),
            first,
            last,
            end,
            next: self.groups.get(self.group + 1).map(|group| group.first),
        })
    }

    /// Takes the next row group as it is.
    pub fn pass(&mut self) {
        self.group += 1;
    }

    /// Takes the rows of the next row group that stand before `limit`.
    pub fn take(&mut self, limit: Option<Limit>) -> Result<(&Decoded, Range<usize>)> {
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let all: Vec<usize> = (0..self.table.schema().fields().len()).collect();
                let batch = self.table.group(self.group, &all)?;
                let places = self.keys.places(self.table, &batch)?;
                none.insert(Decoded {
                    batch,
                    places,
                    at: 0,
                })
            }
        };
        let rest = &open.places[open.at..];
        let taken = |(place, _): &&(Place, i64)| Limit::takes(limit, *place);
        let rows = open.at..open.at + rest.iter().take_while(taken).count();
        open.at = rows.end;
        if open.at == open.places.len() {
            self.group += 1;
        }
        Ok((open, rows))
    }

    /// Forgets a row group all of whose rows were taken.
    pub fn close(&mut self) {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.at == open.places.len())
        {
            self.open = None;
        }
    }
}
