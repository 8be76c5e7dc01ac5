//! The contigs of alignments, and those of the reference that they lie on.

use crate::error::{Error, Result};
use crate::sequence::Contig;
use crate::sequence::region::{Query, Region, Span, merge};
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
    Ok(found)
}

/// Says which contigs the reference lacks.
pub fn warn_of_lacking(contigs: &[Contig], found: &[Option<usize>]) {
    let lacking = contigs.iter().zip(found);
    let lacking = lacking.filter(|(_, found)| found.is_none());
    let lacking: Vec<_> = lacking.map(|(contig, _)| contig.name.clone()).collect();
    if !lacking.is_empty() {
        let names = list(&lacking);
        tracing::warn!("the reference lacks {names}: alignments there are left out");
    }
}

/// The contigs that the reference has, from their start to their end.
pub fn whole(contigs: &[Contig], found: &[Option<usize>]) -> Vec<Span> {
    let whole = contigs.iter().enumerate().map(|(contig, c)| Span {
        contig,
        start: 0,
        end: c.length,
    });
    let has_rows = |span: &Span| found[span.contig].is_some() && span.end > 0;
    whole.filter(has_rows).collect()
}

/// Regions with their context, of which reads count too.
pub fn wide_regions(spans: &[Span], context: [u64; 2], contigs: &[Contig]) -> Vec<Query> {
    let wide = spans.iter().map(|&span| widened(span, context, contigs));
    let mut wide: Vec<Span> = wide.collect();
    merge(&mut wide);
    let region = |span: Span| Region {
        contig: contigs[span.contig].name.clone(),
        start: span.start,
        end: span.end,
    };
    let exact = |span| Query::exact(region(span));
    wide.into_iter().map(exact).collect()
}
