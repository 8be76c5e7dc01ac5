//! The contigs of alignments, and those of the reference that they lie on.

use crate::error::{Error, Result};
use crate::sequence::Contig;
use crate::sequence::region::Span;
use std::collections::HashMap;

/// Contigs that a message names.
const NAMED: usize = 3;

/// A span with its context.
pub fn widened(span: Span, context: [u64; 2], contigs: &[Contig]) -> Span {
    Span {
        start: span.start.saturating_sub(context[0]),
        end: span
            .end
            .saturating_add(context[1])
            .min(contigs[span.contig].length),
        ..span
    }
}

/// The first few names, and how many more there are.
fn list(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The reference's number of each contig, if it has one.
pub fn matched(contigs: &[Contig], reference: &[Contig]) -> Result<Vec<Option<usize>>> {
    let known: HashMap<&str, usize> = (reference.iter().enumerate())
        .map(|(i, contig)| (contig.name.as_str(), i))
        .collect();
    let found: Vec<_> = contigs
        .iter()
        .map(|c| known.get(c.name.as_str()).copied())
        .collect();
    let differ = contigs.iter().zip(&found).filter_map(|(contig, found)| {
        let other = &reference[(*found)?];
        let text = format!(
            "{} has {} bases, not {}",
            contig.name, other.length, contig.length
        );
        (other.length != contig.length).then_some(text)
    });
    let differ: Vec<String> = differ.collect();
    if !differ.is_empty() {
        let what = format!("the reference is another: {}", list(&differ));
        return Err(Error::input(what));
    }
    if found.iter().all(Option::is_none) {
        let names =
            |contigs: &[Contig]| list(&contigs.iter().map(|c| c.name.clone()).collect::<Vec<_>>());
        let (own, other) = (names(contigs), names(reference));
        let what =
            format!("no contig of the alignments is in the reference: {own}; it has {other}");
        return Err(Error::input(what));
    }
    let lacks = contigs
        .iter()
        .zip(&found)
        .filter(|(_, found)| found.is_none());
    let lacks: Vec<_> = lacks.map(|(contig, _)| contig.name.clone()).collect();
    if !lacks.is_empty() {
        let names = list(&lacks);
        tracing::warn!("the reference lacks {names}: alignments on it are left out");
    }
    Ok(found)
}
