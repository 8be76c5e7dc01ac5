//! What the ops on NVIDIA GPUs share: functions over values in device memory. Each op lies beside
//! its form on the CPU, which defines what it computes.
//!
//! CUDA's libraries are opened at run time, so that the same program runs without them. Kernels
//! stand in the folders of the ops and are compiled by NVRTC for the device that is there. All work
//! of a [`Gpu`] is queued on one stream: calls return before it is done, and what is read back
//! waits for it, or on a second stream for the part of it that computes the values.
//!
//! Values are f32. Where matrix products take bf16 copies of their inputs, so do attention and
//! Mamba-2's scan; and what a product gives to a gate, a short convolution or a scan is bf16, for
//! memory binds these. All compute and sum in f32, and so are norms, FFTs and what is carried.

pub(super) mod blas;
mod compile;
mod element;
mod error;
pub(super) mod fft;
mod found;
mod kept;
pub(super) mod launch;
pub(super) mod matmul;
pub(super) mod packed;
pub(super) mod saved;
mod staging;
#[cfg(test)]
pub(super) mod testing;

pub(super) use compile::{Source, compile};
pub(super) use element::{Element, Floats, Operand, vector};
pub use found::libraries_found;
pub(super) use kept::{Carried, OnGpu};
pub use packed::Packed;
pub use saved::{Saved, Stored};

use crate::error::{Error, Kind, Result};
use crate::sequence::{Branch, Segment};
use cudarc::cublas::CudaBlas;
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, DeviceRepr,
    ValidAsZeroBits, sys,
};
use cudarc::nvrtc::Ptx;
use staging::Staging;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// One GPU: its context, the stream on which everything runs, and compiled kernels.
pub struct Gpu {
    ordinal: usize,
    name: String,
    /// Of its compute capability: 90 for 9.0.
    pub(super) capability: i32,
    rounded: bool,
    /// Bytes of memory that may be in use; `usize::MAX`: all.
    limit: AtomicUsize,
    /// Bytes that the spectra of long filters may still take in all layers.
    spectra: Arc<AtomicIsize>,
    /// How often ops were told to give up what they keep.
    pub(super) forgotten: AtomicUsize,
    context: Arc<CudaContext>,
    pub(super) stream: Arc<CudaStream>,
    /// For values that are read while other work goes on.
    copies: Arc<CudaStream>,
    staging: Staging,
    blas: CudaBlas,
    /// Opened where products take bf16.
    matmul: OnceLock<matmul::Matmul>,
    /// By source and sizes; functions by their names after them.
    modules: Mutex<HashMap<String, Arc<CudaModule>>>,
    functions: Mutex<HashMap<String, CudaFunction>>,
    plans: Mutex<HashMap<fft::Key, Arc<fft::Plan>>>,
    /// The last segments that were asked for: all layers of a step ask for the same.
    packed: Mutex<Option<Arc<Packed>>>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({}, {})", self.ordinal, self.name)
    }
}

/// Names of the GPUs of this machine, in the order of their ordinals.
///
/// # Errors
/// Of kind usage where there is no driver or no GPU.
pub fn devices() -> Result<Vec<String>> {
    error::libraries()?;
    let count = usize::try_from(CudaContext::device_count()?).unwrap_or(0);
    (0..count)
        .map(|ordinal| Ok(CudaContext::new(ordinal)?.name()?))
        .collect()
}

impl Gpu {
    /// Opens the GPU of this number, from 0. `rounded`: matrix products take their inputs in bf16.
    ///
    /// # Errors
    /// Of kind usage where the driver, a library or the GPU is missing.
    pub fn open(ordinal: usize, rounded: bool) -> Result<Arc<Self>> {
        error::libraries()?;
        let count = usize::try_from(CudaContext::device_count()?).unwrap_or(0);
        if ordinal >= count {
            return Err(Error::usage(format!(
                "no GPU {ordinal}: this machine has {count}, numbered from 0"
            ))
            .todo("choose another with --device cuda:N, or run with --device cpu"));
        }
        let context = CudaContext::new(ordinal)?;
        let (stream, copies) = (context.new_stream()?, context.new_stream()?);
        // SAFETY: all work runs on `stream`, so that no events are needed to order it, but for
        // copies, which wait for one of their own; nothing was allocated yet.
        unsafe { context.disable_event_tracking() };
        keep_freed_memory(&context)?;
        let (_, total) = context.mem_get_info()?;
        let (major, minor) = context.compute_capability()?;
        Ok(Arc::new(Self {
            ordinal,
            name: context.name()?,
            capability: 10 * major + minor,
            rounded,
            limit: AtomicUsize::new(usize::MAX),
            spectra: Arc::new(AtomicIsize::new((total / 2) as isize)),
            forgotten: AtomicUsize::new(0),
            staging: Staging::default(),
            blas: CudaBlas::new(Arc::clone(&stream))?,
            matmul: OnceLock::new(),
            context,
            stream,
            copies,
            modules: Mutex::default(),
            functions: Mutex::default(),
            plans: Mutex::default(),
            packed: Mutex::default(),
        }))
    }

    /// Its number, from 0.
    pub fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// As its maker calls it: `NVIDIA H200`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether matrix products round their inputs to bf16.
    pub fn rounded(&self) -> bool {
        self.rounded
    }

    /// Bytes of memory that are free, and in all, up to the limit. What this program freed counts
    /// as free only after [`Gpu::trim`].
    pub fn memory(&self) -> Result<(usize, usize)> {
        let (free, total) = self.context.mem_get_info()?;
        let limit = self.limit.load(Ordering::Relaxed);
        Ok(match limit {
            usize::MAX => (free, total),
            _ => (
                free.min(limit.saturating_sub(self.used()?)),
                total.min(limit),
            ),
        })
    }

    /// Lets values take `bytes` at most. The driver's own memory, and that of the libraries, comes
    /// on top: about half a gigabyte.
    /// To be called before anything runs.
    pub fn limit_memory(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
        let half = isize::try_from(bytes / 2).unwrap_or(isize::MAX);
        self.spectra.fetch_min(half, Ordering::Relaxed);
    }

    /// The most bytes that values took since [`Gpu::forget_peak`].
    pub fn peak_memory(&self) -> Result<usize> {
        self.pool_bytes(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)
    }

    /// Starts the peak anew from what is in use.
    pub fn forget_peak(&self) -> Result<()> {
        let pool = memory_pool(&self.context)?;
        let mut zero = 0u64;
        let high = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        // SAFETY: the default pool lives as long as the driver; this attribute is a u64.
        unsafe { sys::cuMemPoolSetAttribute(pool, high, (&raw mut zero).cast()) }.result()?;
        Ok(())
    }

    /// Bytes that the spectra of long filters may still take, which all layers share: half of the
    /// memory at first (HyenaDNA's large-1m keeps 34 GB), and half as much each time that memory
    /// did not suffice. Below zero: more than that is still kept.
    pub fn spectra_room(&self) -> Arc<AtomicIsize> {
        Arc::clone(&self.spectra)
    }

    /// Bytes that values take now.
    fn used(&self) -> Result<usize> {
        self.pool_bytes(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)
    }

    fn pool_bytes(&self, attribute: sys::CUmemPool_attribute) -> Result<usize> {
        let pool = memory_pool(&self.context)?;
        let mut bytes = 0u64;
        // SAFETY: the default pool lives as long as the driver; these attributes are u64.
        unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut bytes).cast()) }.result()?;
        Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Gives freed memory back to the device; until then it is kept for the next allocation.
    pub fn trim(&self) -> Result<()> {
        self.synchronize()?;
        let pool = memory_pool(&self.context)?;
        // SAFETY: the device's default pool lives as long as the driver.
        unsafe { sys::cuMemPoolTrimTo(pool, 0) }.result()?;
        Ok(())
    }

    /// Gives up what ops keep to be faster, such as spectra, too: they make it anew, for another
    /// size of step.
    pub fn forget(&self) -> Result<()> {
        let times = self.forgotten.fetch_add(1, Ordering::Relaxed);
        let room = self.memory()?.1 / 2;
        let less = room.checked_shr(times as u32 + 1).unwrap_or(0);
        self.spectra.fetch_sub(less as isize, Ordering::Relaxed);
        self.trim()
    }

    /// Waits until all queued work is done.
    ///
    /// # Errors
    /// What went wrong in work that was queued earlier.
    pub fn synchronize(&self) -> Result<()> {
        self.stream.synchronize()?;
        Ok(self.context.check_err()?)
    }

    /// A copy in device memory; does not wait for the work that was queued before.
    pub fn upload<T: DeviceRepr>(&self, values: &[T]) -> Result<CudaSlice<T>> {
        let mut out = self.unwritten(values.len())?;
        if !values.is_empty() {
            self.staging.upload(&self.stream, values, &mut out)?;
        }
        Ok(out)
    }

    /// A copy in memory; waits for the work that computes it.
    pub fn download<T: DeviceRepr>(&self, values: &CudaSlice<T>) -> Result<Vec<T>> {
        let out = match values.len() {
            0 => Vec::new(),
            _ => self.stream.clone_dtoh(values)?,
        };
        self.synchronize()?;
        Ok(out)
    }

    /// The work that was queued so far.
    pub(super) fn mark(&self) -> Result<CudaEvent> {
        Ok(self.stream.record_event(None)?)
    }

    /// As [`Gpu::download`], but waits only for the work that was queued before `computed`.
    pub(super) fn download_after<T: DeviceRepr>(
        &self,
        values: &CudaSlice<T>,
        computed: &CudaEvent,
    ) -> Result<Vec<T>> {
        self.copies.wait(computed)?;
        let out = self.copies.clone_dtoh(values)?;
        self.copies.synchronize()?;
        self.context.check_err()?;
        Ok(out)
    }

    /// Another copy in device memory.
    pub fn copy<T: DeviceRepr>(&self, values: &CudaSlice<T>) -> Result<CudaSlice<T>> {
        let mut out = self.unwritten(values.len())?;
        if !values.is_empty() {
            self.stream.memcpy_dtod(values, &mut out)?;
        }
        Ok(out)
    }

    /// Zeros in device memory.
    pub fn zeros<T: DeviceRepr + ValidAsZeroBits>(&self, len: usize) -> Result<CudaSlice<T>> {
        let mut out = self.unwritten(len)?;
        if len > 0 {
            self.stream.memset_zeros(&mut out)?;
        }
        Ok(out)
    }

    /// Device memory that the caller's kernel writes before anything reads it.
    ///
    /// # Errors
    /// Of kind memory: it does not fit the device, or the limit.
    pub(super) fn unwritten<T: DeviceRepr>(&self, len: usize) -> Result<CudaSlice<T>> {
        let limit = self.limit.load(Ordering::Relaxed);
        let bytes = len.saturating_mul(size_of::<T>());
        if limit < usize::MAX && self.used()?.saturating_add(bytes) > limit {
            return Err(Error::memory("--device-memory does not suffice")
                .todo("allow more, or give a smaller --chunk or --batch"));
        }
        // SAFETY: the kernels of this module write each value before it is read. One value at
        // least, since the driver refuses to allocate nothing.
        Ok(unsafe { self.stream.alloc(len.max(1)) }?)
    }

    /// Segments as kernels read them, kept for the next call with the same ones.
    pub fn pack(&self, segments: &[Segment]) -> Result<Arc<Packed>> {
        self.pack_branched(segments, &[])
    }

    /// The same with branches.
    pub fn pack_branched(&self, segments: &[Segment], branches: &[Branch]) -> Result<Arc<Packed>> {
        let mut last = lock(&self.packed);
        if let Some(packed) = last.as_ref().filter(|packed| packed.is(segments, branches)) {
            return Ok(Arc::clone(packed));
        }
        let packed = Arc::new(Packed::new(self, segments, branches)?);
        *last = Some(Arc::clone(&packed));
        Ok(packed)
    }

    /// A kernel by name, compiled with its file when first asked for.
    fn function(&self, source: Source, defines: &[String], name: &str) -> Result<CudaFunction> {
        let module = format!("{} {}", source.name, defines.join(" "));
        let full = format!("{module} {name}");
        if let Some(function) = lock(&self.functions).get(&full) {
            return Ok(function.clone());
        }
        let mut modules = lock(&self.modules);
        let loaded = match modules.get(&module) {
            Some(loaded) => Arc::clone(loaded),
            None => {
                let code = compile(source, defines, self.capability)?;
                let loaded = self.context.load_module(Ptx::from_binary(code))?;
                modules.insert(module, Arc::clone(&loaded));
                loaded
            }
        };
        let function = loaded.load_function(name)?;
        lock(&self.functions).insert(full, function.clone());
        Ok(function)
    }

    /// Where values begin in device memory.
    pub(super) fn address<T>(&self, values: &CudaSlice<T>) -> u64 {
        values.device_ptr(&self.stream).0
    }
}

/// The pool keeps what is freed: giving it back at each synchronisation costs a pass through the
/// driver for every activation.
fn keep_freed_memory(context: &CudaContext) -> Result<()> {
    let pool = memory_pool(context)?;
    let mut most = u64::MAX;
    // SAFETY: the default pool lives as long as the driver; this attribute is a u64.
    unsafe {
        sys::cuMemPoolSetAttribute(
            pool,
            sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut most).cast(),
        )
    }
    .result()?;
    Ok(())
}

fn memory_pool(context: &CudaContext) -> Result<sys::CUmemoryPool> {
    let mut pool = std::ptr::null_mut();
    // SAFETY: CUDA writes one handle.
    unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, context.cu_device()) }.result()?;
    Ok(pool)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks a length that the callers' own arithmetic guarantees.
pub(super) fn expect_len<T>(name: &str, values: &CudaSlice<T>, len: usize) -> Result<()> {
    if values.len() == len {
        return Ok(());
    }
    let found = values.len();
    let what = format!("{name}: {found} values on the GPU, expected {len}");
    Err(Error::new(Kind::Internal, what))
}

#[cfg(test)]
mod tests;
