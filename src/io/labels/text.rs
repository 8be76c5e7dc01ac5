//! TSV and CSV whose first line names the columns.

use super::{Labels, MAX_LINE, Place, chosen};
use crate::error::Result;
use crate::io::lines;
use std::borrow::Cow;
use std::io::BufRead;
use std::ops::ControlFlow;

/// What the columns are called that say where a label stands.
const CHROM: [&str; 2] = ["chrom", "chr"];
const OF_VARIANTS: [&str; 3] = ["pos", "ref", "alt"];
const OF_INTERVALS: [&str; 2] = ["start", "end"];

/// The columns of a file.
pub struct Header {
    tabs: bool,
    names: Vec<String>,
    /// The places of `chrom`, and of the others that say where a label stands.
    keys: Vec<usize>,
}

/// What this line names; none if it is no header.
pub fn header(line: &str) -> Option<Header> {
    let line = line.trim_end_matches(['\n', '\r']);
    let tabs = line.contains('\t');
    let names: Vec<String> = cells(line.trim_start_matches('#'), tabs)
        .into_iter()
        .map(|name| name.trim().to_string())
        .collect();
    let keys = keys(names.iter().map(String::as_str))?;
    Some(Header { tabs, names, keys })
}

/// The places of the columns that say where a label stands; none if they are not there.
pub fn keys<'a>(names: impl Iterator<Item = &'a str>) -> Option<Vec<usize>> {
    let names: Vec<String> = names.map(str::to_ascii_lowercase).collect();
    let place = |name: &str| names.iter().position(|known| known == name);
    let chrom = CHROM.iter().find_map(|name| place(name))?;
    let with = |others: &[&str]| -> Option<Vec<usize>> {
        let all = others.iter().map(|name| place(name));
        std::iter::once(Some(chrom)).chain(all).collect()
    };
    with(&OF_VARIANTS).or_else(|| with(&OF_INTERVALS))
}

/// The names of the other columns, and those that are wanted among them: their places.
pub fn others(names: &[&str], keys: &[usize], wanted: &[String]) -> Result<Vec<usize>> {
    let others: Vec<usize> = (0..names.len()).filter(|at| !keys.contains(at)).collect();
    let named: Vec<&str> = others.iter().map(|&at| names[at]).collect();
    let chosen = chosen(&named, wanted)?;
    Ok(chosen.into_iter().map(|at| others[at]).collect())
}

/// Where the label with these keys stands.
pub fn place<'a>(keys: &[&'a str]) -> Result<Place<'a>, String> {
    let position = |text: &str| {
        let position = text.parse::<i64>().ok().filter(|position| *position >= 0);
        position.ok_or_else(|| format!("\"{text}\" is not a position"))
    };
    match keys {
        [chrom, pos, reference, alternate] => {
            let pos = position(pos)?.unsigned_abs();
            Ok(Place::Variant(chrom, pos, reference, alternate))
        }
        [chrom, start, end] => Ok(Place::Interval(chrom, position(start)?, position(end)?)),
        _ => Err("no place".to_string()),
    }
}

pub fn read(input: impl BufRead, header: Header, wanted: &[String]) -> Result<Labels> {
    let Header { tabs, names, keys } = header;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let columns = others(&names, &keys, wanted)?;
    let own = columns.iter().map(|&at| names[at].to_string()).collect();
    let mut labels = Labels::new(own, keys.len() == 4);
    let mut head = true;
    lines::each(input, MAX_LINE, |line, _| {
        if line.is_empty() || line.starts_with("##") || std::mem::take(&mut head) {
            return Ok(ControlFlow::Continue(()));
        }
        let cells = cells(line, tabs);
        if cells.len() != names.len() {
            return Err(format!("{} columns, expected {}", cells.len(), names.len()));
        }
        let keys: Vec<&str> = keys.iter().map(|&at| &*cells[at]).collect();
        let values = columns.iter().map(|&at| &*cells[at]);
        labels.push(&place(&keys)?, values)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(labels.finished())
}

/// The cells of a line. Between commas they may stand in double quotes, which are doubled within.
fn cells(line: &str, tabs: bool) -> Vec<Cow<'_, str>> {
    if tabs {
        return line.split('\t').map(Cow::Borrowed).collect();
    }
    let (mut cells, mut start, mut quoted) = (Vec::new(), 0, false);
    let ends = line.char_indices().chain([(line.len(), ',')]);
    for (at, letter) in ends {
        quoted ^= letter == '"';
        if at == line.len() || letter == ',' && !quoted {
            let cell = &line[start..at];
            let bare = cell
                .strip_prefix('"')
                .and_then(|cell| cell.strip_suffix('"'));
            cells.push(match bare {
                Some(cell) if cell.contains('"') => Cow::Owned(cell.replace("\"\"", "\"")),
                Some(cell) => Cow::Borrowed(cell),
                None => Cow::Borrowed(cell),
            });
            start = at + 1;
        }
    }
    cells
}
