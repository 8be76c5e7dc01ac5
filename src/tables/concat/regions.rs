//! Tables of runs over some contigs, regions or intervals each.

use super::identity::{WHICH, listed, must_equal, without_params};
use super::parts;
use super::selection::{everything, selected};
use crate::error::{Error, Result};
use crate::io::table_file::TableFile;
use crate::sequence::Contig;
use crate::sequence::region::{Span, merge};
use crate::tables::contigs;
use serde_json::{Value, json};

/// The footer of runs over some regions each: theirs together.
///
/// # Errors
/// Input: bases before a region that differ; gaps that are not allowed; the same intervals twice.
pub fn together(tables: &[TableFile], allow_gaps: bool) -> Result<Value> {
    let contigs = contigs(&tables[0])?;
    let selected = tables.iter().map(|table| {
        let found = selected(&table.footer["selection"], &contigs);
        found.map_err(|error| error.file(table.path.display()))
    });
    let selected: Vec<Option<Vec<Span>>> = selected.collect::<Result<_>>()?;
    let is_whole = |span: &Span| span.start == 0 && span.end == contigs[span.contig].length;
    let whole = |spans: &Option<Vec<Span>>| {
        let spans = spans.as_ref();
        spans.is_some_and(|spans| spans.iter().all(is_whole))
    };
    // Before a whole contig no bases are read, however many a run would read before a region.
    let partial: Vec<&TableFile> = (tables.iter().zip(&selected))
        .filter_map(|(table, spans)| (!whole(spans)).then_some(table))
        .collect();
    for other in partial.iter().skip(1) {
        let [one, another] = [partial[0], other].map(|table| &table.footer["params"]["context"]);
        must_equal(partial[0], other, "params.context", one, another)?;
    }
    let counted = selected.iter().any(Option::is_none);
    let mut all: Vec<Span> = selected.into_iter().flatten().flatten().collect();
    all.sort_unstable();
    let by_interval = tables[0].kind().starts_with("interval_");
    if !by_interval && !allow_gaps {
        must_be_complete(&all, &contigs, counted)?;
    }
    let mut footer = partial.first().unwrap_or(&&tables[0]).footer.clone();
    if counted {
        return parts::together(tables, footer);
    }
    without_params(&mut footer, &WHICH);
    if partial.is_empty() && all == everything(&contigs).collect::<Vec<_>>() {
        without_params(&mut footer, &["context"]);
        all.clear();
    }
    let names = all.iter().map(|span| span.region(&contigs).to_string());
    footer["selection"] = json!({"regions": names.collect::<Vec<_>>()});
    Ok(footer)
}

/// An error if a base of the reference is in none of these sorted spans.
fn must_be_complete(spans: &[Span], contigs: &[Contig], counted: bool) -> Result<()> {
    let todo = "name its table too, or give --allow-gaps";
    if counted {
        let what = "a table of so many regions that its footer does not list them";
        return Err(Error::input(what).todo("give --allow-gaps: gaps cannot be found"));
    }
    let mut merged = spans.to_vec();
    merge(&mut merged);
    let count = gaps(&merged, contigs).count() as u64;
    if count == 0 {
        return Ok(());
    }
    let names = gaps(&merged, contigs).map(|gap| gap.region(contigs).to_string());
    let what = format!("no table holds {}", listed(names, count));
    Err(Error::input(what).todo(todo))
}

/// What merged spans leave of the contigs.
fn gaps<'a>(spans: &'a [Span], contigs: &'a [Contig]) -> impl Iterator<Item = Span> + 'a {
    everything(contigs).flat_map(|contig| {
        let first = spans.partition_point(|span| span.contig < contig.contig);
        let here = spans[first..]
            .iter()
            .take_while(move |span| span.contig == contig.contig);
        let starts = std::iter::once(0).chain(here.clone().map(|span| span.end));
        let ends = here.map(|span| span.start).chain([contig.end]);
        let between = starts.zip(ends).filter(|(start, end)| start < end);
        between.map(move |(start, end)| Span {
            start,
            end,
            ..contig
        })
    })
}
