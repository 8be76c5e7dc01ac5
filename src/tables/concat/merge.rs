//! Rows of several tables in one order.

use super::keys::{Keys, Place};
use super::source::{Limit, Source, Whole};
use crate::error::{Error, Result};
use crate::io::table_file::TableFile;
use crate::io::table_writer::TableWriter;
use crate::table::Groups;
use crate::tables::contigs;

/// Writes the rows of several tables, sorted by where they stand.
pub struct Merge<'a> {
    sources: Vec<Source<'a>>,
    order: &'a Order,
    groups: Groups,
    writer: &'a mut TableWriter,
    /// The last row: its table, and where it stands and ends.
    last: Option<(usize, Place, i64)>,
    /// Row groups that were copied.
    copied: u64,
    /// Rows that were written anew.
    written: u64,
}

/// What the rows are sorted by.
pub struct Order {
    keys: Keys,
    /// The contigs' names; of records, one without a name.
    names: Vec<String>,
    groups: Groups,
    /// A place is in one table only; else rows of one place come in the order of the tables.
    once: bool,
    /// Rows of different tables must not overlap.
    apart: bool,
}

impl Order {
    /// Of the rows of these tables, which are parts of one.
    pub fn of(table: &TableFile) -> Result<Self> {
        let kind = table.kind();
        let bin = table.footer["params"]["bin"].as_u64().unwrap_or(1);
        let groups = Groups::of_table(kind, bin);
        let groups = groups.ok_or_else(|| {
            let what = format!("a table of {kind}, which this crocuta does not know");
            Error::input(what).file(table.path.display())
        })?;
        let record = match kind {
            "reads" | "read_bases" => Some("read_index"),
            "sequences" | "variants" => Some("record_index"),
            _ => None,
        };
        let names: Vec<String> = contigs(table)?.into_iter().map(|c| c.name).collect();
        let keys = Keys {
            record,
            haplotypes: table.column("haplotype").is_some(),
            contigs: names.iter().cloned().zip(0..).collect(),
        };
        let names = match record {
            Some(_) => vec![String::new(); 1 + names.len()],
            None => names,
        };
        Ok(Self {
            once: !kind.starts_with("interval_"),
            apart: record.is_none() && !kind.starts_with("interval_"),
            keys,
            names,
            groups,
        })
    }
}

impl<'a> Merge<'a> {
    /// Looks at the row groups of all tables.
    ///
    /// # Errors
    /// Input: a table is damaged.
    pub fn new(
        tables: &'a [TableFile],
        order: &'a Order,
        writer: &'a mut TableWriter,
    ) -> Result<Self> {
        let sources = tables.iter().map(|table| Source::open(table, &order.keys));
        Ok(Self {
            sources: sources.collect::<Result<_>>()?,
            order,
            groups: order.groups.clone(),
            writer,
            last: None,
            copied: 0,
            written: 0,
        })
    }

    /// Writes all rows, and says how many row groups were copied and how many rows written anew.
    ///
    /// # Errors
    /// Input: a row comes twice, or rows of two tables overlap; Io.
    pub fn run(mut self) -> Result<(u64, u64)> {
        while let Some((from, place, limit)) = self.first()? {
            self.must_follow(from, place)?;
            if self
                .groups
                .ends_before(&self.order.names[place.contig as usize], place.start)
            {
                self.end_group()?;
            }
            let whole = self.sources[from]
                .whole(limit)
                .filter(|_| !self.groups.is_open());
            match whole.filter(|whole| self.keeps(whole, limit)) {
                Some(whole) => self.copy(from, &whole)?,
                None => self.write(from, limit)?,
            }
        }
        self.end_group()?;
        Ok((self.copied, self.written))
    }

    /// The table with the next row, where that stands, and up to where its rows come before those of
    /// all others.
    fn first(&self) -> Result<Option<(usize, Place, Option<Limit>)>> {
        let nexts = self.sources.iter().enumerate();
        let nexts = nexts.filter_map(|(from, source)| Some((source.next()?, from)));
        let mut nexts: Vec<(Place, usize)> = nexts.collect();
        nexts.sort_unstable();
        match nexts[..] {
            [] => Ok(None),
            [(place, from)] => Ok(Some((from, place, None))),
            [(place, from), (limit, other), ..] if place == limit && self.order.once => {
                let [one, other] = [from, other].map(|at| self.sources[at].table.path.display());
                let what = format!("{} is also in {one}", self.named(place));
                Err(Error::input(what).file(other).todo("give each part once"))
            }
            [(place, from), (before, other), ..] => {
                let or_there = !self.order.once && from < other;
                Ok(Some((from, place, Some(Limit { before, or_there }))))
            }
        }
    }

    fn must_follow(&self, from: usize, place: Place) -> Result<()> {
        match self.last {
            Some((before, last, end))
                if before != from
                    && self.order.apart
                    && last.contig == place.contig
                    && place.start < end =>
            {
                let [one, other] = [from, before].map(|at| self.sources[at].table.path.display());
                let what = format!("{} overlaps a row of {other}", self.named(place));
                Err(Error::input(what).file(one))
            }
            _ => Ok(()),
        }
    }

    fn named(&self, place: Place) -> String {
        match self.order.names[place.contig as usize].as_str() {
            "" => format!("the record {}", place.start),
            name => format!("the row at {name}:{}", place.start + 1),
        }
    }

    /// Whether the one table would have this row group.
    fn keeps(&self, whole: &Whole, limit: Option<Limit>) -> bool {
        let name = |place: Place| self.order.names[place.contig as usize].as_str();
        let next = whole
            .next
            .into_iter()
            .chain(limit.map(|limit| limit.before))
            .min();
        let last = (name(whole.last), whole.last.start, whole.end);
        let next = next.map(|next| (name(next), next.start));
        self.groups.keeps(whole.rows, whole.first.start, last, next)
    }

    fn copy(&mut self, from: usize, whole: &Whole) -> Result<()> {
        let table = self.sources[from].table;
        let rows = (&*table.path, &table.file);
        self.writer
            .append_group(rows, table.parquet(), whole.group)?;
        self.sources[from].pass();
        self.last = Some((from, whole.last, whole.end));
        self.copied += 1;
        Ok(())
    }

    fn write(&mut self, from: usize, limit: Option<Limit>) -> Result<()> {
        let (decoded, rows) = self.sources[from].take(limit)?;
        let places = &decoded.places[rows.clone()];
        let mut at = rows.start;
        for same in places.chunk_by(|a, b| a.0.contig == b.0.contig) {
            let name = &self.order.names[same[0].0.contig as usize];
            let mut left = same;
            while !left.is_empty() {
                let each = left.iter().map(|(place, end)| (place.start, *end));
                let taken = self.groups.fit(name, each);
                if taken == 0 {
                    self.writer.close_group()?;
                    self.groups.end();
                    continue;
                }
                self.writer
                    .write_arrays(decoded.batch.slice(at, taken).columns())?;
                at += taken;
                left = &left[taken..];
            }
        }
        if let Some((place, end)) = places.last() {
            self.last = Some((from, *place, *end));
        }
        self.written += rows.len() as u64;
        self.sources[from].close();
        Ok(())
    }

    fn end_group(&mut self) -> Result<()> {
        self.groups.end();
        self.writer.close_group()
    }
}
