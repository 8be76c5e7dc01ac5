//! What a head says of a base, as far as genes are put together from it, in eleven bytes: much of a
//! genome can wait until it was learned from.

use super::{CLASSES, CODON, NONCODING, START, STOP};

/// The least that a probability counts as.
const FLOOR: f64 = 1e-4;
/// One base counts for or against a gene by this much at most.
const LIMIT: f64 = 3.0;
/// How much other classes speak against a mark than the codon position that it marks.
const ASIDE: f64 = 0.1;
/// Steps of a score, and of a mark, in a nat.
const STEPS: [f64; 2] = [127.0 / LIMIT, 25.0];

/// Of one base, its code and what is said of it.
#[derive(Clone, Copy, Default)]
pub(super) struct Evidence {
    pub code: u8,
    coding: [[i8; 3]; 2],
    starts: [u8; 2],
    stops: [u8; 2],
}

impl Evidence {
    /// Of a base whose classes have these probabilities, in the order of [`CLASSES`].
    pub fn new(code: u8, p: &[f32; CLASSES.len()]) -> Self {
        let log = |p: f64| p.max(FLOOR).ln();
        let none = log(f64::from(p[NONCODING]));
        let mut evidence = Self {
            code,
            ..Self::default()
        };
        for strand in 0..2 {
            let codon = CODON[strand];
            let mut coding = [0, 1, 2].map(|position| f64::from(p[codon + position]));
            coding[0] += f64::from(p[START[strand]]);
            coding[2] += f64::from(p[STOP[strand]]);
            evidence.coding[strand] = coding.map(|p| {
                let score = (log(p) - none).clamp(-LIMIT, LIMIT);
                (score * STEPS[0]).round() as i8
            });
            evidence.starts[strand] = (-mark(p, START[strand], codon) * STEPS[1]).round() as u8;
            evidence.stops[strand] = (-mark(p, STOP[strand], codon + 2) * STEPS[1]).round() as u8;
        }
        evidence
    }

    /// ln P(the codon position, of a strand) − ln P(noncoding), within ±[`LIMIT`].
    pub fn coding(&self, strand: usize, position: usize) -> f64 {
        f64::from(self.coding[strand][position]) / STEPS[0]
    }

    /// ln P(a gene of the strand starts here), at most 0.
    pub fn start(&self, strand: usize) -> f64 {
        -f64::from(self.starts[strand]) / STEPS[1]
    }

    /// ln P(a gene of the strand stops here), at most 0.
    pub fn stop(&self, strand: usize) -> f64 {
        -f64::from(self.stops[strand]) / STEPS[1]
    }
}

/// `ln P(mark)`, other classes than the codon position that it marks counting less.
fn mark(p: &[f32; CLASSES.len()], mark: usize, codon: usize) -> f64 {
    let [mark, codon] = [mark, codon].map(|class| f64::from(p[class]).max(FLOOR));
    (mark / (mark + codon + ASIDE * (1.0 - mark - codon))).ln()
}
