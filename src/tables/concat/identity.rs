//! Whether tables are parts of one, and what the footer of that one says.

use crate::error::{Error, Result};
use crate::sequence::Contig;
use crate::sequence::region::{Query, Region, Span, TO_END, merge};
use crate::table::Known;
use crate::tables::contigs;
use crate::tables::file::TableFile;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a footer says of the part of a run that a table is.
const PART: [&str; 2] = ["shard", "shards"];

/// What a footer says that was found in the table's part.
const MEASURED: &str = "measured";

/// The footer of the table that these make together.
///
/// # Errors
/// Input: they are of different runs, or not all parts are there and gaps are not allowed.
pub fn together(tables: &[TableFile], allow_gaps: bool) -> Result<Value> {
    let Some((first, others)) = tables.split_first() else {
        return Err(Error::usage("no tables"));
    };
    let is_shard = |table: &&TableFile| shards(&table.footer).is_some();
    let sharded = tables.iter().filter(is_shard).count();
    if sharded > 0 && sharded < tables.len() {
        let what = "some tables are shards and some are not";
        return Err(Error::input(what).file(first.path.display()));
    }
    for other in others {
        let found = difference("", &common(first), &common(other));
        if let Some((what, one, another)) = found {
            let what = format!("{what} is {another}, but {one} in {}", first.path.display());
            let error = Error::input(what).file(other.path.display());
            return Err(error.todo("only tables of equal runs can be joined"));
        }
    }
    let mut footer = if sharded > 0 {
        of_shards(tables, allow_gaps)?
    } else if by_contig(first) {
        of_regions(tables, allow_gaps)?
    } else {
        first.footer.clone()
    };
    if let Some(measured) = footer.get_mut(MEASURED).and_then(Value::as_object_mut) {
        measured.extend(known(tables));
    }
    Ok(footer)
}

/// What was found in all parts together.
fn known(tables: &[TableFile]) -> Map<String, Value> {
    let each = tables.iter();
    let each = each.filter_map(|table| Known::of(&table.footer[MEASURED]));
    let sum = each.reduce(|mut sum, known| {
        sum.add(known);
        sum
    });
    sum.map(|sum| sum.measured()).unwrap_or_default()
}

/// Whether the rows are those of contigs, which the footer lists.
fn by_contig(table: &TableFile) -> bool {
    !["reads", "read_bases", "variants"].contains(&table.kind())
}

/// A footer without what says which part of the run its table is.
fn common(table: &TableFile) -> Value {
    let mut footer = table.footer.clone();
    let Some(all) = footer.as_object_mut() else {
        return footer;
    };
    let own = PART.iter().chain([&MEASURED]);
    own.for_each(|key| drop(all.shift_remove(*key)));
    if by_contig(table) && shards(&table.footer).is_none() {
        all.shift_remove("selection");
        without_context(all);
    }
    footer
}

/// The bases read before a region are of a run that has regions.
fn without_context(footer: &mut Map<String, Value>) {
    if let Some(params) = footer.get_mut("params").and_then(Value::as_object_mut) {
        params.shift_remove("context");
        if params.is_empty() {
            footer.shift_remove("params");
        }
    }
}

/// The first thing that differs: its place, and what it is in both.
fn difference(place: &str, one: &Value, another: &Value) -> Option<(String, String, String)> {
    if one == another {
        return None;
    }
    let named = |name: &str| match place {
        "" => name.to_string(),
        place => format!("{place}.{name}"),
    };
    match (one, another) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys());
            let of = |all: &Map<String, Value>, name: &String| {
                all.get(name).cloned().unwrap_or_default()
            };
            let mut found = names.map(|name| difference(&named(name), &of(a, name), &of(b, name)));
            found.find_map(|found| found)
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(i, (a, b))| difference(&named(&i.to_string()), a, b))
        }
        _ => {
            let said = |value: &Value| match value {
                Value::Null => "absent".to_string(),
                Value::Object(_) => "present".to_string(),
                Value::Array(all) => format!("a list of {}", all.len()),
                other => other.to_string(),
            };
            Some((place.to_string(), said(one), said(another)))
        }
    }
}

/// Which shards a table holds, of how many.
fn shards(footer: &Value) -> Option<(Vec<u64>, u64)> {
    let one = &footer["shard"];
    if let (Some(index), Some(of)) = (one["index"].as_u64(), one["of"].as_u64()) {
        return Some((vec![index], of));
    }
    let several = &footer["shards"];
    let indices = several["index"]
        .as_array()?
        .iter()
        .filter_map(Value::as_u64);
    Some((indices.collect(), several["of"].as_u64()?))
}

/// What shards are made of.
fn made_of(footer: &Value) -> Value {
    let record = PART
        .iter()
        .map(|key| &footer[*key])
        .find(|record| record.is_object());
    let mut record = record.cloned().unwrap_or_default();
    if let Some(record) = record.as_object_mut() {
        record.shift_remove("index");
    }
    record
}

fn of_shards(tables: &[TableFile], allow_gaps: bool) -> Result<Value> {
    let mut held: BTreeMap<u64, &TableFile> = BTreeMap::new();
    let first = made_of(&tables[0].footer);
    for table in tables {
        let here = |what: String| Error::input(what).file(table.path.display());
        let own = made_of(&table.footer);
        if let Some((what, one, another)) = difference("shard", &first, &own) {
            let what = format!(
                "{what} is {another}, but {one} in {}",
                tables[0].path.display()
            );
            return Err(here(what));
        }
        for index in shards(&table.footer).unwrap_or_default().0 {
            if let Some(other) = held.insert(index, table) {
                return Err(here(format!(
                    "shard {index} is also in {}",
                    other.path.display()
                )));
            }
        }
    }
    let of = first["of"].as_u64().unwrap_or_default();
    let missing: Vec<String> = (1..=of)
        .filter(|index| !held.contains_key(index))
        .map(|index| index.to_string())
        .collect();
    let mut footer = tables[0].footer.clone();
    let Some(all) = footer.as_object_mut() else {
        return Ok(footer);
    };
    let place = all
        .keys()
        .position(|key| PART.contains(&key.as_str()))
        .unwrap_or_default();
    PART.iter().for_each(|key| drop(all.shift_remove(*key)));
    if missing.is_empty() {
        return Ok(footer);
    }
    if !allow_gaps {
        let what = format!(
            "{} of {of} shards are missing: {}",
            missing.len(),
            listed(&missing)
        );
        return Err(Error::input(what).todo("name their tables too, or give --allow-gaps"));
    }
    let mut record = json!({"index": held.keys().collect::<Vec<_>>()});
    if let (Some(record), Some(rest)) = (record.as_object_mut(), first.as_object()) {
        record.extend(rest.clone());
    }
    all.shift_insert(place, "shards".to_string(), record);
    Ok(footer)
}

/// The footer of runs over some regions each: theirs together.
fn of_regions(tables: &[TableFile], allow_gaps: bool) -> Result<Value> {
    let contigs = contigs(&tables[0].footer);
    let mut spans = Vec::new();
    for table in tables {
        let regions = table.footer["selection"]["regions"].as_array();
        let regions = regions.map(Vec::as_slice).unwrap_or_default();
        if regions.is_empty() {
            spans.extend(whole(&contigs));
        }
        for region in regions.iter().filter_map(Value::as_str) {
            let span = Query::parse(region).and_then(|query| query.resolve(&contigs));
            spans.push(span.map_err(|error| error.file(table.path.display()))?);
        }
    }
    merge(&mut spans);
    let mut footer = tables[0].footer.clone();
    let everything: Vec<Span> = whole(&contigs).collect();
    let missing: Vec<String> = gaps(&spans, &contigs)
        .map(|gap| named(gap, &contigs))
        .collect();
    if !missing.is_empty() && tables.len() > 1 && !allow_gaps {
        let what = format!("no table holds {}", listed(&missing));
        return Err(Error::input(what).todo("name its table too, or give --allow-gaps"));
    }
    if tables.len() == 1 {
        return Ok(footer);
    }
    let regions = if spans == everything {
        if let Some(footer) = footer.as_object_mut() {
            without_context(footer);
        }
        Vec::new()
    } else {
        spans
            .into_iter()
            .map(|span| named(span, &contigs))
            .collect()
    };
    footer["selection"]["regions"] = json!(regions);
    Ok(footer)
}

fn whole(contigs: &[Contig]) -> impl Iterator<Item = Span> {
    let each = contigs
        .iter()
        .enumerate()
        .filter(|(_, contig)| contig.length > 0);
    each.map(|(contig, Contig { length, .. })| Span {
        contig,
        start: 0,
        end: *length,
    })
}

/// What merged spans leave of the contigs.
fn gaps<'a>(spans: &'a [Span], contigs: &'a [Contig]) -> impl Iterator<Item = Span> + 'a {
    whole(contigs).flat_map(|contig| {
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

fn named(span: Span, contigs: &[Contig]) -> String {
    let contig = &contigs[span.contig];
    let whole = span.start == 0 && span.end == contig.length;
    let region = Region {
        contig: contig.name.clone(),
        start: span.start,
        end: if whole { TO_END } else { span.end },
    };
    region.to_string()
}

/// The first few of many.
fn listed(names: &[String]) -> String {
    const NAMED: usize = 5;
    match names.len() {
        n if n > NAMED => format!("{} and {} more", names[..NAMED].join(", "), n - NAMED),
        _ => names.join(", "),
    }
}
