//! Annotations: GFF3 and GTF, read; positions become 0-based and half-open.

use super::input::Input;
use super::lines;
use crate::error::Result;
use crate::sequence::region::Region;
use std::io::BufRead;
use std::ops::ControlFlow;
use std::path::Path;

/// The longest line, in bytes.
const MAX_LINE: u64 = 1 << 24;

/// One line of an annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Columns 1, 4 and 5.
    pub region: Region,
    /// Column 3: `gene`, `CDS`, ….
    pub kind: String,
    /// Column 7 is `-`.
    pub reverse: bool,
    /// Column 8: bases to the next codon's start, of a CDS.
    pub phase: Option<u8>,
    /// Column 9, by key, percent signs decoded.
    pub attributes: Vec<(String, String)>,
    /// The IDs of what it is a part of: `Parent` of GFF3, which may name several.
    pub parents: Vec<String>,
    /// The line's number, from 1.
    pub line: u64,
}

/// Whether columns are a feature's: nine, of which the second and third are no positions, but the
/// fourth and fifth are.
pub(super) fn is_feature(columns: &[&str]) -> bool {
    let position = |at: usize| columns[at].parse::<u64>().is_ok();
    columns.len() == 9 && !(position(1) && position(2)) && position(3) && position(4)
}

impl Feature {
    /// The value of an attribute.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether an attribute says `true`.
    pub fn says(&self, key: &str) -> bool {
        self.attribute(key) == Some("true")
    }
}

/// The contig that a feature says to be a circle, and its bases: the feature is all of it.
pub fn circle(feature: &Feature) -> Option<(String, u64)> {
    let Region { contig, start, end } = &feature.region;
    let whole = *start == 0 && feature.says("Is_circular");
    whole.then(|| (contig.clone(), *end))
}

/// Reads all features, in the file's order. Comments and directives are passed over; a line
/// `##FASTA`, or one that begins with `>`, ends the annotation. The file may be compressed, or
/// standard input (`-`). Memory: the features.
///
/// # Errors
/// Input, naming the line: not nine columns, positions that are no numbers or no range, another
/// strand than `+ - . ?`, another phase than `0 1 2 .`.
pub fn read(path: &Path) -> Result<Vec<Feature>> {
    let input = Input::open(path, false)?;
    let name = input.name().to_string();
    parse(input).map_err(|error| error.file(name))
}

fn parse(input: impl BufRead) -> Result<Vec<Feature>> {
    let mut features = Vec::new();
    each(input, |feature, _| features.push(feature))?;
    Ok(features)
}

/// Gives `take` each feature, and its line.
pub(super) fn each(input: impl BufRead, mut take: impl FnMut(Feature, &str)) -> Result<()> {
    let mut version_3 = false;
    lines::each(input, MAX_LINE, |line, number| {
        if line.trim_end() == "##FASTA" || line.starts_with('>') {
            return Ok(ControlFlow::Break(()));
        }
        if let Some(version) = line.strip_prefix("##gff-version") {
            version_3 = version.trim_start().starts_with('3');
        }
        if !line.trim().is_empty() && !line.starts_with('#') {
            take(parse_line(line, number, version_3)?, line);
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn parse_line(text: &str, line: u64, version_3: bool) -> Result<Feature, String> {
    let columns: Vec<&str> = text.split('\t').collect();
    let [contig, _, kind, start, end, _, strand, phase, attributes] = columns[..] else {
        let found = columns.len();
        return Err(format!("expected 9 columns between tabs, found {found}"));
    };
    let position = |text: &str| match text.parse::<u64>() {
        Ok(position) if position > 0 => Ok(position),
        _ => Err(format!("\"{text}\" is not a position")),
    };
    let (start, end) = (position(start)?, position(end)?);
    if end < start {
        return Err(format!("the end {end} is before the start {start}"));
    }
    if contig.is_empty() || kind.is_empty() {
        return Err("the contig's name or the type is empty".to_string());
    }
    let reverse = match strand {
        "-" => true,
        "+" | "." | "?" => false,
        _ => return Err(format!("\"{strand}\" is not a strand")),
    };
    let phase = match phase {
        "." => None,
        "0" | "1" | "2" => phase.parse().ok(),
        _ => return Err(format!("\"{phase}\" is not a phase")),
    };
    let (attributes, parents) = if is_gff3(attributes, version_3) {
        gff3_attributes(attributes)
    } else {
        (gtf_attributes(attributes), Vec::new())
    };
    Ok(Feature {
        region: Region {
            contig: decoded(contig),
            start: start - 1,
            end,
        },
        kind: kind.to_string(),
        reverse,
        phase,
        attributes,
        parents,
        line,
    })
}

/// Whether column 9 is of GFF3 (`key=value`), and not of GTF (`key "value"`).
fn is_gff3(text: &str, version_3: bool) -> bool {
    let first = text.trim_start().find(['=', ' ', '"']);
    version_3 && text.contains('=')
        || first.is_some_and(|i| text.trim_start()[i..].starts_with('='))
}

/// `key=value` between semicolons, and the values of `Parent`. Quotes mean nothing here.
fn gff3_attributes(text: &str) -> (Vec<(String, String)>, Vec<String>) {
    let (mut attributes, mut parents) = (Vec::new(), Vec::new());
    for (key, value) in text.split(';').filter_map(|part| part.split_once('=')) {
        let (key, value) = (key.trim(), value.trim());
        if key == "Parent" {
            parents.extend(value.split(',').map(decoded));
        }
        attributes.push((decoded(key), decoded(value)));
    }
    (attributes, parents)
}

/// `key "value"` between semicolons, but for those in double quotes.
fn gtf_attributes(text: &str) -> Vec<(String, String)> {
    let mut quoted = false;
    let parts = text.split(|c| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    let pairs = parts.filter_map(|part| part.trim().split_once(' '));
    let pairs = pairs.map(|(key, value)| {
        let value = value.trim();
        let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        (key.to_string(), bare.unwrap_or(value).to_string())
    });
    pairs.collect()
}

/// Text whose `%xx` are bytes.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let code = rest.get(1..3).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &rest[3..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Text for a column or an attribute of GFF3: what has a meaning there becomes `%xx`.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' | ';' | '=' | '&' | ',' | '>' | ' ' | '\u{0}'..='\u{1f}' | '\u{7f}' => {
                out.push_str(&format!("%{:02X}", c as u32));
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gff3_and_gtf_are_read() {
        let text = "##gff-version 3\n#!x\n\nc%20d\ts\tCDS\t4\t9\t.\t-\t1\tID=a%3B1;Name=x y;pseudo=true\r\n\
            c\ts\texon\t1\t1\t0.5\t+\t.\tgene_id \"g;1\"; transcript_id \"t\";\n##FASTA\n>c\nACGT\n";
        let features = parse(text.as_bytes()).unwrap();
        assert_eq!(features.len(), 2);
        let first = &features[0];
        assert_eq!((first.region.contig.as_str(), first.line), ("c d", 4));
        assert_eq!((first.region.start, first.region.end), (3, 9));
        assert!(first.reverse && first.phase == Some(1) && first.says("pseudo"));
        assert_eq!(first.attribute("ID"), Some("a;1"));
        assert_eq!(first.attribute("Name"), Some("x y"));
        assert_eq!(features[1].attribute("gene_id"), Some("g;1"));
        assert_eq!(features[1].attribute("transcript_id"), Some("t"));
        assert_eq!(encoded("a;1=%"), "a%3B1%3D%25");
    }

    #[test]
    fn quotes_mean_nothing_in_gff3_and_hold_a_value_together_in_gtf() {
        let line = |attributes: &str| format!("c\ts\tCDS\t4\t9\t.\t-\t1\t{attributes}\n");
        let one = |text: String| parse(text.as_bytes()).unwrap().remove(0);
        for version in ["", "##gff-version 3\n", "##gff-version 3.1.26\n"] {
            let quote = one(format!(
                "{version}{}",
                line("ID=a;product=3\"-transferase; pseudo=true")
            ));
            assert_eq!(quote.attribute("product"), Some("3\"-transferase"));
            assert!(quote.says("pseudo"));
        }
        let spaced = one(format!(
            "##gff-version 3\n{}",
            line("a key=1;ID=\"x;\"=2;pseudo=true")
        ));
        assert_eq!(spaced.attribute("ID"), Some("\"x"));
        assert!(spaced.says("pseudo"));
        let gtf = one(line("note \"a=1; b\"; gene_id g;"));
        assert_eq!(gtf.attribute("note"), Some("a=1; b"));
        assert_eq!(gtf.attribute("gene_id"), Some("g"));
    }

    #[test]
    fn a_list_of_parents_names_each_and_an_encoded_comma_is_part_of_a_name() {
        let text = "c\ts\tCDS\t4\t9\t.\t-\t1\tID=a,b;Parent=g,t%2C1\n";
        let feature = parse(text.as_bytes()).unwrap().remove(0);
        assert_eq!(feature.parents, ["g", "t,1"]);
        assert_eq!(feature.attribute("ID"), Some("a,b"));
    }

    #[test]
    fn sequences_end_the_annotation_with_and_without_their_directive_and_comments_do_not() {
        let feature = "c\ts\tCDS\t4\t9\t.\t-\t1\tID=a\n";
        for (between, count) in [
            ("##FASTA\n", 1),
            ("##FASTA\r\n", 1),
            (">c\n", 1),
            ("##FASTA follows the next line\n", 2),
            ("##FASTA-like\n", 2),
            ("###\n", 2),
        ] {
            let text = format!("{feature}{between}{feature}");
            assert_eq!(parse(text.as_bytes()).unwrap().len(), count, "{between}");
        }
    }

    #[test]
    fn wrong_lines_are_errors_with_their_number() {
        for (bad, words) in [
            ("c\ts\tCDS\t4\t9\t.\t-\t1", "expected 9 columns"),
            ("c s CDS 4 9 . - 1 ID=a", "expected 9 columns"),
            ("c\ts\tCDS\t0\t9\t.\t-\t1\t.", "\"0\" is not a position"),
            ("c\ts\tCDS\t9\t4\t.\t-\t1\t.", "the end 4 is before"),
            ("c\ts\tCDS\tx\t4\t.\t-\t1\t.", "\"x\" is not a position"),
            ("c\ts\tCDS\t1\t4\t.\tx\t1\t.", "\"x\" is not a strand"),
            ("c\ts\tCDS\t1\t4\t.\t-\t3\t.", "\"3\" is not a phase"),
            ("\ts\tCDS\t1\t4\t.\t-\t0\t.", "is empty"),
        ] {
            let error = parse(format!("##gff-version 3\n{bad}\n").as_bytes()).unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with("line 2: ") && text.contains(words),
                "{text}"
            );
        }
    }
}
