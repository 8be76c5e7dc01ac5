//! The columns of a table that say where a label stands.

use super::{Place, chosen};
use crate::error::Result;

/// What the columns are called that say where a label stands.
const CHROM: [&str; 2] = ["chrom", "chr"];
const OF_VARIANTS: [&str; 3] = ["pos", "ref", "alt"];
const OF_INTERVALS: [&str; 2] = ["start", "end"];

/// The places of the columns that say where a label stands; none if they are not there.
pub fn keys(names: &[String]) -> Option<Vec<usize>> {
    let names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    let place = |name: &str| names.iter().position(|known| known == name);
    let chrom = CHROM.iter().find_map(|name| place(name))?;
    let with = |others: &[&str]| -> Option<Vec<usize>> {
        let all = others.iter().map(|name| place(name));
        std::iter::once(Some(chrom)).chain(all).collect()
    };
    with(&OF_VARIANTS).or_else(|| with(&OF_INTERVALS))
}

/// The names of the other columns, and those that are wanted among them: their places.
pub fn others(names: &[String], keys: &[usize], wanted: &[String]) -> Result<Vec<usize>> {
    let others: Vec<usize> = (0..names.len()).filter(|at| !keys.contains(at)).collect();
    let named: Vec<&str> = others.iter().map(|&at| names[at].as_str()).collect();
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
        [chrom, start, end] => {
            let bases = (position(start)?, position(end)?);
            Ok(Place::Interval(chrom, bases, None))
        }
        _ => Err("no place".to_string()),
    }
}
