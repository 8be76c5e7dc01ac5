//! Names of contigs in one file compared with those of another, and the name that was meant.

use super::Contig;
use crate::error::{Error, Result, printable};
use std::collections::HashSet;

/// How many missing names a message lists.
const LISTED: usize = 3;

/// Names of an input that the reference lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Names that the reference has.
    pub known: usize,
    /// Names that it lacks, each once, in the input's order.
    pub missing: Vec<String>,
    /// For each of the first missing names, the name that may have been meant.
    nearest: Vec<Option<String>>,
}

/// Compares the names that an input uses with a reference's contigs.
///
/// ```
/// use crocuta::sequence::{Contig, contigs::compare};
/// let reference = [Contig { name: "chr1".into(), length: 9 }, Contig { name: "chrM".into(), length: 9 }];
/// let found = compare(["1", "MT"], &reference);
/// let message = found.report().unwrap();
/// assert!(message.contains("\"1\" (\"chr1\"?), \"MT\" (\"chrM\"?)"), "{message}");
/// ```
pub fn compare<'a>(names: impl IntoIterator<Item = &'a str>, reference: &[Contig]) -> Comparison {
    let known: HashSet<&str> = reference
        .iter()
        .map(|contig| contig.name.as_str())
        .collect();
    let mut seen = HashSet::new();
    let (found, missing): (Vec<&str>, Vec<&str>) = names
        .into_iter()
        .filter(|name| seen.insert(*name))
        .partition(|name| known.contains(name));
    let first = missing.iter().take(LISTED);
    Comparison {
        known: found.len(),
        nearest: first
            .map(|name| nearest(name, reference).map(str::to_string))
            .collect(),
        missing: missing.into_iter().map(str::to_string).collect(),
    }
}

impl Comparison {
    /// What does not match, in one line for a warning; `None` if all names are known.
    pub fn report(&self) -> Option<String> {
        if self.missing.is_empty() {
            return None;
        }
        let names: Vec<_> = self
            .missing
            .iter()
            .zip(&self.nearest)
            .map(|(name, nearest)| match nearest {
                Some(nearest) => format!("\"{}\" (\"{}\"?)", printable(name), printable(nearest)),
                None => format!("\"{}\"", printable(name)),
            })
            .collect();
        let more = match self.missing.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "contigs that the reference lacks: {}{more}",
            names.join(", ")
        ))
    }

    /// Fails if the input names contigs and the reference has none of them.
    ///
    /// # Errors
    /// Input, with the names that may have been meant.
    pub fn check(&self) -> Result<()> {
        match self.report() {
            Some(report) if self.known == 0 => Err(Error::input(report)
                .todo("use the reference that the input was made with, or rename its contigs")),
            _ => Ok(()),
        }
    }
}

/// Fails where an annotation says that the contig is a circle of so many bases, and it has others:
/// what goes over the origin would go on at a wrong base.
///
/// # Errors
/// Input.
pub fn must_be_circle(circle: u64, contig: &Contig) -> Result<()> {
    let Contig { name, length } = contig;
    if circle == *length {
        return Ok(());
    }
    let name = printable(name);
    let what = format!("{name} is a circle of {circle} bases here, but the sequence has {length}");
    Err(Error::input(what).todo("give the annotation of this very sequence"))
}

/// The contig that `name` most likely means: of the same name but for upper case, `chr`, a
/// version as in `NC_000001.11`, and `M` for `MT`; else one of which at most three letters differ.
pub fn nearest<'a>(name: &str, contigs: &'a [Contig]) -> Option<&'a str> {
    let plain = plain(name);
    let same = contigs
        .iter()
        .find(|contig| self::plain(&contig.name) == plain);
    let alike = || {
        contigs
            .iter()
            .filter(|contig| contig.name.len().abs_diff(name.len()) <= 3 && name.len() <= 64)
            .map(|contig| (edit_distance(name, &contig.name), contig))
            .filter(|(distance, contig)| {
                *distance <= 3 && *distance < name.len().max(contig.name.len())
            })
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, contig)| contig)
    };
    same.or_else(alike).map(|contig| contig.name.as_str())
}

/// The first names, and how many more there are.
pub fn listed(contigs: &[Contig]) -> String {
    let first = contigs.iter().take(LISTED);
    let names: Vec<String> = first
        .map(|contig| format!("\"{}\"", printable(&contig.name)))
        .collect();
    match contigs.len() - names.len() {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// A name without what differs between the conventions of naming.
fn plain(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("chr").unwrap_or(&name);
    let unversioned = match name.rsplit_once('.') {
        Some((stem, version))
            if !stem.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) =>
        {
            stem
        }
        _ => name,
    };
    match unversioned {
        "mt" | "mito" | "mitochondrion" => "m".to_string(),
        other => human(other).unwrap_or_else(|| other.to_string()),
    }
}

/// The chromosome of the human genome that RefSeq or GenBank call so.
fn human(accession: &str) -> Option<String> {
    let number = |prefix: &str| accession.strip_prefix(prefix)?.parse::<u32>().ok();
    let chromosome = match (number("nc_"), number("cm")) {
        (Some(12_920), _) => return Some("m".to_string()),
        (Some(number), _) => number,
        (_, Some(number)) => number.checked_sub(662)?,
        _ => return None,
    };
    match chromosome {
        1..=22 => Some(chromosome.to_string()),
        23 => Some("x".to_string()),
        24 => Some("y".to_string()),
        _ => None,
    }
}

/// Levenshtein's distance, over bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contigs(names: &[&str]) -> Vec<Contig> {
        let contig = |name: &&str| Contig {
            name: (*name).to_string(),
            length: 10,
        };
        names.iter().map(contig).collect()
    }

    #[test]
    fn the_conventions_of_naming_are_known() {
        let ucsc = contigs(&["chr1", "chr2", "chr11", "chrX", "chrM"]);
        for (name, meant) in [
            ("1", "chr1"),
            ("11", "chr11"),
            ("x", "chrX"),
            ("MT", "chrM"),
            ("Chr2", "chr2"),
            ("NC_000011.10", "chr11"),
            ("CM000685.2", "chrX"),
            ("NC_012920.1", "chrM"),
        ] {
            assert_eq!(nearest(name, &ucsc), Some(meant), "{name}");
        }
        let ensembl = contigs(&["1", "MT", "GL000192.1", "NC_063383"]);
        for (name, meant) in [
            ("chr1", "1"),
            ("chrM", "MT"),
            ("GL000192", "GL000192.1"),
            ("NC_063383.1", "NC_063383"),
        ] {
            assert_eq!(nearest(name, &ensembl), Some(meant), "{name}");
        }
        assert_eq!(nearest("scaffold_1007", &ensembl), None);
        assert_eq!(nearest("x", &contigs(&[])), None);
    }

    #[test]
    fn a_report_lists_the_first_names_and_counts_the_rest() {
        let reference = contigs(&["chr1", "chr2"]);
        assert_eq!(compare(["chr1", "chr2", "chr1"], &reference).report(), None);
        assert!(compare([], &reference).check().is_ok());
        let some = compare(["chr1", "1", "1", "KI27.1"], &reference);
        assert_eq!((some.known, some.missing.len()), (1, 2));
        assert!(some.check().is_ok());
        let none = compare(["1", "2", "unplaced", "other", "more"], &reference);
        let error = none.check().unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Input, "{error}");
        let error = error.to_string();
        let start = "contigs that the reference lacks: \"1\" (\"chr1\"?), \"2\" (\"chr2\"?), \"unplaced\" and 2 more: use";
        assert!(error.starts_with(start), "{error}");
    }
}
