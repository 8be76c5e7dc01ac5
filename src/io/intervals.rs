//! Intervals to be summarised: BED of 3 columns and more, GFF3 and GTF, known by their content.

use super::input::Input;
use super::read::error;
use super::{bed, gff, lines};
use crate::error::{Error, Result};
use crate::sequence::interval::{Interval, Orientation};
use crate::sequence::region::Region;
use std::collections::HashMap;
use std::io::{BufRead, Cursor, Read};
use std::ops::{ControlFlow, Range};
use std::path::Path;

/// The longest line, in bytes.
const MAX_LINE: u64 = 1 << 24;

/// Attributes of GFF3 that name a feature, the first one that is there.
const NAMES: [&str; 3] = ["ID", "Name", "locus_tag"];

/// What a file says of intervals.
#[derive(Debug)]
pub struct Annotation {
    /// Those with bases, in the file's order. What goes over the origin of a circle ends beyond it.
    pub intervals: Vec<Interval>,
    /// The type of the features that they are (column 3 of GFF3 and GTF); none of BED.
    pub feature: Option<String>,
    /// Types of other features, the first ten.
    pub others: Vec<String>,
    /// How many have no base (start = end), and are left out.
    pub empty: u64,
}

/// The features that are intervals where none are asked for.
const FEATURE: &str = "gene";

/// Reads all intervals, in the file's order: of BED each line, of GFF3 and GTF each feature of this
/// type (column 3), or gene. The file may be compressed, or standard input (`-`). Memory: the intervals.
///
/// Names are BED's column 4; of GFF3 the attribute ID, Name or locus_tag; of GTF gene_id, and for
/// features other than genes transcript_id. Blocks are those of BED12. Intervals without a base are
/// left out.
///
/// # Errors
/// Input, naming the line: as [`bed::read`] and [`gff::read`]; blocks that are not within their
/// interval; no intervals with a base, or none of this type, unless `allow_empty`. Usage: a type is
/// asked for, of BED.
pub fn read(path: &Path, feature: Option<&str>, allow_empty: bool) -> Result<Annotation> {
    let input = Input::open(path, false)?;
    let name = input.name().to_string();
    let found = parse(input, feature).map_err(|error| error.file(&name))?;
    match none(&found).map(|error| error.file(&name)) {
        None => Ok(found),
        Some(why) if allow_empty => {
            tracing::warn!("{why}");
            Ok(found)
        }
        Some(error) => Err(error),
    }
}

/// Why there are no intervals, if there are none.
fn none(found: &Annotation) -> Option<Error> {
    let error = match &found.feature {
        _ if !found.intervals.is_empty() => return None,
        None => bed::none("intervals", found.empty),
        Some(wanted) => {
            let others = found.others.join(", ");
            let error = Error::input(format!("no features of type {wanted}"));
            error.todo(format!("choose with --feature: {others}"))
        }
    };
    Some(error)
}

fn parse(mut input: impl BufRead, feature: Option<&str>) -> Result<Annotation> {
    let (mut head, mut line) = (Vec::new(), 0..0);
    while line.is_empty() || passed_over(&head[line.clone()]) {
        let bytes = (&mut input)
            .take(MAX_LINE)
            .read_until(b'\n', &mut head)
            .map_err(error)?;
        line = line.end..head.len();
        if bytes == 0 {
            break;
        }
    }
    let (of_gff, tells) = (is_gff(&head[line.clone()]), !passed_over(&head[line]));
    let input = Cursor::new(head).chain(input);
    match feature {
        _ if of_gff => features(input, feature.unwrap_or(FEATURE)),
        Some(_) if tells => {
            let error = Error::usage("--feature is for GFF3 and GTF, and this is BED");
            Err(error.todo("leave it out: each line is an interval"))
        }
        _ => bed_lines(input),
    }
}

/// Whether a line does not tell the format.
fn passed_over(line: &[u8]) -> bool {
    let words = [&b"#"[..], b"track", b"browser"];
    line.trim_ascii().is_empty() || words.iter().any(|word| line.starts_with(word))
}

/// Whether a line is of GFF.
fn is_gff(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    gff::is_feature(&line.trim_end().split('\t').collect::<Vec<_>>())
}

fn features(input: impl BufRead, wanted: &str) -> Result<Annotation> {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    let mut circles = HashMap::new();
    gff::each(input, |feature, line| {
        circles.extend(gff::circle(&feature));
        if feature.kind != wanted {
            if !others.contains(&feature.kind) {
                others.push(feature.kind);
            }
            return;
        }
        let columns: Vec<&str> = line.split('\t').collect();
        let column = |at: usize| columns.get(at).copied().unwrap_or_default();
        let of_gtf: &[&str] = if wanted == "gene" {
            &["gene_id"]
        } else {
            &["transcript_id", "gene_id"]
        };
        let keys = NAMES.iter().chain(of_gtf);
        let mut names = keys.filter_map(|key| feature.attribute(key));
        let name = names.find(|name| !name.is_empty());
        found.push(Interval {
            blocks: whole(&feature.region),
            name: name.map(str::to_string),
            score: score(column(5)),
            strand: Orientation::of(column(6)),
            record: found.len() as u64,
            line: feature.line,
            circle: None,
            begins: None,
            region: feature.region,
        });
    })?;
    for interval in &mut found {
        interval.circle = circles.get(&interval.region.contig).copied();
    }
    others.truncate(10);
    Ok(Annotation {
        intervals: found,
        feature: Some(wanted.to_string()),
        others,
        empty: 0,
    })
}

fn bed_lines(input: impl BufRead) -> Result<Annotation> {
    let (mut found, mut empty) = (Vec::new(), 0);
    lines::each(input, MAX_LINE, |line, number| {
        let Some((region, columns)) = bed::columns(line)? else {
            return Ok(ControlFlow::Continue(()));
        };
        if region.start == region.end {
            empty += 1;
            return Ok(ControlFlow::Continue(()));
        }
        let column = |at: usize| columns.get(at).copied().unwrap_or_default();
        found.push(Interval {
            blocks: blocks(&region, &columns)?,
            name: columns.get(3).map(|name| (*name).to_string()),
            score: score(column(4)),
            strand: Orientation::of(column(5)),
            record: found.len() as u64 + empty,
            line: number,
            circle: None,
            begins: None,
            region,
        });
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(Annotation {
        intervals: found,
        feature: None,
        others: Vec::new(),
        empty,
    })
}

fn score(text: &str) -> Option<f32> {
    let score = text.parse::<f32>().ok();
    score.filter(|score| score.is_finite())
}

/// All of an interval, as its one block.
fn whole(region: &Region) -> Vec<Range<u64>> {
    std::iter::once(region.start..region.end).collect()
}

/// The blocks of BED12; all of the interval where there are none. Of more columns than 12, what
/// does not look like blocks are columns of the user's.
fn blocks(region: &Region, columns: &[&str]) -> Result<Vec<Range<u64>>, String> {
    if columns.len() < 12 {
        return Ok(whole(region));
    }
    let numbers = |text: &str| -> Option<Vec<u64>> {
        let parts = text.trim_end_matches(',').split(',');
        parts.map(|part| part.trim().parse().ok()).collect()
    };
    let count = columns[9].parse::<usize>().ok();
    let lists = numbers(columns[10]).zip(numbers(columns[11]));
    let lists = lists.filter(|(sizes, starts)| {
        Some(sizes.len()) == count && Some(starts.len()) == count && !sizes.contains(&0)
    });
    match lists {
        Some((sizes, starts)) => {
            let each = starts.iter().zip(&sizes);
            let block = |(start, size): (&u64, &u64)| {
                let start = region.start.checked_add(*start)?;
                Some(start..start.checked_add(*size)?)
            };
            let blocks: Option<Vec<_>> = each.map(block).collect();
            let fits = |blocks: &Vec<Range<u64>>| {
                let ordered = blocks.windows(2).all(|pair| pair[0].end <= pair[1].start);
                let ends = blocks.first().zip(blocks.last());
                ordered
                    && ends.is_some_and(|(first, last)| {
                        (first.start, last.end) == (region.start, region.end)
                    })
            };
            blocks.filter(fits).ok_or_else(|| {
                "the blocks (columns 10 to 12) do not go from the start to the end in order"
                    .to_string()
            })
        }
        None if columns.len() == 12 => {
            Err("columns 10 to 12 are not blocks: a count, sizes, starts".to_string())
        }
        None => Ok(whole(region)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn read(text: &str) -> Vec<Interval> {
        parse(text.as_bytes(), None).unwrap().intervals
    }

    #[test]
    fn bed_of_any_width_is_read() {
        let text = "#c\ntrack x\na\t5\t9\na\t6\t7\tn\na\t6\t7\tn\t12.5\t-\n\
            a\t0\t100\tt\t0\t+\t0\t100\t0\t2\t10,20,\t0,80,\n\
            a\t0\t100\tp\t0\t.\t5.5\t1\t2\t50\tx\ty\tz\nb 4 6 n\n";
        let found = read(text);
        let names: Vec<_> = found.iter().map(|i| i.name.as_deref()).collect();
        let expected = [None, Some("n"), Some("n"), Some("t"), Some("p"), Some("n")];
        assert_eq!(names, expected);
        assert_eq!(found[2].score, Some(12.5));
        assert_eq!(found[2].strand, Orientation::Reverse);
        assert_eq!(found[3].blocks, [0..10, 80..100]);
        assert_eq!(found[4].blocks.len(), 1);
        assert_eq!(found[5].record, 5);
    }

    #[test]
    fn features_of_gff3_and_gtf_are_read() {
        let found = read(
            "##gff-version 3\nc\ts\tregion\t1\t900\t.\t+\t.\tID=r\n\
             c\ts\tgene\t11\t20\t0.5\t-\t.\tName=x;locus_tag=l\n\
             c\ts\tgene\t31\t40\t.\t.\t.\tlocus_tag=l2\n",
        );
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].region.start, found[0].region.end), (10, 20));
        assert_eq!(found[0].name.as_deref(), Some("x"));
        assert_eq!(found[0].score, Some(0.5));
        assert_eq!(found[0].strand, Orientation::Reverse);
        assert_eq!(found[1].name.as_deref(), Some("l2"));
        assert_eq!(found[1].strand, Orientation::Unknown);
        let gtf = "c\ts\tgene\t11\t20\t.\t+\t.\tgene_id \"g\"; transcript_id \"\";\n\
            c\ts\texon\t11\t20\t.\t+\t.\tgene_id \"g\"; transcript_id \"t\";\n";
        assert_eq!(read(gtf)[0].name.as_deref(), Some("g"));
        let exons = parse(gtf.as_bytes(), Some("exon")).unwrap();
        assert_eq!(exons.feature.as_deref(), Some("exon"));
        assert_eq!(exons.intervals[0].name.as_deref(), Some("t"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let bed12 = "a\t0\t100\tt\t0\t+\t0\t100\t0\t2";
        for (text, words) in [
            ("a\t5\t4\n".to_string(), "line 1: the end 4"),
            (format!("{bed12}\t10,20\t0,70\n"), "line 1: the blocks"),
            (format!("{bed12}\t10,30\t0,x\n"), "line 1: columns 10 to 12"),
            ("#\n".to_string(), "no intervals"),
            ("a\t4\t4\n".to_string(), "no intervals with a base"),
            (
                "c\ts\tCDS\t1\t9\t.\t+\t.\tID=a\n".to_string(),
                "no features of type gene: choose with --feature: CDS",
            ),
        ] {
            let error = match parse(text.as_bytes(), None) {
                Ok(found) => none(&found).unwrap(),
                Err(error) => error,
            };
            assert_eq!(error.kind(), Kind::Input);
            assert!(error.to_string().contains(words), "{error}");
        }
        let error = parse(&b"a\t4\t5\n"[..], Some("gene")).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
    }

    #[test]
    fn intervals_without_a_base_are_counted() {
        let found = parse(&b"a\t4\t4\na\t4\t5\n"[..], None).unwrap();
        assert_eq!((found.intervals.len(), found.empty), (1, 1));
        assert_eq!(found.intervals[0].record, 1);
        assert_eq!(found.feature, None);
        // A file of headers alone does not say what it is.
        let found = parse(&b"##gff-version 3\n"[..], Some("gene")).unwrap();
        assert!(found.intervals.is_empty());
    }
}
