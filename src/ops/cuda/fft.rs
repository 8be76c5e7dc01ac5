//! FFTs of real signals by cuFFT, in place, many at once.

use super::{Gpu, lock};
use crate::error::{Error, Kind, Result};
use cudarc::cufft::{result, sys};
use cudarc::driver::CudaSlice;
use std::sync::{Arc, Mutex};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::ops) enum Direction {
    Forward,
    /// Not divided by the size.
    Inverse,
}

/// What a plan transforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::ops) enum Form {
    /// Values to `size / 2 + 1` complex numbers.
    Real,
    /// These back to values.
    Spectrum,
    /// `size / 2` complex numbers, either way.
    Complex,
}

/// By size, batch and form.
pub(in crate::ops) type Key = (usize, usize, Form);

/// `batch` transforms of `size` real values, each row [`stride`] values long.
pub(in crate::ops) struct Plan {
    /// Locked while its work area is set and it runs.
    handle: Mutex<sys::cufftHandle>,
    work: usize,
}

/// Values from one signal to the next: its spectrum takes its place, two values more, and the next
/// begins with one of the 32 bytes that memory is read by.
pub(in crate::ops) fn stride(size: usize) -> usize {
    size + 8
}

/// The next size, at least 64, that is four to seven times a power of two.
pub(in crate::ops) fn fast(n: usize) -> usize {
    let n = n.max(64);
    let unit = (n.div_ceil(7)).next_power_of_two();
    [(4, unit), (5, unit), (6, unit), (7, unit)]
        .into_iter()
        .map(|(times, unit)| times * unit)
        .find(|&size| size >= n)
        .unwrap_or(8 * unit)
}

impl Gpu {
    /// Transforms the rows of `signals`: values to `size / 2 + 1` complex numbers in their place,
    /// or back.
    pub(in crate::ops) fn fft(
        &self,
        signals: &mut CudaSlice<f32>,
        size: usize,
        batch: usize,
        direction: Direction,
    ) -> Result<()> {
        let form = match direction {
            Direction::Forward => Form::Real,
            Direction::Inverse => Form::Spectrum,
        };
        self.transform(signals, (size, batch, form), direction)
    }

    /// The same of values taken for `size / 2` complex numbers: even and odd ones side by side.
    /// Two passes over memory less than the spectrum of the real signal.
    pub(in crate::ops) fn complex_fft(
        &self,
        signals: &mut CudaSlice<f32>,
        size: usize,
        batch: usize,
        direction: Direction,
    ) -> Result<()> {
        self.transform(signals, (size, batch, Form::Complex), direction)
    }

    fn transform(
        &self,
        signals: &mut CudaSlice<f32>,
        key: Key,
        direction: Direction,
    ) -> Result<()> {
        let (size, batch, form) = key;
        if signals.len() < batch * stride(size) {
            return Err(Error::new(Kind::Internal, "fewer signals than FFTs"));
        }
        let known = lock(&self.plans).get(&key).cloned();
        let plan = match known {
            Some(plan) => plan,
            None => {
                let plan = Arc::new(Plan::new(self, key)?);
                lock(&self.plans).insert(key, Arc::clone(&plan));
                plan
            }
        };
        let work: CudaSlice<u8> = self.unwritten(plan.work)?;
        let at = self.address(signals);
        let handle = lock(&plan.handle);
        let exponent = match direction {
            Direction::Forward => -1,
            Direction::Inverse => 1,
        };
        self.bind()?;
        // SAFETY: `signals` holds `batch` rows of the plan's stride, checked above; `work` is as
        // large as the plan asked for, and freed on the same stream.
        unsafe {
            sys::cufftSetWorkArea(*handle, self.address(&work) as *mut _).result()?;
            match form {
                Form::Real => sys::cufftExecR2C(*handle, at as *mut _, at as *mut _),
                Form::Spectrum => sys::cufftExecC2R(*handle, at as *mut _, at as *mut _),
                Form::Complex => sys::cufftExecC2C(*handle, at as *mut _, at as *mut _, exponent),
            }
            .result()?;
        }
        Ok(())
    }
}

impl Plan {
    fn new(gpu: &Gpu, (size, batch, form): Key) -> Result<Self> {
        gpu.bind()?;
        let mut plan = Self {
            handle: Mutex::new(result::create()?),
            work: 0,
        };
        let handle = *lock(&plan.handle);
        let (real, bins) = (stride(size) as i64, stride(size) as i64 / 2);
        let (size, input, output, kind) = match form {
            Form::Real => (size, real, bins, sys::cufftType::CUFFT_R2C),
            Form::Spectrum => (size, bins, real, sys::cufftType::CUFFT_C2R),
            Form::Complex => (size / 2, bins, bins, sys::cufftType::CUFFT_C2C),
        };
        let (mut n, mut read, mut written) = (size as i64, input, output);
        // SAFETY: the handle was just created; the three numbers outlive the call, which
        // only reads them.
        unsafe {
            sys::cufftSetAutoAllocation(handle, 0).result()?;
            sys::cufftMakePlanMany64(
                handle,
                1,
                &mut n,
                &mut read,
                1,
                input,
                &mut written,
                1,
                output,
                kind,
                batch as i64,
                &mut plan.work,
            )
            .result()?;
            result::set_stream(handle, gpu.stream.cu_stream() as _)?;
        }
        Ok(plan)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed here only. An error would leave memory behind.
        let _ = unsafe { result::destroy(*lock(&self.handle)) };
    }
}
