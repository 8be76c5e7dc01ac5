//! The ledger as a table, and as INFO fields of the VCF that it came from.

use super::{Opened, Score};
use crate::cli::run::{file_name, name_of};
use crate::error::{Error, Kind, Result};
use crate::io::atomic::AtomicFile;
use crate::io::schema::{self, ColumnMeaning, Metadata, VariantColumns};
use crate::io::table::{Column, ColumnKind, Receipt, TableWriter, Values};
use crate::io::variants::annotate::{Annotator, Field, FieldKind, Value};
use crate::io::variants::{Options, Reader};
use crate::score::{Allele, Change, Mode, NAMES, Scores};
use crate::sequence::allele::{Status, Type, variant_id};
use crate::stream::Strand;
use std::collections::BTreeMap;
use std::path::Path;

/// Rows of a block; four are a row group.
const BLOCK: usize = 1 << 13;

/// All that is known of an allele.
struct Row {
    allele: Allele,
    change: Option<Change>,
    status: Status,
    scores: [Option<Scores>; 2],
}

/// Writes the table in the order of the input.
pub(super) fn write(options: &Score, opened: &Opened, target: AtomicFile) -> Result<Receipt> {
    let columns = schema::variants(&NAMES, opened.columns);
    let mut table = TableWriter::create(target, &columns)?;
    for (i, first) in (0..opened.ledger.len()).step_by(BLOCK).enumerate() {
        if i % 4 == 0 {
            table.close_group()?;
        }
        let last = opened.ledger.len().min(first + BLOCK);
        let rows: Vec<Row> = (first..last)
            .map(|i| row(opened, i))
            .collect::<Result<_>>()?;
        let values = columns.iter().map(|column| values(column, &rows));
        table.write(values.collect::<Result<_>>()?)?;
    }
    table.close_group()?;
    table.finish(&metadata(options, opened).to_json()?)
}

fn row(opened: &Opened, i: usize) -> Result<Row> {
    let ledger = &opened.ledger;
    Ok(Row {
        allele: ledger.allele(i)?,
        change: ledger.change(i)?,
        status: ledger.status(i),
        scores: [ledger.scores(i, false)?, ledger.scores(i, true)?],
    })
}

impl Row {
    fn spelled(&self) -> Option<&(u64, String, String)> {
        self.change.as_ref()?.spelled.as_ref()
    }

    /// The score of a column: its name with the strand's suffix.
    fn score(&self, column: &str) -> Option<f64> {
        let of = |scores: &Option<Scores>, name: &str| {
            let scores = scores.as_ref()?;
            let value = match name {
                "ll_ref" => scores.ll_ref,
                "ll_alt" => scores.ll_alt,
                _ => scores.values[NAMES.iter().position(|known| *known == name)?],
            };
            (!value.is_nan()).then_some(value)
        };
        let [forward, reverse] = &self.scores;
        if let Some(name) = column.strip_suffix("_rc") {
            of(reverse, name)
        } else if let Some(name) = column.strip_suffix("_avg") {
            Some((of(forward, name)? + of(reverse, name)?) / 2.0)
        } else {
            of(forward, column)
        }
    }

    fn number(&self, column: &str) -> Option<i64> {
        let scores = || self.scores[0].as_ref();
        let number = match column {
            "record_index" => self.allele.record,
            "pos" => self.allele.pos,
            "start" => self.allele.pos.saturating_sub(1),
            "end" => self.allele.pos.saturating_sub(1) + self.allele.reference.len() as u64,
            "alt_index" => u64::from(self.allele.alternate_index),
            "norm_pos" => self.spelled()?.0,
            "haplotype" => u64::from(self.allele.haplotype.as_ref()?.number),
            "window_start" => scores()?.window.start,
            "window_end" => scores()?.window.end,
            "n_ref" => u64::from(scores()?.n_ref),
            "n_alt" => u64::from(scores()?.n_alt),
            _ => return None,
        };
        i64::try_from(number).ok()
    }

    fn text(&self, column: &str) -> Option<String> {
        let Allele {
            chrom,
            pos,
            id,
            reference,
            alternate,
            haplotype,
            ..
        } = &self.allele;
        Some(match column {
            "chrom" => chrom.clone(),
            "id" => id.clone()?,
            "ref" => reference.clone(),
            "alt" => alternate.clone(),
            "norm_ref" => self.spelled()?.1.clone(),
            "norm_alt" => self.spelled()?.2.clone(),
            "variant_id" => match self.spelled() {
                Some((pos, reference, alternate)) => variant_id(chrom, *pos, reference, alternate),
                None => variant_id(chrom, *pos, reference, alternate),
            },
            "type" => match haplotype {
                Some(_) => "haplotype".to_string(),
                None => Type::of(reference, alternate).name().to_string(),
            },
            "status" => self.status.name().to_string(),
            "haplotype_alleles" => haplotype.as_ref()?.alleles.clone(),
            _ => return None,
        })
    }

    fn vector(&self, column: &str) -> Option<&Vec<f32>> {
        let (name, strand) = match column.strip_suffix("_rc") {
            Some(name) => (name, 1),
            None => (column, 0),
        };
        let scores = self.scores[strand].as_ref()?;
        match name {
            "ref_emb" => scores.ref_emb.as_ref(),
            _ => scores.alt_emb.as_ref(),
        }
    }
}

/// A column of some rows.
fn values(column: &Column, rows: &[Row]) -> Result<Values> {
    let name = column.name.as_str();
    let each = rows.iter();
    Ok(match column.kind {
        ColumnKind::Words => {
            let mut places = BTreeMap::new();
            let (mut codes, mut words) = (Vec::new(), Vec::new());
            for row in each {
                let word = row.text(name).unwrap_or_default();
                let code = *places.entry(word).or_insert_with_key(|word| {
                    words.push(word.clone());
                    words.len() - 1
                });
                codes.push(i32::try_from(code).unwrap_or(i32::MAX));
            }
            Values::Words { codes, words }
        }
        ColumnKind::Text => Values::Text(each.map(|row| row.text(name)).collect()),
        ColumnKind::I64 => Values::I64(
            each.map(|row| row.number(name).unwrap_or(i64::MAX))
                .collect(),
        ),
        ColumnKind::I32 => {
            let number = |row: &Row| i32::try_from(row.number(name)?).ok();
            Values::I32(each.map(|row| number(row).unwrap_or(i32::MAX)).collect())
        }
        ColumnKind::OptionalI64 => Values::OptionalI64(each.map(|row| row.number(name)).collect()),
        ColumnKind::OptionalF64 => Values::OptionalF64(each.map(|row| row.score(name)).collect()),
        ColumnKind::OptionalF32 => {
            let score = |row: &Row| row.score(name).map(|value| value as f32);
            Values::OptionalF32(each.map(score).collect())
        }
        ColumnKind::OptionalVector { dim, .. } => {
            let (mut values, mut present) = (Vec::with_capacity(dim * rows.len()), Vec::new());
            for row in each {
                let vector = row.vector(name);
                present.push(vector.is_some());
                match vector {
                    Some(vector) => values.extend(vector),
                    None => values.resize(values.len() + dim, 0.0),
                }
            }
            Values::OptionalF32Vectors { values, present }
        }
        _ => {
            let what = format!("no values for column {name}");
            return Err(Error::new(Kind::Internal, what));
        }
    })
}

/// What each score means, in one line.
fn meaning(name: &str) -> &'static str {
    match name {
        "ll_ref" => "log-likelihood of the reference over what was scored",
        "ll_alt" => "log-likelihood of the alternate haplotype over what was scored",
        "delta_ll" => "ll_alt - ll_ref",
        "delta_ll_mean" => "ll_alt / n_alt - ll_ref / n_ref",
        "llr" => "log P(ALT) - log P(REF) at the site; of several bases the sum",
        "jsd_mean" => "mean Jensen-Shannon divergence of the predictions after the site",
        "jsd_max" => "largest Jensen-Shannon divergence after the site",
        "jsd_max_offset" => "how many bases after the site that is, from 1",
        "cos_dist" => "cosine distance of the vectors after the allele",
        "l2_dist" => "Euclidean distance of the vectors after the allele",
        "dot" => "product of the vectors after the allele",
        "cos_dist_win" => "cosine distance of the mean vectors around the site",
        "l2_dist_win" => "Euclidean distance of the mean vectors around the site",
        _ => "product of the mean vectors around the site",
    }
}

fn metadata(options: &Score, opened: &Opened) -> Metadata {
    let Opened {
        checkpoint,
        settings,
        reference,
        ..
    } = opened;
    let mut columns = BTreeMap::new();
    for name in ["ll_ref", "ll_alt"].into_iter().chain(NAMES) {
        let unit = name.contains("ll") || name.starts_with("jsd_m") && !name.ends_with("offset");
        let double = name.starts_with("ll_");
        columns.insert(
            name.to_string(),
            ColumnMeaning {
                layer: None,
                dim: None,
                dtype: if double { "float64" } else { "float32" }.to_string(),
                semantics: meaning(name).to_string(),
                unit: unit.then(|| "nat".to_string()),
                pool: None,
            },
        );
    }
    let mut params = serde_json::Map::new();
    let mut param = |name: &str, value: serde_json::Value| params.insert(name.to_string(), value);
    let window = match settings.mode {
        Mode::Stream => {
            param("after", settings.after.into());
            if let Some(context) = settings.context {
                param("context", context.into());
            }
            None
        }
        Mode::Window(window) => {
            param("window-left", window.left.into());
            Some(window.size as u64)
        }
    };
    param("around", settings.around.into());
    param("max-allele", settings.longest.into());
    if let Some(embeddings) = settings.embeddings {
        param("embeddings", name_of(embeddings).into());
    }
    if let Some(preset) = options.preset {
        param("preset", name_of(preset).into());
    }
    if let Some(sample) = &options.sample {
        param("sample", sample.clone().into());
    }
    if let Some(window) = options.compute.attention_window {
        param("attention-window", window.into());
    }
    Metadata {
        version: schema::VERSION.to_string(),
        table: "variants".to_string(),
        primary_columns: vec!["delta_ll".to_string(), "llr".to_string()],
        coordinates: schema::Coordinates::zero_based(),
        reference: schema::Reference {
            path: file_name(&options.reference),
            contigs: reference
                .contigs()
                .iter()
                .map(|contig| schema::ContigDigest {
                    name: contig.name.clone(),
                    length: contig.length,
                    md5: None,
                    sha512t24u: None,
                })
                .collect(),
        },
        model: schema::Model {
            name: checkpoint.name.clone(),
            architecture: checkpoint.architecture.to_string(),
            sha256: checkpoint.digest.clone(),
            n_params: checkpoint.weights.values() as u64,
        },
        columns,
        inference: schema::Inference {
            mode: if window.is_some() { "window" } else { "stream" }.to_string(),
            chunk: settings.chunk as u64,
            window,
            strand: name_of(options.strand()),
            precision: "f32".to_string(),
            device: "cpu".to_string(),
        },
        selection: schema::Selection {
            regions: options.saturate.iter().cloned().collect(),
            shard: (0, 1),
        },
        tool: schema::Tool::this(),
        params,
        command: None,
        complete: true,
    }
}

/// The INFO fields, and the columns that they show.
const FIELDS: [(&str, &str); 5] = [
    ("CRO_DLL", "delta_ll"),
    ("CRO_DLLM", "delta_ll_mean"),
    ("CRO_LLR", "llr"),
    ("CRO_JSD", "jsd_mean"),
    ("CRO_COS", "cos_dist"),
];

/// Opens the VCF with scores.
pub(super) fn annotator(
    options: &Score,
    variants: &Path,
    path: &Path,
    columns: VariantColumns,
) -> Result<Annotator> {
    let reader = Reader::open(variants, &reading(options))?;
    let mut fields = vec![Field {
        id: "CRO_STATUS",
        kind: FieldKind::Text,
        description: "whether the allele was scored, or why not".to_string(),
    }];
    let both = if columns.mean {
        ", mean of both strands"
    } else {
        ""
    };
    fields.extend(FIELDS.map(|(id, column)| Field {
        id,
        kind: FieldKind::Float,
        description: format!("{}{both}", meaning(column)),
    }));
    let source = format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    Annotator::create(path, options.output.force, reader.header(), fields, &source)
}

fn reading(options: &Score) -> Options {
    Options {
        sample: None,
        allow_missing_eof: options.allow_missing_eof,
    }
}

/// Writes the VCF with scores: the input once more, record by record.
pub(super) fn annotate(
    options: &Score,
    opened: &Opened,
    variants: &Path,
    mut out: Annotator,
) -> Result<()> {
    let mut reader = Reader::open(variants, &reading(options))?;
    let suffix = match options.strand() {
        Strand::Forward => "",
        _ => "_avg",
    };
    let mut next = 0;
    while let Some(record) = reader.next_record()? {
        let mut alleles = Vec::new();
        for _ in &record.alternates {
            if next >= opened.ledger.len() {
                return Err(changed(variants));
            }
            let row = row(opened, next)?;
            if row.allele.record != record.index || row.allele.pos != record.pos {
                return Err(changed(variants));
            }
            let scores = FIELDS.map(|(_, column)| {
                let score = row.score(&format!("{column}{suffix}"));
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
