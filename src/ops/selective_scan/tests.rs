//! The scan against its definition, in both directions and in pieces.

use super::*;
use crate::ops::Device;
use proptest::prelude::*;

const RANK: usize = 3;

/// Deterministic values between −1 and 1.
fn tensor(shape: &[usize], seed: f32) -> Tensor {
    let n = shape.iter().product::<usize>();
    let values = (0..n).map(|i| ((i as f32 + 1.0) * seed).sin()).collect();
    Tensor::from_vec::<f32>(values, shape, &Device::Cpu).unwrap()
}

struct Case {
    parameters: [Tensor; 4],
    inputs: [Tensor; 4],
}

impl Case {
    fn new(rows: usize, channels: usize, states: usize) -> Self {
        let a_log = tensor(&[channels, states], 0.37).affine(2.0, 0.0).unwrap();
        Self {
            parameters: [
                a_log,
                tensor(&[channels], 0.71),
                tensor(&[channels, RANK], 0.53),
                tensor(&[channels], 0.91),
            ],
            inputs: [
                tensor(&[rows, channels], 0.29),
                tensor(&[rows, RANK + 2 * states], 0.83),
                tensor(&[rows, channels], 0.47),
                tensor(&[rows, channels], 0.61),
            ],
        }
    }

    fn scan(&self) -> SelectiveScan {
        let [a_log, skip, weight, bias] = &self.parameters;
        SelectiveScan::new(a_log, skip, weight, bias).unwrap()
    }

    /// Rows `from..from + len` of the inputs through the scan.
    fn run(
        &self,
        scan: &SelectiveScan,
        from: usize,
        hidden: &mut ScanState,
        segments: &[Segment],
    ) -> Vec<f32> {
        let len = segments.iter().map(|s| s.len).sum();
        let [u, projected, added, gate] = self
            .inputs
            .each_ref()
            .map(|x| x.narrow(0, from, len).unwrap());
        scan.forward(&u, &projected, Some(&added), Some(&gate), hidden, segments)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    /// The definition, in f64.
    fn plain(&self, reversed: bool) -> Vec<f64> {
        let wide = |x: &Tensor| -> Vec<f64> {
            let x = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            x.into_iter().map(f64::from).collect()
        };
        let (rows, channels) = self.inputs[0].dims2().unwrap();
        let (_, states) = self.parameters[0].dims2().unwrap();
        let [a_log, skip, weight, bias] = self.parameters.each_ref().map(wide);
        let [u, projected, added, gate] = self.inputs.each_ref().map(wide);
        let width = RANK + 2 * states;
        let mut out = vec![0.0; rows * channels];
        for c in 0..channels {
            let mut h = vec![0.0; states];
            for i in 0..rows {
                let t = if reversed { rows - 1 - i } else { i };
                let row = &projected[t * width..][..width];
                let low: f64 = (0..RANK).map(|r| row[r] * weight[c * RANK + r]).sum();
                let step = (low + bias[c]).exp().ln_1p();
                let at = t * channels + c;
                let mut y = skip[c] * u[at] + added[at];
                for (n, h) in h.iter_mut().enumerate() {
                    let decay = (-a_log[c * states + n].exp() * step).exp();
                    *h = decay * *h + step * u[at] * row[RANK + n];
                    y += *h * row[RANK + states + n];
                }
                out[at] = y * gate[at] / (1.0 + (-gate[at]).exp());
            }
        }
        out
    }
}

fn segment(lane: usize, len: usize, starts: bool, ends: bool) -> Segment {
    Segment {
        lane,
        len,
        starts,
        ends,
    }
}

#[test]
fn whole_sequences_equal_a_plain_f64_loop_in_both_directions() {
    for (rows, channels, states) in [(1, 5, 16), (150, 70, 16), (70, 33, 6), (65, 32, 4)] {
        let case = Case::new(rows, channels, states);
        for scan in [case.scan(), case.scan().reversed()] {
            let whole = segment(0, rows, true, true);
            let found = case.run(&scan, 0, &mut scan.start(1), &[whole]);
            for (found, expected) in found.iter().zip(case.plain(scan.reversed)) {
                assert!((f64::from(*found) - expected).abs() < 1e-5 * expected.abs().max(1.0));
            }
        }
    }
}

proptest! {
    #[test]
    fn any_split_among_any_neighbours_gives_the_same_rows(
        cuts in prop::collection::vec(1usize..90, 1..6),
        reversed: bool,
    ) {
        let rows = cuts.iter().sum();
        let case = Case::new(rows, 40, 8);
        let scan = if reversed { case.scan().reversed() } else { case.scan() };
        let expected = case.run(&scan, 0, &mut scan.start(1), &[segment(0, rows, true, true)]);
        // Lane 0 holds what another sequence left; ours must neither see nor change it.
        let mut hidden = scan.start(2);
        case.run(&scan, 0, &mut hidden, &[segment(0, 1, true, false)]);
        let mut found = vec![0.0; expected.len()];
        let mut from = if reversed { rows } else { 0 };
        for (i, &len) in cuts.iter().enumerate() {
            from -= if reversed { len } else { 0 };
            let ours = segment(1, len, i == 0, i + 1 == cuts.len());
            found[from * 40..][..len * 40]
                .copy_from_slice(&case.run(&scan, from, &mut hidden, &[ours]));
            from += if reversed { 0 } else { len };
        }
        prop_assert_eq!(&found, &expected);
        // Packed into one step, the pieces of one sequence still follow each other.
        if !reversed {
            let pieces: Vec<_> = cuts.iter().enumerate()
                .map(|(i, &len)| segment(1, len, i == 0, i + 1 == cuts.len()))
                .collect();
            prop_assert_eq!(case.run(&scan, 0, &mut hidden, &pieces), expected);
        }
        let after = case.run(&scan, 0, &mut hidden, &[segment(0, 1, false, true)]);
        let mut fresh = scan.start(1);
        case.run(&scan, 0, &mut fresh, &[segment(0, 1, true, false)]);
        prop_assert_eq!(after, case.run(&scan, 0, &mut fresh, &[segment(0, 1, false, true)]));
    }
}
