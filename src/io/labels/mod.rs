//! Labels: what a file says of variants, or of intervals, a row each.
//!
//! VCF and BCF (the fields of INFO), TSV, CSV and Parquet with a header (`chrom`, `pos`, `ref`,
//! `alt`, or `chrom`, `start`, `end`, and any other columns), BED, GFF3 and GTF; known by their
//! content. All of it is held in memory: some 200 bytes a label, and 4 for each of its values.

mod columns;
mod overlaps;
mod place;
mod vcf;

pub use columns::Column;
pub use overlaps::Overlaps;

use super::foreign_table::ForeignTable;
use super::input::{Input, is_stdin};
use super::table_file::is_parquet;
use super::{intervals, read};
use crate::error::{Error, Result};
use crate::sequence::allele::Variant;
use crate::sequence::interval::Orientation;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{Cursor, Read};
use std::path::Path;

/// What a file says of variants or intervals.
pub struct Labels {
    /// What is said, but for the places.
    pub columns: Vec<Column>,
    /// How many labels there are.
    pub count: u32,
    /// Labels of variants that have one already, which are left out.
    pub repeated: u64,
    /// Contigs that are circles, and their bases, as the file says.
    pub circles: HashMap<String, u64>,
    places: Places,
}

/// Of what the labels are, by contig.
enum Places {
    Variants(HashMap<String, HashMap<Change, u32>>),
    Intervals(HashMap<String, Overlaps>),
}

/// What tells variants apart.
#[derive(PartialEq, Eq, Hash)]
enum Change {
    /// Bases that change.
    Bases(Variant),
    /// Anything else, as it is spelled.
    Other(u64, String, String),
}

impl Change {
    /// The change without bases that REF and ALT share, as far left as REF itself allows.
    fn new((pos, reference, alternate): (u64, &str, &str)) -> Self {
        match Variant::new(pos, reference, alternate) {
            Ok(variant) => {
                let (start, bases) = (variant.start, variant.reference.clone());
                let at = |place: u64| {
                    let place = usize::try_from(place.checked_sub(start)?).ok()?;
                    bases.get(place).copied()
                };
                Self::Bases(variant.normalise(at))
            }
            Err(_) => Self::Other(pos, reference.to_string(), alternate.to_string()),
        }
    }
}

/// Where a label stands, as its file says it.
enum Place<'a> {
    /// CHROM, POS counted from 1, REF and ALT.
    Variant(&'a str, u64, &'a str, &'a str),
    /// A contig, bases counted from 0, and how many the contig has if it is a circle.
    Interval(&'a str, (i64, i64), Option<i64>),
}

impl Labels {
    /// Reads a file, and of what it says these columns, or all.
    ///
    /// # Errors
    /// Input, naming the line: the file is damaged, or of no kind that is known; Usage: columns
    /// that it lacks; Io.
    pub fn read(path: &Path, wanted: &[String]) -> Result<Self> {
        let labels = if !is_stdin(path) && is_parquet(path)? {
            ForeignTable::of_parquet(path).and_then(|table| match place::keys(&table.names) {
                Some(keys) => of_table(table, &keys, wanted),
                None => {
                    let what =
                        "there are no columns chrom, pos, ref and alt, nor chrom, start and end";
                    Err(Error::input(what).todo(format!("it has {}", table.names.join(", "))))
                }
            })
        } else {
            let input = Input::open(path, false)?;
            of_text(path, input, wanted)
        };
        let labels = labels.map_err(|error| error.file(path.display()))?;
        if labels.count == 0 {
            return Err(Error::input("no labels").file(path.display()));
        }
        Ok(labels)
    }

    /// Labels with these columns, of variants or of intervals.
    fn new(names: Vec<String>, of_variants: bool) -> Self {
        Self {
            columns: names.into_iter().map(Column::new).collect(),
            count: 0,
            repeated: 0,
            circles: HashMap::new(),
            places: if of_variants {
                Places::Variants(HashMap::new())
            } else {
                Places::Intervals(HashMap::new())
            },
        }
    }

    /// Adds a label with a value for each column; missing ones are empty.
    fn push<'a>(
        &mut self,
        place: &Place,
        values: impl Iterator<Item = &'a str>,
    ) -> Result<(), String> {
        let number = self.count;
        match (&mut self.places, place) {
            (Places::Variants(all), Place::Variant(chrom, pos, reference, alternate)) => {
                let here = of_contig(all, chrom);
                match here.entry(Change::new((*pos, *reference, *alternate))) {
                    Entry::Vacant(entry) => {
                        entry.insert(number);
                    }
                    Entry::Occupied(_) => {
                        self.repeated += 1;
                        return Ok(());
                    }
                }
            }
            (Places::Intervals(all), Place::Interval(chrom, (start, end), circle)) => {
                if start >= end {
                    return Err(format!("the interval {start} to {end} has no base"));
                }
                of_contig(all, chrom).push((*start, *end), *circle, number);
            }
            _ => return Err("a label of another kind".to_string()),
        }
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.push(value);
        }
        self.count = number.checked_add(1).ok_or("too many labels")?;
        Ok(())
    }

    /// What has been read, ready to be asked.
    fn finished(mut self) -> Self {
        if let Places::Intervals(all) = &mut self.places {
            all.values_mut().for_each(Overlaps::sort);
        }
        self.columns.iter_mut().for_each(Column::finish);
        self
    }

    /// Whether these are labels of variants; else they are of intervals.
    pub fn of_variants(&self) -> bool {
        matches!(self.places, Places::Variants(_))
    }

    /// The label of a variant that is spelled in this way.
    pub fn of_variant(&self, chrom: &str, spelled: (u64, &str, &str)) -> Option<u32> {
        match &self.places {
            Places::Variants(all) => all.get(chrom)?.get(&Change::new(spelled)).copied(),
            Places::Intervals(_) => None,
        }
    }

    /// The labels of the intervals of a contig.
    pub fn of_contig(&self, chrom: &str) -> Option<&Overlaps> {
        match &self.places {
            Places::Intervals(all) => all.get(chrom),
            Places::Variants(_) => None,
        }
    }
}

fn of_contig<'a, T: Default>(all: &'a mut HashMap<String, T>, name: &str) -> &'a mut T {
    if !all.contains_key(name) {
        all.insert(name.to_string(), T::default());
    }
    all.entry(name.to_string()).or_default()
}

/// The labels of a table whose columns `keys` say where they stand.
fn of_table(table: ForeignTable, keys: &[usize], wanted: &[String]) -> Result<Labels> {
    let columns = place::others(&table.names, keys, wanted)?;
    let own = columns.iter().map(|&at| table.names[at].clone()).collect();
    let mut labels = Labels::new(own, keys.len() == 4);
    let read: Vec<usize> = keys.iter().chain(&columns).copied().collect();
    table.each(&read, &mut |cells| {
        let (place, values) = cells.split_at(keys.len());
        labels.push(&place::place(place)?, values.iter().copied())
    })?;
    Ok(labels.finished())
}

/// What is no Parquet, by its first bytes, and the first line after those that begin with ##.
fn of_text(path: &Path, mut input: Input, wanted: &[String]) -> Result<Labels> {
    let mut start = Vec::new();
    let read = (&mut input).take(16).read_to_end(&mut start);
    read.map_err(read::error)?;
    let of_variants = is_variants(&start);
    let input = Cursor::new(start).chain(input);
    if of_variants {
        let name = path.display().to_string();
        return vcf::read(Input::new(&name, Box::new(input), true)?, wanted);
    }
    let table = ForeignTable::of_text(input)?;
    if let Some(keys) = place::keys(&table.names) {
        of_table(table, &keys, wanted)
    } else if is_stdin(path) {
        let what = "its first line names no columns chrom, pos, ref and alt";
        Err(Error::input(what).todo("give a file, if these are intervals"))
    } else {
        of_intervals(path, wanted)
    }
}

fn is_variants(head: &[u8]) -> bool {
    head.starts_with(b"##fileformat=VCF") || head.starts_with(b"BCF")
}

/// Which of the columns that a file has are wanted: their places.
fn chosen(names: &[&str], wanted: &[String]) -> Result<Vec<usize>> {
    let place = |name: &String| {
        let place = names.iter().position(|known| known == name);
        place.ok_or_else(|| {
            let what = format!("the labels have no column {name}");
            Error::usage(what).todo(format!("they have {}", names.join(", ")))
        })
    };
    match wanted {
        [] => Ok((0..names.len()).collect()),
        wanted => wanted.iter().map(place).collect(),
    }
}

/// The intervals of a BED, GFF3 or GTF.
fn of_intervals(path: &Path, wanted: &[String]) -> Result<Labels> {
    const NAMES: [&str; 5] = [
        "interval_start",
        "interval_end",
        "name",
        "score",
        "interval_strand",
    ];
    let places = chosen(&NAMES, wanted)?;
    let names = places.iter().map(|&at| NAMES[at].to_string()).collect();
    let mut labels = Labels::new(names, false);
    for interval in intervals::read(path, None, false)?.intervals {
        let circle = interval.on_circle().map(u64::cast_signed);
        let region = &interval.region;
        let bases = interval.circle.map(|bases| (region.contig.clone(), bases));
        labels.circles.extend(bases);
        let strand = match interval.strand {
            Orientation::Forward => "+",
            Orientation::Reverse => "-",
            Orientation::Unknown => ".",
        };
        let values = [
            region.start.to_string(),
            region.end.to_string(),
            interval.name.unwrap_or_default(),
            interval
                .score
                .map(|score| score.to_string())
                .unwrap_or_default(),
            strand.to_string(),
        ];
        let [start, end] = [region.start, region.end].map(u64::cast_signed);
        let place = Place::Interval(&region.contig, (start, end), circle);
        let values = places.iter().map(|&at| values[at].as_str());
        labels.push(&place, values).map_err(Error::input)?;
    }
    Ok(labels.finished())
}

#[cfg(test)]
mod tests;
