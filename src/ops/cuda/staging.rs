//! Uploads that do not wait for the device.
//!
//! A copy from ordinary memory of more than 64 kB waits until all that was queued before it is done
//! (CUDA Driver API, "API synchronization behavior"). From memory that is pinned the device copies
//! when it comes to it, and meanwhile the caller goes on.

use super::lock;
use crate::error::Result;
use cudarc::driver::{
    CudaContext, CudaEvent, CudaSlice, CudaStream, DevicePtrMut, DeviceRepr, DriverError, result,
    sys,
};
use std::ffi::c_void;
use std::sync::{Arc, Mutex};

/// Bytes of the copies that are staged. Larger ones are weights, which nothing waits for.
const STAGED: std::ops::RangeInclusive<usize> = (1 << 16)..=(1 << 26);
/// Bytes of all buffers.
const MOST: usize = 1 << 28;

/// Pinned buffers, each of which is used again when its last copy is done.
///
/// Memory: 256 MiB at most.
#[derive(Default)]
pub struct Staging(Mutex<Vec<Buffer>>);

/// Pinned memory.
struct Buffer {
    context: Arc<CudaContext>,
    bytes: *mut c_void,
    size: usize,
    copied: CudaEvent,
}

// SAFETY: the memory is this value's alone, and may be used and freed by any thread.
unsafe impl Send for Buffer {}

impl Staging {
    /// Queues the copy of `values` to `out`, which has as many.
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn upload<T: DeviceRepr>(
        &self,
        stream: &Arc<CudaStream>,
        values: &[T],
        out: &mut CudaSlice<T>,
    ) -> Result<()> {
        let bytes = size_of_val(values);
        if !STAGED.contains(&bytes) {
            return Ok(stream.memcpy_htod(values, out)?);
        }
        let mut buffers = lock(&self.0);
        let Some(at) = place(&mut buffers, stream.context(), bytes)? else {
            // Others need not wait for this copy too.
            drop(buffers);
            return Ok(stream.memcpy_htod(values, out)?);
        };
        let buffer = &buffers[at];
        let (to, _written) = out.device_ptr_mut(stream);
        // SAFETY: the buffer has room for so many bytes, no copy from it is under way, and it is
        // neither written nor freed before this one is done, which `copied` tells.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr().cast(), buffer.bytes, bytes);
            let staged = std::slice::from_raw_parts(buffer.bytes.cast::<u8>(), bytes);
            result::memcpy_htod_async(to, staged, stream.cu_stream())?;
        }
        Ok(buffer.copied.record(stream)?)
    }
}

/// The smallest buffer that is free and large enough, made if there is none; nothing if there is no
/// room for it.
fn place(
    buffers: &mut Vec<Buffer>,
    context: &Arc<CudaContext>,
    bytes: usize,
) -> Result<Option<usize>> {
    context.bind_to_thread()?;
    let free = |&at: &usize| buffers[at].size >= bytes && buffers[at].copied.is_complete();
    let found = (0..buffers.len())
        .filter(free)
        .min_by_key(|&at| buffers[at].size);
    if found.is_some() {
        return Ok(found);
    }
    let size = bytes.next_power_of_two();
    let held: usize = buffers.iter().map(|buffer| buffer.size).sum();
    if held + size > MOST {
        return Ok(None);
    }
    // Pinned memory may be scarce where other memory is not.
    let Ok(made) = Buffer::new(context, size) else {
        return Ok(None);
    };
    buffers.push(made);
    Ok(Some(buffers.len() - 1))
}

impl Buffer {
    fn new(context: &Arc<CudaContext>, size: usize) -> Result<Self, DriverError> {
        let copied = context.new_event(None)?;
        // SAFETY: the memory is written before it is read.
        let bytes = unsafe { result::malloc_host(size, sys::CU_MEMHOSTALLOC_WRITECOMBINED) }?;
        let context = Arc::clone(context);
        Ok(Self {
            context,
            bytes,
            size,
            copied,
        })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let waited = self.context.bind_to_thread().and(self.copied.synchronize());
        // SAFETY: it came from `malloc_host`, and no copy from it is under way, or ever will be.
        let freed = waited.and_then(|()| unsafe { result::free_host(self.bytes) });
        self.context.record_err(freed);
    }
}
