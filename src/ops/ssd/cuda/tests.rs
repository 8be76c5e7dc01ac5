//! The scan of Mamba-2.

use super::*;
use crate::ops::cuda::testing::*;
use crate::ops::tensor::cuda::convert;
use crate::ops::{self, Device, SsdSizes, Tensor};

fn check(sizes: SsdSizes, most: usize, reversed: bool) {
    let device = Device::Cuda(Arc::clone(gpu()));
    let heads = sizes.heads;
    let parameter = |seed| tensor(&random(heads, seed), &[heads]);
    let (a_log, bias, skip) = (parameter(1), parameter(2), parameter(3));
    let mut scan = ops::Ssd::new(sizes, &a_log, &bias, &skip, (1e-3, 2.0)).unwrap();
    if reversed {
        scan = scan.reversed();
    }
    let (mut state, mut cpu_state) = (scan.start(3), scan.start(3));
    for (i, segments) in steps(most, 5).into_iter().enumerate() {
        let rows = total(&segments);
        let input = |width: usize, seed: usize| {
            let values = random(rows * width, (10 * i + seed) as u64);
            tensor(&values, &[rows, width])
        };
        let (xbc, steps) = (input(sizes.columns(), 0), input(heads, 1));
        let expected = scan
            .forward(&xbc, &steps, &mut cpu_state, &segments)
            .unwrap();
        let [xbc, steps] = [xbc, steps].map(|x| x.to_device(&device).unwrap());
        // A clone that runs on with something else leaves ours as it was.
        let mut fork = state.clone();
        scan.forward(&xbc, &steps, &mut fork, &segments).unwrap();
        // One that a file had goes on with the same bits.
        let saved = postcard::to_stdvec(&state).unwrap();
        let mut restored = postcard::from_bytes(&saved).unwrap();
        let again = scan.forward(&xbc, &steps, &mut restored, &segments);
        let found = scan.forward(&xbc, &steps, &mut state, &segments).unwrap();
        assert!(flat(&again.unwrap()) == flat(&found));
        close(
            &format!("{sizes:?} {reversed}"),
            &flat(&found),
            &flat(&expected),
            1e-5,
        );
    }
}

fn sizes(heads: usize, channels: usize, groups: usize, states: usize) -> SsdSizes {
    SsdSizes {
        heads,
        channels,
        groups,
        states,
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn scans_of_mamba_2_equal_the_cpu_s() {
    check(sizes(2, 64, 1, 128), 300, false);
    check(sizes(4, 8, 2, 20), 200, false);
    check(sizes(1, 70, 1, 16), 100, false);
    check(sizes(2, 5, 1, 150), 100, false);
    check(sizes(4, 8, 2, 20), 200, true);
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_of_scans_of_mamba_2_equal_the_cpu_s() {
    let open = (0.0, f64::INFINITY);
    for (sizes, most, limit, reversed) in [
        (sizes(2, 16, 1, 20), 200, open, false),
        (sizes(4, 3, 2, 8), 150, (0.4, 1.3), false),
        (sizes(1, 70, 1, 16), 60, open, false),
        (sizes(2, 8, 1, 5), 100, open, true),
    ] {
        let steps: Vec<_> = steps(most, 3).into_iter().take(2).collect();
        let mut inputs = Vec::new();
        for rows in steps.iter().map(|s| total(s)) {
            inputs.push(values(&[rows, sizes.columns()], 1));
            inputs.push(values(&[rows, sizes.heads], 2));
        }
        let rows = inputs.len();
        inputs.extend([3, 4, 5].map(|seed| values(&[sizes.heads], seed)));
        let op = |x: &[Tensor]| {
            let (x, weights) = x.split_at(rows);
            let scan = ops::Ssd::new(sizes, &weights[0], &weights[1], &weights[2], limit)?;
            let scan = if reversed { scan.reversed() } else { scan };
            let mut state = scan.start(3);
            let mut parts = Vec::new();
            for (x, segments) in x.chunks(2).zip(&steps) {
                parts.push(scan.forward(&x[0], &x[1], &mut state, segments)?);
            }
            Tensor::cat(&parts, 0)
        };
        let name = format!("{sizes:?} {reversed}");
        // The gradient to A is one sum over all rows, of terms of both signs.
        same_on(gpu(), &name, (&inputs, rows), 5e-5, op);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn scans_of_mamba_2_over_many_tiles_equal_the_cpu_s() {
    check(sizes(2, 4, 1, 16), 20_000, false);
}

/// Of bf16 results, relative to the largest magnitude.
const ROUNDING: f32 = 1e-2;

/// A scan in f32 and one in chunks, and the same on the CPU.
struct Forms {
    sizes: SsdSizes,
    exact: Ssd,
    chunks: Ssd,
    cpu: ops::Ssd,
}

impl Forms {
    /// `scale` of the decays' logarithms: large ones have slow and fast heads.
    fn new(sizes: SsdSizes, scale: f32, band: usize) -> Self {
        let heads = sizes.heads;
        let a_log: Vec<f32> = random(heads, 1).iter().map(|x| scale * x).collect();
        let (bias, skip, limit) = (random(heads, 2), random(heads, 3), (1e-3, 2.0));
        let rate: Vec<f32> = a_log
            .iter()
            .map(|a| -a.exp() * std::f32::consts::LOG2_E)
            .collect();
        let on_gpu = |band| Ssd::new(gpu(), sizes, [&rate, &bias, &skip], limit, band).unwrap();
        let [a_log, bias_, skip_] = [&a_log, &bias, &skip].map(|x| tensor(x, &[heads]));
        Self {
            sizes,
            exact: on_gpu(None),
            chunks: on_gpu(Some(band)),
            cpu: ops::Ssd::new(sizes, &a_log, &bias_, &skip_, (1e-3, 2.0)).unwrap(),
        }
    }

    /// x, B and C, and the time steps of so many rows.
    fn input(&self, rows: usize, seed: u64) -> [Vec<f32>; 2] {
        let [columns, heads] = [self.sizes.columns(), self.sizes.heads];
        [random(rows * columns, seed), random(rows * heads, seed + 1)]
    }
}

/// Rows of `scan`.
fn run(scan: &Ssd, state: &SsdState, input: &[Vec<f32>; 2], segments: &[Segment]) -> Vec<f32> {
    let [xbc, steps] = input.each_ref().map(|x| gpu().upload(x).unwrap());
    let out = scan.forward((&xbc).into(), &steps, state, segments);
    let out = out.unwrap();
    gpu().download(&out).unwrap()
}

fn check_chunks(sizes: SsdSizes, scale: f32, band: usize, most: usize) {
    let forms = Forms::new(sizes, scale, band);
    let state = forms.chunks.start(3).unwrap();
    let mut cpu_state = forms.cpu.start(3);
    for (i, segments) in steps(most, 5).into_iter().enumerate() {
        let rows = total(&segments);
        let input = forms.input(rows, 10 * i as u64);
        let [xbc, raw] = [(0, sizes.columns()), (1, sizes.heads)]
            .map(|(i, width): (usize, usize)| tensor(&input[i], &[rows, width]));
        let expected = forms.cpu.forward(&xbc, &raw, &mut cpu_state, &segments);
        let expected = flat(&expected.unwrap());
        // Both forms go on from the same state.
        let [fork, other] = [(); 2].map(|()| state.fork(gpu()).unwrap());
        let exact = run(&forms.exact, &fork, &input, &segments);
        let found = run(&forms.chunks, &state, &input, &segments);
        let name = format!("{sizes:?}, {band} chunks");
        close(&name, &exact, &expected, ROUNDING);
        close(&name, &found, &expected, ROUNDING);
        assert_ne!(found, exact, "{name}: not in chunks");
        // What ran on with our state's forks did not change it, nor the other way round.
        let again = run(&forms.chunks, &other, &input, &segments);
        close("a fork", &again, &found, 1e-6);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn scans_of_mamba_2_in_chunks_equal_the_cpu_s_within_bf16() {
    check_chunks(sizes(2, 64, 1, 128), 1.0, 512, 500);
    check_chunks(sizes(4, 8, 2, 24), 1.0, 2, 1000);
    // Time constants from less than a row to a hundred.
    check_chunks(sizes(4, 16, 1, 16), 5.0, 3, 1000);
}

#[test]
#[ignore = "needs a CUDA device"]
fn scans_of_mamba_2_read_what_was_rounded_as_it_is() {
    let sizes = sizes(4, 16, 2, 24);
    let forms = Forms::new(sizes, 1.0, 3);
    for (scan, rows) in [
        (&forms.chunks, 1000),
        (&forms.chunks, 20),
        (&forms.exact, 300),
    ] {
        let [xbc, steps] = forms.input(rows, 7);
        let input = [rounded(&xbc), steps];
        let expected = run(scan, &scan.start(1).unwrap(), &input, &[whole(rows)]);
        let [xbc, steps] = input.each_ref().map(|x| gpu().upload(x).unwrap());
        let xbc: CudaSlice<half::bf16> = convert(gpu(), &xbc).unwrap();
        let state = scan.start(1).unwrap();
        let found = scan.forward((&xbc).into(), &steps, &state, &[whole(rows)]);
        let found = gpu().download(&found.unwrap()).unwrap();
        close("rounded", &found, &expected, 1e-6);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn pieces_do_not_change_scans_of_mamba_2_in_chunks() {
    let sizes = sizes(2, 16, 1, 16);
    let once = Forms::new(sizes, 1.0, 512);
    let rows = 2000;
    let input = once.input(rows, 7);
    let state = once.chunks.start(1).unwrap();
    let expected = run(&once.chunks, &state, &input, &[whole(rows)]);
    // Pieces of whole chunks, of others, and of so few rows that they are scanned in f32. The first
    // differ by what cuBLAS sums in another order for fewer chunks.
    for (band, piece, bound) in [
        (1, 2000, ROUNDING / 4.0),
        (3, 640, ROUNDING / 4.0),
        (2, 300, ROUNDING),
        (2, 50, ROUNDING),
    ] {
        let forms = Forms::new(sizes, 1.0, band);
        let state = forms.chunks.start(1).unwrap();
        let mut found = Vec::new();
        for from in (0..rows).step_by(piece) {
            let len = piece.min(rows - from);
            let part =
                [(0, sizes.columns()), (1, sizes.heads)].map(|(i, width): (usize, usize)| {
                    input[i][from * width..(from + len) * width].to_vec()
                });
            found.extend(run(&forms.chunks, &state, &part, &[whole(len)]));
        }
        close(&format!("pieces of {piece}"), &found, &expected, bound);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn scans_of_mamba_2_that_do_not_suit_chunks_stay_in_f32() {
    let read = Segment {
        starts: true,
        ends: true,
        ..whole(50)
    };
    for (sizes, segments) in [
        (sizes(1, 70, 1, 16), vec![whole(300)]),
        (sizes(1, 16, 1, 20), vec![whole(300)]),
        (sizes(1, 16, 1, 16), vec![read; 5]),
    ] {
        let forms = Forms::new(sizes, 1.0, 512);
        let input = forms.input(total(&segments), 7);
        let states = [&forms.exact, &forms.chunks].map(|scan| scan.start(1).unwrap());
        let exact = run(&forms.exact, &states[0], &input, &segments);
        let found = run(&forms.chunks, &states[1], &input, &segments);
        assert_eq!(found, exact, "{sizes:?}");
    }
}
