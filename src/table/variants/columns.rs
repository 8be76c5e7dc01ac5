//! The columns, by what they are of.

use super::super::{Batch, Column};
use super::scores::{SCORES, Score, Scores};
use super::{Of, Spelled, VariantRow, VariantRows};
use crate::io::table_writer::{ColumnKind, Values};
use crate::io::vector::Element;
use crate::sequence::LETTERS;

/// A column's name and meaning, and its value.
type OfScores<T> = (&'static str, &'static str, fn(&Scores) -> T);
/// A vector of the scores.
type VectorOf = fn(&Scores) -> Option<&Vec<f32>>;

pub(super) fn of_the_input() -> Vec<Column<VariantRows>> {
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

pub(super) fn of_the_change() -> Vec<Column<VariantRows>> {
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

pub(super) fn of_the_haplotype() -> Vec<Column<VariantRows>> {
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

/// Fields of INFO.
pub(super) fn of_the_info(names: &[String]) -> Vec<Column<VariantRows>> {
    let column = |(at, name): (usize, &String)| {
        let value = move |row: &VariantRow| row.allele.info.get(at).cloned().flatten();
        Column::new(
            format!("info_{name}"),
            ColumnKind::Text,
            format!("{name} in INFO, of this allele if it has a value for each"),
            move |rows: &VariantRows| Values::Text(rows.map(value)),
        )
    };
    names.iter().enumerate().map(column).collect()
}

pub(super) fn of_what_was_scored() -> Vec<Column<VariantRows>> {
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

pub(super) fn of_the_scores(of: Of, suffix: &str) -> Vec<Column<VariantRows>> {
    let whose = of.whose();
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

/// What is said of all four bases at the site of a single change.
pub(super) fn of_the_four_bases(of: Of, suffix: &str) -> Vec<Column<VariantRows>> {
    let column = |name: String, meaning: String, number: fn(&[f64; 4], usize) -> f64, at| {
        let fill = move |rows: &VariantRows| {
            let value = |scores: &Scores| scores.four.map_or(f64::NAN, |four| number(&four, at));
            let value = |row: &VariantRow| row.number(of, value).map(|x| x as f32);
            Values::OptionalF32(rows.map(value))
        };
        let meaning = format!("{meaning}{}", of.whose());
        let name = format!("site_{name}{suffix}");
        Column::new(name, ColumnKind::OptionalF32, meaning, fill).unit("nat")
    };
    let mut columns = Vec::new();
    for (at, letter) in LETTERS.into_iter().take(4).enumerate() {
        let meaning = format!(
            "log P({letter}) at the site given the bases before and after it, of the four bases"
        );
        columns.push(column(
            format!("logp_{letter}"),
            meaning,
            |four, at| four[at],
            at,
        ));
    }
    let entropy = |four: &[f64; 4], _| four.iter().map(|logp| -logp.exp() * logp).sum();
    let meaning = "entropy of these four".to_string();
    columns.push(column("entropy".to_string(), meaning, entropy, 0));
    columns
}

/// How scores stand among those of a background.
pub(super) fn of_the_quantiles(of: Of) -> Vec<Column<VariantRows>> {
    let suffix = if of == Of::Mean { "_avg" } else { "" };
    let scores = SCORES.into_iter().enumerate();
    let column = |(at, score): (usize, Score)| {
        let name = format!("{}{suffix}", score.name);
        Column::new(
            format!("{name}_quantile"),
            ColumnKind::OptionalF32,
            format!("the part of the background of the same type whose {name} is lower"),
            move |rows: &VariantRows| Values::OptionalF32(rows.map(|row| row.quantiles[at])),
        )
    };
    scores
        .filter(|(_, score)| score.has_mean)
        .map(column)
        .collect()
}

pub(super) fn of_the_vectors(of: Of, suffix: &str, dim: usize) -> [Column<VariantRows>; 2] {
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
