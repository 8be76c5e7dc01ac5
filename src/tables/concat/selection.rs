//! What a footer says was selected.

use crate::error::{Error, Result};
use crate::sequence::Contig;
use crate::sequence::region::{Query, Span, spans};
use serde_json::Value;

/// The regions that a selection lists; none, if it counts them.
///
/// # Errors
/// Input: they are no regions of these contigs.
pub fn selected(selection: &Value, contigs: &[Contig]) -> Result<Option<Vec<Span>>> {
    let Some(regions) = selection["regions"].as_array() else {
        return Ok(None);
    };
    if regions.is_empty() {
        return Ok(Some(everything(contigs).collect()));
    }
    let texts = || regions.iter().map(|text| text.as_str().unwrap_or_default());
    let found = texts().map(Query::parse).collect::<Result<Vec<_>>>();
    let found = found.and_then(|queries| spans(&queries, contigs));
    // A region that was clipped, or that means another, reads otherwise.
    let same = |spans: &Vec<Span>| {
        let names = spans.iter().map(|span| span.region(contigs).to_string());
        names.eq(texts())
    };
    let found = found.ok().filter(same);
    found.map(Some).ok_or_else(|| {
        let what = "damaged: its footer selects what are no regions of its reference";
        Error::input(what)
    })
}

/// All of the contigs that have bases.
pub fn everything(contigs: &[Contig]) -> impl Iterator<Item = Span> {
    let each = contigs.iter().enumerate();
    let each = each.filter(|(_, contig)| contig.length > 0);
    each.map(|(contig, Contig { length, .. })| Span {
        contig,
        start: 0,
        end: *length,
    })
}
