//! `variants`: a row for every alternate allele.

use super::{Batch, Column, group_of_rows};
use crate::io::table_writer::{ColumnKind, Values};
use crate::io::vector::Element;
use crate::sequence::allele::{Status, Type, variant_id};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// An allele as the input has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allele {
    /// The record's place in the input, from 0.
    pub record: u64,
    /// The alternate's place in its record, from 0.
    pub alternate_index: u32,
    /// CHROM.
    pub chrom: String,
    /// POS, 1-based.
    pub pos: u64,
    /// ID.
    pub id: Option<String>,
    /// REF.
    pub reference: String,
    /// The alternate.
    pub alternate: String,
    /// Of several alleles that one haplotype carries: whose, and which.
    pub haplotype: Option<HaplotypeOf>,
}

/// The haplotype that carries several alleles at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaplotypeOf {
    /// Its number in the genotype, from 1.
    pub number: u32,
    /// The alleles, as `record:alternate` with places from 0, separated by commas.
    pub alleles: String,
}

/// POS, REF and ALT of a change as a normalised VCF has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spelled {
    /// POS, 1-based.
    pub pos: u64,
    /// REF.
    pub reference: String,
    /// ALT.
    pub alternate: String,
}

impl From<(u64, String, String)> for Spelled {
    fn from((pos, reference, alternate): (u64, String, String)) -> Self {
        Self {
            pos,
            reference,
            alternate,
        }
    }
}

/// What a variant changes on one strand. Numbers that do not exist are NaN; logarithms natural.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// What was scored of the reference: positions of the forward strand, 0-based.
    pub window: Range<u64>,
    /// Bases whose log-likelihoods `ll_ref` sums.
    pub n_ref: u32,
    /// Bases whose log-likelihoods `ll_alt` sums.
    pub n_alt: u32,
    /// Log-likelihood of the reference.
    pub ll_ref: f64,
    /// Log-likelihood of the alternate haplotype.
    pub ll_alt: f64,
    /// One number for each of [`SCORES`].
    pub values: [f64; SCORES.len()],
    /// The reference's vector, if embeddings are wanted and there is one.
    pub ref_emb: Option<Vec<f32>>,
    /// The alternate haplotype's.
    pub alt_emb: Option<Vec<f32>>,
}

/// A score of a variant.
pub struct Score {
    /// Its name, as in tables.
    pub name: &'static str,
    /// Of a number with one.
    pub unit: Option<&'static str>,
    /// What it means, in one line.
    pub meaning: &'static str,
    /// The mean of both strands' says something.
    pub has_mean: bool,
}

/// A column's name and meaning, and its value.
type OfScores<T> = (&'static str, &'static str, fn(&Scores) -> T);
/// A vector of the scores.
type VectorOf = fn(&Scores) -> Option<&Vec<f32>>;

const NAT: Option<&str> = Some("nat");

const fn score(name: &'static str, unit: Option<&'static str>, meaning: &'static str) -> Score {
    Score {
        name,
        unit,
        meaning,
        has_mean: true,
    }
}

/// What [`Scores::values`] are, in order.
pub const SCORES: [Score; 12] = [
    score("delta_ll", NAT, "ll_alt - ll_ref"),
    score("delta_ll_mean", NAT, "ll_alt / n_alt - ll_ref / n_ref"),
    score(
        "llr",
        NAT,
        "log P(ALT) - log P(REF) at the site; of several bases the sum",
    ),
    score(
        "jsd_mean",
        NAT,
        "mean Jensen-Shannon divergence of the predictions after the site",
    ),
    score(
        "jsd_max",
        NAT,
        "largest Jensen-Shannon divergence after the site",
    ),
    Score {
        name: "jsd_max_offset",
        unit: None,
        meaning: "how many bases after the site that is, from 1",
        // The place of the largest effect has no mean.
        has_mean: false,
    },
    score(
        "cos_dist",
        None,
        "cosine distance of the vectors after the allele",
    ),
    score(
        "l2_dist",
        None,
        "Euclidean distance of the vectors after the allele",
    ),
    score("dot", None, "product of the vectors after the allele"),
    score(
        "cos_dist_win",
        None,
        "cosine distance of the mean vectors around the site",
    ),
    score(
        "l2_dist_win",
        None,
        "Euclidean distance of the mean vectors around the site",
    ),
    score(
        "dot_win",
        None,
        "product of the mean vectors around the site",
    ),
];

/// All that is known of an allele.
#[derive(Clone, Debug)]
pub struct VariantRow {
    /// As the input has it.
    pub allele: Allele,
    /// The change as it was scored, if it could be spelled.
    pub spelled: Option<Spelled>,
    /// Whether it was scored, or why not.
    pub status: Status,
    /// On the forward and on the reverse strand.
    pub scores: [Option<Scores>; 2],
}

/// A strand's number of an allele, or that of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The forward strand's.
    Forward,
    /// The reverse strand's.
    Reverse,
    /// The mean of both.
    Mean,
}

impl VariantRow {
    /// A number of the scores, of a strand or of both; none if it does not exist.
    pub fn number(&self, of: Of, number: impl Fn(&Scores) -> f64) -> Option<f64> {
        let [forward, reverse] = &self.scores;
        let one = |scores: &Option<Scores>| {
            let value = number(scores.as_ref()?);
            (!value.is_nan()).then_some(value)
        };
        match of {
            Of::Forward => one(forward),
            Of::Reverse => one(reverse),
            Of::Mean => Some((one(forward)? + one(reverse)?) / 2.0),
        }
    }

    fn count(&self, of: impl Fn(&Scores) -> u64) -> Option<i64> {
        self.scores[0]
            .as_ref()
            .map(|scores| of(scores).cast_signed())
    }

    fn id(&self) -> String {
        let Allele {
            chrom,
            pos,
            reference,
            alternate,
            ..
        } = &self.allele;
        match &self.spelled {
            Some(spelled) => variant_id(chrom, spelled.pos, &spelled.reference, &spelled.alternate),
            None => variant_id(chrom, *pos, reference, alternate),
        }
    }

    fn kind(&self) -> &'static str {
        match self.allele.haplotype {
            Some(_) => "haplotype",
            None => Type::of(&self.allele.reference, &self.allele.alternate).name(),
        }
    }
}

/// Rows of alleles.
#[derive(Clone, Debug, Default)]
pub struct VariantRows(pub Vec<VariantRow>);

impl VariantRows {
    fn map<T>(&self, f: impl Fn(&VariantRow) -> T) -> Vec<T> {
        self.0.iter().map(f).collect()
    }

    fn words<'a>(&'a self, word: impl Fn(&'a VariantRow) -> &'a str) -> Values {
        let (mut places, mut words) = (BTreeMap::new(), Vec::new());
        let mut code = |row: &'a VariantRow| {
            *places.entry(word(row)).or_insert_with_key(|word| {
                words.push((*word).to_string());
                words.len() as i32 - 1
            })
        };
        let codes = self.0.iter().map(&mut code).collect();
        Values::Words { codes, words }
    }
}

impl Batch for VariantRows {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self, rows: usize) -> Self {
        let rest = self.0.split_off(rows);
        Self(std::mem::replace(&mut self.0, rest))
    }

    fn group(&self, open: usize, span: u64) -> (usize, bool) {
        group_of_rows(self.len(), open, span)
    }
}

/// What a `variants` table holds besides its keys and the scores of the forward strand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VariantColumns {
    /// Rows of haplotypes: which one, and the alleles that it carries.
    pub haplotypes: bool,
    /// Scores of the reverse strand, `_rc`.
    pub reverse: bool,
    /// The means of both strands, `_avg`.
    pub mean: bool,
    /// The vectors `ref_emb` and `alt_emb`: how many numbers, and the name of their layer.
    pub embeddings: Option<(usize, String)>,
}

impl VariantColumns {
    /// The strands whose scores are written, with the suffixes of their columns.
    fn strands(&self) -> Vec<(Of, &'static str)> {
        let all = [
            (Of::Forward, "", true),
            (Of::Reverse, "_rc", self.reverse),
            (Of::Mean, "_avg", self.mean),
        ];
        let wanted = all.into_iter().filter(|(.., wanted)| *wanted);
        wanted.map(|(of, suffix, _)| (of, suffix)).collect()
    }
}

/// The columns of a `variants` table: the allele as the input has it, as it was scored, its status,
/// what was scored, and the scores.
pub fn variants(with: &VariantColumns) -> Vec<Column<VariantRows>> {
    let mut columns = of_the_input();
    columns.extend(of_the_change());
    if with.haplotypes {
        columns.extend(of_the_haplotype());
    }
    columns.extend(of_what_was_scored());
    for (of, suffix) in with.strands() {
        columns.extend(of_the_scores(of, suffix));
    }
    if let Some((dim, layer)) = &with.embeddings {
        let strands = with.strands().into_iter();
        for (of, suffix) in strands.filter(|(of, _)| *of != Of::Mean) {
            let vectors = of_the_vectors(of, suffix, *dim).into_iter();
            columns.extend(vectors.map(|column| column.of_layer(layer)));
        }
    }
    columns
}

fn of_the_input() -> Vec<Column<VariantRows>> {
    let before = |row: &VariantRow| row.allele.pos.saturating_sub(1).cast_signed();
    vec![
        Column::new(
            "record_index",
            ColumnKind::I64,
            "the record in the input, from 0",
            |rows: &VariantRows| Values::I64(rows.map(|row| row.allele.record.cast_signed())),
        ),
        Column::new(
            "alt_index",
            ColumnKind::I32,
            "the allele in its ALT, from 0",
            |rows: &VariantRows| {
                let index = |row: &VariantRow| row.allele.alternate_index;
                Values::I32(rows.map(|row| i32::try_from(index(row)).unwrap_or(i32::MAX)))
            },
        ),
        Column::new(
            "chrom",
            ColumnKind::Words,
            "CHROM as the VCF has it",
            |rows: &VariantRows| rows.words(|row| &row.allele.chrom),
        ),
        Column::new(
            "pos",
            ColumnKind::I64,
            "POS as the VCF has it, counted from 1",
            |rows: &VariantRows| Values::I64(rows.map(|row| row.allele.pos.cast_signed())),
        ),
        Column::new(
            "id",
            ColumnKind::Text,
            "ID as the VCF has it",
            |rows: &VariantRows| Values::Text(rows.map(|row| row.allele.id.clone())),
        ),
        Column::new(
            "ref",
            ColumnKind::Text,
            "REF as the VCF has it",
            |rows: &VariantRows| Values::Text(rows.map(|row| Some(row.allele.reference.clone()))),
        ),
        Column::new(
            "alt",
            ColumnKind::Text,
            "the alternate as the VCF has it",
            |rows: &VariantRows| Values::Text(rows.map(|row| Some(row.allele.alternate.clone()))),
        ),
        Column::new(
            "start",
            ColumnKind::I64,
            "the first base that REF covers, from 0",
            move |rows: &VariantRows| Values::I64(rows.map(before)),
        ),
        Column::new(
            "end",
            ColumnKind::I64,
            "one past the last base that REF covers",
            move |rows: &VariantRows| {
                let end = |row: &VariantRow| before(row) + row.allele.reference.len() as i64;
                Values::I64(rows.map(end))
            },
        ),
    ]
}

fn of_the_change() -> Vec<Column<VariantRows>> {
    let spelled =
        |row: &VariantRow, of: fn(&Spelled) -> &String| row.spelled.as_ref().map(of).cloned();
    vec![
        Column::new(
            "norm_pos",
            ColumnKind::OptionalI64,
            "POS of the change as it was scored: without bases that REF and ALT share, as far left \
             as it goes, spelled as a VCF does. Equal changes have equal scores",
            |rows: &VariantRows| {
                let pos = |row: &VariantRow| row.spelled.as_ref().map(|s| s.pos.cast_signed());
                Values::OptionalI64(rows.map(pos))
            },
        ),
        Column::new(
            "norm_ref",
            ColumnKind::Text,
            "REF of that change",
            move |rows: &VariantRows| {
                Values::Text(rows.map(|row| spelled(row, |change| &change.reference)))
            },
        ),
        Column::new(
            "norm_alt",
            ColumnKind::Text,
            "ALT of that change",
            move |rows: &VariantRows| {
                Values::Text(rows.map(|row| spelled(row, |change| &change.alternate)))
            },
        ),
        Column::new(
            "variant_id",
            ColumnKind::Text,
            "`chrom-pos-ref-alt` of the normalised change",
            |rows: &VariantRows| Values::Text(rows.map(|row| Some(row.id()))),
        ),
        Column::new(
            "type",
            ColumnKind::Words,
            "snv, mnv, ins, del, delins, same, symbolic, star, breakend, missing, other; haplotype \
             for rows of `--sample`",
            |rows: &VariantRows| rows.words(|row| row.kind()),
        ),
        Column::new(
            "status",
            ColumnKind::Words,
            "whether the allele was scored, or why not",
            |rows: &VariantRows| rows.words(|row| row.status.name()),
        ),
    ]
}

fn of_the_haplotype() -> Vec<Column<VariantRows>> {
    vec![
        Column::new(
            "haplotype",
            ColumnKind::OptionalI64,
            "of a row that joins several alleles, the haplotype's number in the genotype; these \
             rows stand after those of the input",
            |rows: &VariantRows| {
                let number = |row: &VariantRow| Some(row.allele.haplotype.as_ref()?.number.into());
                Values::OptionalI64(rows.map(number))
            },
        ),
        Column::new(
            "haplotype_alleles",
            ColumnKind::Text,
            "the alleles that it joins, as `record_index:alt_index`",
            |rows: &VariantRows| {
                let alleles =
                    |row: &VariantRow| Some(row.allele.haplotype.as_ref()?.alleles.clone());
                Values::Text(rows.map(alleles))
            },
        ),
    ]
}

fn of_what_was_scored() -> Vec<Column<VariantRows>> {
    let counts: [OfScores<u64>; 4] = [
        (
            "window_start",
            "the first base that was scored of the reference, on the forward strand, from 0",
            |scores| scores.window.start,
        ),
        (
            "window_end",
            "one past the last base that was scored of the reference",
            |scores| scores.window.end,
        ),
        ("n_ref", "how many bases `ll_ref` sums", |scores| {
            scores.n_ref.into()
        }),
        ("n_alt", "how many bases `ll_alt` sums", |scores| {
            scores.n_alt.into()
        }),
    ];
    let column = |(name, meaning, of): OfScores<u64>| {
        let fill = move |rows: &VariantRows| Values::OptionalI64(rows.map(|row| row.count(of)));
        Column::new(name, ColumnKind::OptionalI64, meaning, fill)
    };
    counts.into_iter().map(column).collect()
}

fn of_the_scores(of: Of, suffix: &str) -> Vec<Column<VariantRows>> {
    let whose = match of {
        Of::Forward => "",
        Of::Reverse => ", on the reverse strand",
        Of::Mean => ", mean of both strands",
    };
    let likelihoods: [OfScores<f64>; 2] = [
        (
            "ll_ref",
            "log-likelihood of the reference over what was scored",
            |scores| scores.ll_ref,
        ),
        (
            "ll_alt",
            "log-likelihood of the alternate haplotype over what was scored",
            |scores| scores.ll_alt,
        ),
    ];
    let mut columns = Vec::new();
    for (name, meaning, value) in likelihoods {
        let fill =
            move |rows: &VariantRows| Values::OptionalF64(rows.map(|row| row.number(of, value)));
        let name = format!("{name}{suffix}");
        let meaning = format!("{meaning}{whose}");
        columns.push(Column::new(name, ColumnKind::OptionalF64, meaning, fill).unit("nat"));
    }
    for (at, score) in SCORES.into_iter().enumerate() {
        if of == Of::Mean && !score.has_mean {
            continue;
        }
        let fill = move |rows: &VariantRows| {
            let value = |row: &VariantRow| row.number(of, |scores| scores.values[at]);
            Values::OptionalF32(rows.map(|row| value(row).map(|x| x as f32)))
        };
        let name = format!("{}{suffix}", score.name);
        let meaning = format!("{}{whose}", score.meaning);
        let mut column = Column::new(name, ColumnKind::OptionalF32, meaning, fill);
        column.unit = score.unit;
        column.primary = of == Of::Forward && ["delta_ll", "llr"].contains(&score.name);
        columns.push(column);
    }
    columns
}

fn of_the_vectors(of: Of, suffix: &str, dim: usize) -> [Column<VariantRows>; 2] {
    let strand = usize::from(of == Of::Reverse);
    let vectors: [(&str, &str, VectorOf); 2] = [
        ("ref_emb", "the reference's vector", |scores| {
            scores.ref_emb.as_ref()
        }),
        ("alt_emb", "the alternate haplotype's vector", |scores| {
            scores.alt_emb.as_ref()
        }),
    ];
    vectors.map(|(name, meaning, vector)| {
        let fill = move |rows: &VariantRows| {
            let (mut values, mut present) = (Vec::with_capacity(dim * rows.len()), Vec::new());
            for row in &rows.0 {
                let vector = row.scores[strand].as_ref().and_then(vector);
                present.push(vector.is_some());
                match vector {
                    Some(vector) => values.extend_from_slice(vector),
                    None => values.resize(values.len() + dim, 0.0),
                }
            }
            Values::OptionalF32Vectors { values, present }
        };
        let kind = ColumnKind::OptionalVector {
            element: Element::F32,
            dim,
        };
        Column::new(format!("{name}{suffix}"), kind, meaning, fill)
    })
}
