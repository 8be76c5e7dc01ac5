//! Scores as INFO fields of the VCF that the variants came from.

use super::{OpenScore, Score};
use crate::error::{Error, Result};
use crate::io::atomic::AtomicFile;
use crate::io::source::beside;
use crate::io::variants::annotate::{self, Annotator, Field, FieldKind, Value};
use crate::io::variants::{Options, Reader};
use crate::run::outputs::{Format, Outputs};
use crate::run::provenance;
use crate::table::{SCORES, VariantRow};
use std::path::Path;
use std::sync::PoisonError;

/// The INFO fields: of the score, of its quantile, and which score.
const FIELDS: [(&str, &str, &str); 5] = [
    ("CRO_DLL", "CRO_DLL_Q", "delta_ll"),
    ("CRO_DLLM", "CRO_DLLM_Q", "delta_ll_mean"),
    ("CRO_LLR", "CRO_LLR_Q", "llr"),
    ("CRO_JSD", "CRO_JSD_Q", "jsd_mean"),
    ("CRO_COS", "CRO_COS_Q", "cos_dist"),
];

/// A score's place among all.
fn place(name: &str) -> usize {
    let found = SCORES.iter().position(|score| score.name == name);
    found.unwrap_or_default()
}

/// Opens the VCF with scores.
pub(super) fn open(
    options: &Score,
    opened: &OpenScore,
    (variants, file): (&Path, AtomicFile),
    outputs: &Outputs,
) -> Result<Annotator> {
    let mut reader = Reader::open(variants, &reading(options))?;
    let header = if annotate::is_bcf(file.path()) {
        annotate::declared(&mut reader)?
    } else {
        reader.header().clone()
    };
    let mut fields = vec![Field {
        id: "CRO_STATUS",
        kind: FieldKind::Text,
        description: "whether the allele was scored, or why not".to_string(),
    }];
    let both = if opened.columns.mean {
        ", mean of both strands"
    } else {
        ""
    };
    fields.extend(FIELDS.map(|(id, _, name)| Field {
        id,
        kind: FieldKind::Float,
        description: format!("{}{both}", SCORES[place(name)].meaning),
    }));
    if opened.columns.quantiles {
        fields.extend(FIELDS.map(|(id, quantile, _)| Field {
            id: quantile,
            kind: FieldKind::Float,
            description: format!("the part of the background of the same type whose {id} is lower"),
        }));
    }
    let source = provenance::line(&opened.session);
    if !file.is_stream() {
        // Which of the two it is shows when the last record is written.
        for extension in [".tbi", ".csi"] {
            outputs.check(&beside(file.path(), extension), Format::Tbi)?;
        }
    }
    let file = (file, outputs.force());
    Annotator::create(outputs.set(), file, &header, fields, &source)
}

fn reading(options: &Score) -> Options {
    Options {
        sample: None,
        allow_missing_eof: options.allow_missing_eof,
    }
}

/// Writes the VCF with scores: the input once more, record by record.
pub(super) fn write(
    options: &Score,
    opened: &OpenScore,
    variants: &Path,
    mut out: Annotator,
) -> Result<()> {
    let mut reader = Reader::open(variants, &reading(options))?;
    let ledger = opened.ledger.read().unwrap_or_else(PoisonError::into_inner);
    let is_part = options.sharding.shard.is_some() || opened.within.is_some();
    let mut rows = ledger.rows().peekable();
    while let Some(record) = reader.next_record()? {
        if is_part {
            let next = rows.peek().map(|&i| ledger.allele(i)).transpose()?;
            if next.is_none_or(|next| next.record != record.index) {
                // Another shard's, or of no region.
                continue;
            }
        }
        let mut alleles = Vec::new();
        for _ in &record.alternates {
            let row = rows.next().map(|i| ledger.row(i)).transpose()?;
            let row = row.ok_or_else(|| changed(variants))?;
            if row.allele.record != record.index || row.allele.pos != record.pos {
                return Err(changed(variants));
            }
            alleles.push(values(opened, row));
        }
        out.annotate(reader.line(), &alleles)?;
    }
    out.finish().map(drop)
}

/// The values of the fields for an allele.
fn values(opened: &OpenScore, mut row: VariantRow) -> Vec<Value<'static>> {
    let shown = |number: Option<f32>| number.map_or(Value::Missing, Value::Float);
    let mut values = vec![Value::Text(row.status.name())];
    values.extend(FIELDS.map(|(.., name)| {
        let of = opened.columns.of();
        let score = row.number(of, |scores| scores.values[place(name)]);
        shown(score.map(|score| score as f32))
    }));
    if let Some(background) = &opened.background {
        background.place(&mut row);
        values.extend(FIELDS.map(|(.., name)| shown(row.quantiles[place(name)])));
    }
    values
}

fn changed(variants: &Path) -> Error {
    Error::input("the variants changed during the run").file(variants.display())
}
