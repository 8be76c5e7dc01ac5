//! `variants`: a row for every alternate allele.

mod columns;
mod scores;

use super::{Batch, Column, Groups, fit_records};
use crate::io::table_writer::Values;
use crate::sequence::allele::{Status, Type, variant_id};
use columns::{
    of_the_change, of_the_four_bases, of_the_haplotype, of_the_info, of_the_input,
    of_the_quantiles, of_the_scores, of_the_vectors, of_what_was_scored,
};
pub use scores::{SCORES, Score, Scores};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// Fields of INFO that are carried along.
    pub info: Vec<Option<String>>,
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
    /// How each of [`SCORES`] stands among those of a background, from 0 to 1.
    pub quantiles: [Option<f32>; SCORES.len()],
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

impl Of {
    /// What a column's meaning says of it.
    fn whose(self) -> &'static str {
        match self {
            Self::Forward => "",
            Self::Reverse => ", on the reverse strand",
            Self::Mean => ", mean of both strands",
        }
    }
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

    /// Its type, as in tables.
    pub fn kind(&self) -> &'static str {
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

    fn split_off(&mut self, row: usize) -> Self {
        Self(self.0.split_off(row))
    }

    fn fit(&self, from: usize, groups: &mut Groups) -> usize {
        fit_records(
            groups,
            self.0[from..]
                .iter()
                .map(|row| row.allele.record.cast_signed()),
        )
    }
}

/// What a `variants` table holds besides its keys and the scores of the forward strand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VariantColumns {
    /// Fields of INFO that are carried along.
    pub info: Vec<String>,
    /// Rows of haplotypes: which one, and the alleles that it carries.
    pub haplotypes: bool,
    /// Scores of the reverse strand, `_rc`.
    pub reverse: bool,
    /// The means of both strands, `_avg`.
    pub mean: bool,
    /// What is said of all four bases at the site.
    pub four: bool,
    /// How scores stand among those of a background.
    pub quantiles: bool,
    /// The vectors `ref_emb` and `alt_emb`: how many numbers, and the name of their layer.
    pub embeddings: Option<(usize, String)>,
}

impl VariantColumns {
    /// Of several scores of an allele the one that says most: both strands' mean, if it is there.
    pub fn of(&self) -> Of {
        if self.mean { Of::Mean } else { Of::Forward }
    }

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
    columns.extend(of_the_info(&with.info));
    if with.haplotypes {
        columns.extend(of_the_haplotype());
    }
    columns.extend(of_what_was_scored());
    for (of, suffix) in with.strands() {
        columns.extend(of_the_scores(of, suffix));
        if with.four {
            columns.extend(of_the_four_bases(of, suffix));
        }
    }
    if with.quantiles {
        columns.extend(of_the_quantiles(with.of()));
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
