//! Scores as INFO fields of the VCF that the variants came from.

use super::{OpenScore, Score};
use crate::error::{Error, Result};
use crate::io::atomic::AtomicFile;
use crate::io::fai::beside;
use crate::io::variants::annotate::{Annotator, Field, FieldKind, Value};
use crate::io::variants::{Options, Reader};
use crate::run::outputs::{Format, Outputs};
use crate::run::provenance;
use crate::score::Ledger;
use crate::stream::Strand;
use crate::table::{Of, SCORES};
use std::path::Path;

/// The INFO fields, and the scores that they show.
const FIELDS: [(&str, &str); 5] = [
    ("CRO_DLL", "delta_ll"),
    ("CRO_DLLM", "delta_ll_mean"),
    ("CRO_LLR", "llr"),
    ("CRO_JSD", "jsd_mean"),
    ("CRO_COS", "cos_dist"),
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
    let reader = Reader::open(variants, &reading(options))?;
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
    fields.extend(FIELDS.map(|(id, name)| Field {
        id,
        kind: FieldKind::Float,
        description: format!("{}{both}", SCORES[place(name)].meaning),
    }));
    let source = provenance::line(&opened.session);
    if !file.is_stream() {
        // Which of the two it is shows when the last record is written.
        for extension in [".tbi", ".csi"] {
            outputs.check(&beside(file.path(), extension), Format::Tbi)?;
        }
    }
    let file = (file, outputs.force());
    Annotator::create(outputs.set(), file, reader.header(), fields, &source)
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
    ledger: &Ledger,
    variants: &Path,
    mut out: Annotator,
) -> Result<()> {
    let mut reader = Reader::open(variants, &reading(options))?;
    let of = if options.strand() == Strand::Forward {
        Of::Forward
    } else {
        Of::Mean
    };
    let sharded = options.sharding.shard.is_some();
    let mut next = 0;
    while let Some(record) = reader.next_record()? {
        if sharded && (next >= ledger.len() || ledger.row(next)?.allele.record != record.index) {
            // Another shard's.
            continue;
        }
        let mut alleles = Vec::new();
        for _ in &record.alternates {
            if next >= ledger.len() {
                return Err(changed(variants));
            }
            let row = ledger.row(next)?;
            if row.allele.record != record.index || row.allele.pos != record.pos {
                return Err(changed(variants));
            }
            let scores = FIELDS.map(|(_, name)| {
                let score = row.number(of, |scores| scores.values[place(name)]);
                score.map_or(Value::Missing, |score| Value::Float(score as f32))
            });
            let status = [Value::Text(row.status.name())];
            alleles.push(status.into_iter().chain(scores).collect());
            next += 1;
        }
        out.annotate(reader.line(), &alleles)?;
    }
    out.finish().map(drop)
}

fn changed(variants: &Path) -> Error {
    Error::input("the variants changed during the run").file(variants.display())
}
