//! Filters: their taps, from the CPU or from HyenaDNA's network on the device, and their spectra.

mod backward;

use super::{KERNELS, Large, mismatch};
use crate::error::Result;
use crate::ops::Taps;
use crate::ops::cuda::fft::{Direction, stride};
use crate::ops::cuda::launch::THREADS;
use crate::ops::cuda::{Gpu, Operand, blas};
use cudarc::driver::CudaSlice;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

/// Where taps come from.
pub enum FilterTaps {
    /// Computed on the CPU.
    Host(Arc<Taps>),
    /// Computed on the device.
    Network(Box<FilterNetwork>),
}

/// HyenaDNA's implicit filter, `k[c, j] = g(z_j)_c · (exp(−t_j decay_c) + shift)` with a sine
/// network g: Poli et al. 2023, arXiv:2302.10866.
pub struct FilterNetwork {
    z: CudaSlice<f32>, // (L, E)
    t: CudaSlice<f32>, // (L)
    /// Weight (F, E or F) and bias (F) of each hidden layer.
    hidden: Vec<(CudaSlice<f32>, CudaSlice<f32>)>,
    freq: CudaSlice<f32>,  // (F)
    out: CudaSlice<f32>,   // (D, F)
    decay: CudaSlice<f32>, // (D)
    shift: f32,
    length: usize,
    features: usize,
    width: usize,
}

impl FilterNetwork {
    /// `z` (L, E) and `t` (L); weight (F, E or F) and bias (F) of each hidden layer; `freq` (F);
    /// `out` (D, F); `decay` (D), not negative.
    pub fn new(
        gpu: &Gpu,
        (z, t): (&[f32], &[f32]),
        hidden: &[(Vec<f32>, Vec<f32>)],
        freq: &[f32],
        out: &[f32],
        (decay, shift): (&[f32], f32),
    ) -> Result<Self> {
        let (length, width) = (t.len(), freq.len());
        let features = z.len() / length.max(1);
        let mut inner = features;
        for (weight, bias) in hidden {
            if weight.len() != width * inner || bias.len() != width {
                return Err(mismatch("a filter layer of another shape"));
            }
            inner = width;
        }
        if z.len() != length * features || hidden.is_empty() || out.len() != decay.len() * width {
            return Err(mismatch("filter parameters of other shapes"));
        }
        Ok(Self {
            z: gpu.upload(z)?,
            t: gpu.upload(t)?,
            hidden: hidden
                .iter()
                .map(|(weight, bias)| Ok((gpu.upload(weight)?, gpu.upload(bias)?)))
                .collect::<Result<_>>()?,
            freq: gpu.upload(freq)?,
            out: gpu.upload(out)?,
            decay: gpu.upload(decay)?,
            shift,
            length,
            features,
            width,
        })
    }

    /// The last hidden layer at the first `taps` positions: (taps, F).
    fn activations(&self, gpu: &Gpu, taps: usize) -> Result<CudaSlice<f32>> {
        let rows = taps.min(self.length);
        let mut x = None;
        for layer in 0..self.hidden.len() {
            let y = self.layer(gpu, layer, x.as_ref(), rows)?;
            self.sine(gpu, layer, &y)?;
            x = Some(y);
        }
        x.ok_or_else(|| mismatch("a filter without layers"))
    }

    /// A hidden layer's product, (rows, F), of what the layer before it gave: none for the first.
    fn layer(
        &self,
        gpu: &Gpu,
        layer: usize,
        x: Option<&CudaSlice<f32>>,
        rows: usize,
    ) -> Result<CudaSlice<f32>> {
        let inner = self.inner(layer);
        let y = gpu.unwritten(rows * self.width)?;
        blas::product(
            gpu,
            Operand::new(gpu, &y, 0, self.width),
            Operand::new(gpu, x.unwrap_or(&self.z), 0, inner),
            Operand::new(gpu, &self.hidden[layer].0, 0, inner),
            [rows, inner, self.width],
        )?;
        Ok(y)
    }

    /// What follows the product, in its place.
    fn sine(&self, gpu: &Gpu, layer: usize, y: &CudaSlice<f32>) -> Result<()> {
        gpu.kernel(KERNELS, "sine")?
            .array(y)
            .array(&self.hidden[layer].1)
            .array(&self.freq)
            .long(y.len())
            .int(self.width)
            .over(y.len())
    }

    /// Columns of a hidden layer's weight.
    fn inner(&self, layer: usize) -> usize {
        if layer == 0 {
            self.features
        } else {
            self.width
        }
    }

    /// The first `n` taps of all channels, (D, n): no more than there are.
    pub fn first(&self, gpu: &Gpu, n: usize) -> Result<CudaSlice<f32>> {
        let channels = self.decay.len();
        let out = gpu.unwritten(channels * n)?;
        let activations = self.activations(gpu, n)?;
        self.taps(gpu, &out, &activations, 0..channels, n, n)?;
        Ok(out)
    }

    /// Taps of `channels`, each row `stride` values long, zeros behind.
    fn taps(
        &self,
        gpu: &Gpu,
        out: &CudaSlice<f32>,
        activations: &CudaSlice<f32>,
        channels: Range<usize>,
        taps: usize,
        stride: usize,
    ) -> Result<()> {
        let count = taps.min(self.length);
        blas::product(
            gpu,
            Operand::new(gpu, out, 0, stride),
            Operand::new(gpu, &self.out, channels.start * self.width, self.width),
            Operand::new(gpu, activations, 0, self.width),
            [channels.len(), self.width, count],
        )?;
        self.modulate(gpu, out, channels, count, stride)
    }

    /// Times the decay of `channels`, in their place; zeros behind the first `count`.
    fn modulate(
        &self,
        gpu: &Gpu,
        out: &CudaSlice<f32>,
        channels: Range<usize>,
        count: usize,
        stride: usize,
    ) -> Result<()> {
        let decay = gpu.address(&self.decay) + (channels.start * size_of::<f32>()) as u64;
        gpu.kernel(KERNELS, "modulate")?
            .array(out)
            .array(&self.t)
            .address(decay)
            .long(count)
            .long(stride)
            .float(self.shift)
            .blocks(channels.len() * stride.div_ceil(THREADS), THREADS, 0)
    }
}

/// One group of channels: size / 2 + 1 complex numbers of each, in the order that is multiplied.
type Spectrum = Arc<CudaSlice<f32>>;

/// The spectra of one layer's filters.
pub(super) struct Spectra {
    length: usize,
    taps: FilterTaps,
    /// Skip weights (C), where they are part of the filters.
    skip: Option<CudaSlice<f32>>,
    /// Bytes that more may take, those of other layers too.
    room: Arc<AtomicIsize>,
    /// By taps and size: all groups of channels.
    kept: HashMap<(usize, usize), Vec<Spectrum>>,
    /// The GPU's count when the kept ones were computed: they are let go when it has changed.
    forgotten: usize,
}

/// The spectra of one size, group by group: kept ones, or computed as they are taken.
pub(super) struct Groups<'a> {
    spectra: &'a mut Spectra,
    key: (usize, usize),
    /// Those known already, or computed so far if they shall be kept.
    groups: Vec<Spectrum>,
    next: usize,
    /// Bytes of the budget that they take if they shall be kept.
    keep: Option<isize>,
    /// The network's last hidden layer, the same for all channels.
    activations: Option<CudaSlice<f32>>,
}

impl Spectra {
    pub(super) fn new(
        length: usize,
        (taps, skip): (FilterTaps, Option<CudaSlice<f32>>),
        room: Arc<AtomicIsize>,
    ) -> Self {
        Self {
            length,
            taps,
            skip,
            room,
            kept: HashMap::new(),
            forgotten: 0,
        }
    }

    /// The spectra of the first `taps` taps for an FFT of `size`, for `channels` in groups.
    pub(super) fn of(
        &mut self,
        gpu: &Gpu,
        channels: usize,
        group: usize,
        taps: usize,
        size: usize,
    ) -> Result<Groups<'_>> {
        let forgotten = gpu.forgotten.load(Ordering::Relaxed);
        if forgotten != self.forgotten {
            self.forgotten = forgotten;
            self.let_go();
        }
        let key = (taps.min(self.length), size);
        let groups = self.kept.get(&key).cloned().unwrap_or_default();
        let bytes = (channels * stride(size) * size_of::<f32>()) as isize;
        let fits = bytes <= self.room.load(Ordering::Relaxed);
        let keep = (groups.is_empty() && fits).then_some(bytes);
        debug_assert!(groups.is_empty() || groups.len() == channels.div_ceil(group));
        let activations = match &self.taps {
            FilterTaps::Network(network) if groups.is_empty() => {
                Some(network.activations(gpu, key.0)?)
            }
            _ => None,
        };
        Ok(Groups {
            spectra: self,
            key,
            groups,
            next: 0,
            keep,
            activations,
        })
    }

    fn let_go(&mut self) {
        let spectra = self.kept.drain().flat_map(|(_, groups)| groups);
        let values: usize = spectra.map(|group| group.len()).sum();
        self.room
            .fetch_add((values * size_of::<f32>()) as isize, Ordering::Relaxed);
    }
}

impl Drop for Spectra {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Groups<'_> {
    /// The next group: `count` channels from `first` on.
    pub(super) fn take(&mut self, gpu: &Gpu, first: usize, count: usize) -> Result<Spectrum> {
        self.next += 1;
        if let Some(known) = self.groups.get(self.next - 1) {
            return Ok(Arc::clone(known));
        }
        let spectrum = Arc::new(self.compute(gpu, first..first + count)?);
        if self.keep.is_some() {
            self.groups.push(Arc::clone(&spectrum));
        }
        Ok(spectrum)
    }

    /// After the last group: those that shall be kept are.
    pub(super) fn keep(self) {
        let Some(bytes) = self.keep else { return };
        self.spectra.room.fetch_sub(bytes, Ordering::Relaxed);
        self.spectra.kept.insert(self.key, self.groups);
    }

    fn compute(&self, gpu: &Gpu, channels: Range<usize>) -> Result<CudaSlice<f32>> {
        let ((taps, size), count, first) = (self.key, channels.len(), channels.start);
        let stride = stride(size);
        let mut out: CudaSlice<f32> = gpu.unwritten(count * stride)?;
        match (&self.spectra.taps, &self.activations) {
            (FilterTaps::Host(values), _) => {
                let values = values(taps)(channels);
                if values.len() != count * taps {
                    return Err(mismatch("a filter of other taps"));
                }
                gpu.kernel(KERNELS, "place_taps")?
                    .array(&out)
                    .array(&gpu.upload(&values)?)
                    .long(taps)
                    .long(taps)
                    .long(stride)
                    .blocks(count * stride.div_ceil(THREADS), THREADS, 0)?;
            }
            (FilterTaps::Network(network), Some(activations)) => {
                network.taps(gpu, &out, activations, channels, taps, stride)?;
            }
            (FilterTaps::Network(_), None) => return Err(mismatch("no activations")),
        }
        if let Some(skip) = &self.spectra.skip {
            let skip = gpu.address(skip) + (first * size_of::<f32>()) as u64;
            gpu.kernel(KERNELS, "add_skip")?
                .array(&out)
                .address(skip)
                .long(count)
                .long(stride)
                .over(count)?;
        }
        match Large::new(gpu, size) {
            Some(large) => large.filters(gpu, &out, count)?,
            None => gpu.fft(&mut out, size, count, Direction::Forward)?,
        }
        Ok(out)
    }
}
