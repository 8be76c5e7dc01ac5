//! How a score stands among those of other variants of the same type.

use super::Ledger;
use crate::error::Result;
use crate::table::{Of, SCORES, VariantRow};
use std::collections::BTreeMap;

/// Variants of a type that are kept at most; of more, every second, fourth, … in their order.
const KEPT: usize = 1 << 17;

/// One number for each of [`SCORES`]; NaN for one that does not exist.
type Numbers = [f32; SCORES.len()];

/// Scores of background variants, by type.
///
/// Memory: at most 6.3 MB a type, of which there are five. Of more than 131,072 variants of a type
/// as many are taken evenly, which moves a quantile by about 0.001.
pub struct Background {
    /// The strand whose scores are compared, or both's mean.
    of: Of,
    types: BTreeMap<String, OfType>,
}

#[derive(Default)]
struct OfType {
    seen: u64,
    /// Of so many variants one is kept.
    each: u64,
    kept: Vec<Numbers>,
    /// Those that exist of each score, in order.
    sorted: [Vec<f32>; SCORES.len()],
}

impl Background {
    /// No variants yet; of this strand's scores.
    pub fn new(of: Of) -> Self {
        Self {
            of,
            types: BTreeMap::new(),
        }
    }

    /// The background variants of a ledger that was scored.
    ///
    /// # Errors
    /// Io.
    pub fn scored(of: Of, ledger: &Ledger) -> Result<Self> {
        let mut background = Self::new(of);
        for i in ledger.background() {
            let row = ledger.row(i)?;
            background.add(row.kind(), &background.numbers(&row));
        }
        background.sort();
        Ok(background)
    }

    /// Adds a variant of a type; one without any score counts for nothing.
    pub fn add(&mut self, kind: &str, numbers: &Numbers) {
        if numbers.iter().all(|number| number.is_nan()) {
            return;
        }
        if !self.types.contains_key(kind) {
            self.types.insert(kind.to_string(), OfType::default());
        }
        if let Some(found) = self.types.get_mut(kind) {
            found.add(numbers);
        }
    }

    /// Makes quantiles known, when all variants are in.
    pub fn sort(&mut self) {
        for of_type in self.types.values_mut() {
            let kept = std::mem::take(&mut of_type.kept);
            for (at, sorted) in of_type.sorted.iter_mut().enumerate() {
                let known = kept.iter().map(|numbers| numbers[at]);
                *sorted = known.filter(|number| !number.is_nan()).collect();
                sorted.sort_unstable_by(f32::total_cmp);
            }
        }
    }

    /// How many variants of each type there are.
    pub fn counts(&self) -> BTreeMap<&str, u64> {
        let counts = self.types.iter();
        counts.map(|(kind, of)| (kind.as_str(), of.seen)).collect()
    }

    /// Fills in a row's quantiles: the part of the background of its type whose score is lower,
    /// with half of those that are equal.
    pub fn place(&self, row: &mut VariantRow) {
        let Some(of_type) = self.types.get(row.kind()) else {
            return;
        };
        let numbers = self.numbers(row);
        for (at, quantile) in row.quantiles.iter_mut().enumerate() {
            let (sorted, value) = (&of_type.sorted[at], numbers[at]);
            if !value.is_nan() && !sorted.is_empty() {
                let lower = sorted.partition_point(|known| *known < value);
                let up_to = sorted.partition_point(|known| *known <= value);
                *quantile = Some(((lower + up_to) as f64 / 2.0 / sorted.len() as f64) as f32);
            }
        }
    }

    fn numbers(&self, row: &VariantRow) -> Numbers {
        std::array::from_fn(|at| {
            let number = row.number(self.of, |scores| scores.values[at]);
            number.map_or(f32::NAN, |number| number as f32)
        })
    }
}

impl OfType {
    fn add(&mut self, numbers: &Numbers) {
        self.each = self.each.max(1);
        if self.seen.is_multiple_of(self.each) {
            if self.kept.len() == KEPT {
                let mut place = 0;
                self.kept.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
                self.each *= 2;
            }
            if self.seen.is_multiple_of(self.each) {
                self.kept.push(*numbers);
            }
        }
        self.seen += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(of: &str, delta: f64) -> VariantRow {
        let alternate = if of == "snv" { "C" } else { "AC" };
        let mut scores = crate::table::Scores {
            values: [f64::NAN; SCORES.len()],
            ..crate::table::Scores::default()
        };
        scores.values[0] = delta;
        VariantRow {
            allele: crate::table::Allele {
                record: 0,
                alternate_index: 0,
                chrom: "c".to_string(),
                pos: 5,
                id: None,
                reference: "A".to_string(),
                alternate: alternate.to_string(),
                info: Vec::new(),
                haplotype: None,
            },
            spelled: None,
            status: crate::sequence::allele::Status::Ok,
            scores: [Some(scores), None],
            quantiles: [None; SCORES.len()],
        }
    }

    fn numbers(delta: f32) -> Numbers {
        let mut numbers = [f32::NAN; SCORES.len()];
        numbers[0] = delta;
        numbers
    }

    fn quantile(background: &Background, of: &str, delta: f64) -> Option<f32> {
        let mut row = row(of, delta);
        background.place(&mut row);
        assert!(row.quantiles[1..].iter().all(Option::is_none));
        row.quantiles[0]
    }

    #[test]
    fn a_quantile_is_the_part_of_the_type_that_is_lower() {
        let mut background = Background::new(Of::Forward);
        for delta in [3.0, 1.0, 2.0, 2.0] {
            background.add("snv", &numbers(delta));
        }
        background.add("ins", &numbers(-50.0));
        background.add("snv", &[f32::NAN; SCORES.len()]);
        background.sort();
        for (delta, expected) in [
            (0.0, 0.0),
            (1.0, 0.125),
            (2.0, 0.5),
            (2.5, 0.75),
            (9.0, 1.0),
        ] {
            assert_eq!(quantile(&background, "snv", delta), Some(expected));
        }
        assert_eq!(quantile(&background, "ins", -50.0), Some(0.5));
        assert_eq!(quantile(&background, "snv", f64::NAN), None);
        assert_eq!(
            background.counts(),
            BTreeMap::from([("ins", 1), ("snv", 4)])
        );
        assert_eq!(quantile(&Background::new(Of::Forward), "snv", 1.0), None);
    }

    #[test]
    fn of_very_many_variants_as_many_are_kept_evenly() {
        let mut background = Background::new(Of::Forward);
        let n = 3 * KEPT as u64;
        for i in 0..n {
            background.add("snv", &numbers((i.wrapping_mul(0x9e37_79b9) % n) as f32));
        }
        let of_type = &background.types["snv"];
        assert!(of_type.kept.len() <= KEPT && of_type.kept.len() > KEPT / 2);
        assert_eq!(of_type.seen, n);
        background.sort();
        for part in [0.1, 0.5, 0.9] {
            let found = quantile(&background, "snv", n as f64 * part).unwrap();
            assert!((f64::from(found) - part).abs() < 0.01, "{found}");
        }
    }
}
