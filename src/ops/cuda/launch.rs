//! Launching kernels.

use super::compile::Source;
use super::{Floats, Gpu};
use crate::error::{Error, Kind, Result};
use cudarc::driver::{CudaFunction, CudaSlice, LaunchConfig, PushKernelArg, sys};

/// Threads of a block, for kernels without a reason for another number.
pub(in crate::ops) const THREADS: usize = 256;
/// Bytes of shared memory that a kernel may have without asking.
const SHARED: usize = 48 << 10;

/// A kernel and the arguments it will get, in its order.
///
/// Each argument fills words of eight bytes; CUDA reads as many bytes as the kernel declares.
pub(in crate::ops) struct Launch<'a> {
    gpu: &'a Gpu,
    function: CudaFunction,
    arguments: Vec<Vec<u64>>,
}

impl Gpu {
    /// The kernel `name` of a source file.
    pub(in crate::ops) fn kernel(&self, source: Source, name: &str) -> Result<Launch<'_>> {
        self.kernel_for(source, &[], name)
    }

    /// The same, of a source that is compiled for certain sizes: `NAME=number` each.
    pub(in crate::ops) fn kernel_for(
        &self,
        source: Source,
        sizes: &[String],
        name: &str,
    ) -> Result<Launch<'_>> {
        Ok(Launch {
            gpu: self,
            function: self.function(source, sizes, name)?,
            arguments: Vec::new(),
        })
    }

    /// Makes this thread one that works with this GPU.
    pub(in crate::ops) fn bind(&self) -> Result<()> {
        Ok(self.context.bind_to_thread()?)
    }
}

impl Launch<'_> {
    /// Values in device memory.
    pub(in crate::ops) fn array<T>(self, values: &CudaSlice<T>) -> Self {
        let address = self.gpu.address(values);
        self.address(address)
    }

    /// Values in device memory of the type that the kernel's name says.
    pub(in crate::ops) fn floats(self, values: Floats) -> Self {
        let address = values.address(self.gpu);
        self.address(address)
    }

    /// Values in device memory, or a null pointer.
    pub(in crate::ops) fn optional<T>(self, values: Option<&CudaSlice<T>>) -> Self {
        let address = values.map_or(0, |values| self.gpu.address(values));
        self.address(address)
    }

    /// A device address.
    pub(in crate::ops) fn address(mut self, address: u64) -> Self {
        self.arguments.push(vec![address]);
        self
    }

    /// An `int`.
    pub(in crate::ops) fn int(mut self, value: usize) -> Self {
        self.arguments.push(vec![value as u64]);
        self
    }

    /// An `i64`.
    pub(in crate::ops) fn long(self, value: usize) -> Self {
        self.int(value)
    }

    /// A `float`.
    pub(in crate::ops) fn float(mut self, value: f32) -> Self {
        self.arguments.push(vec![u64::from(value.to_bits())]);
        self
    }

    /// A struct of pointers first, then ints.
    pub(in crate::ops) fn structure(mut self, pointers: &[u64], ints: &[usize]) -> Self {
        let mut words = pointers.to_vec();
        words.extend(ints.chunks(2).map(|pair| {
            let high = pair.get(1).copied().unwrap_or(0) as u64;
            pair[0] as u64 & 0xffff_ffff | high << 32
        }));
        self.arguments.push(words);
        self
    }

    /// One thread for each of `count` items.
    pub(in crate::ops) fn over(self, count: usize) -> Result<()> {
        self.blocks(count.div_ceil(THREADS), THREADS, 0)
    }

    /// `blocks` of `threads` with `shared` bytes of shared memory.
    pub(in crate::ops) fn blocks(self, blocks: usize, threads: usize, shared: usize) -> Result<()> {
        if blocks == 0 {
            return Ok(());
        }
        let number = |n: usize| {
            u32::try_from(n)
                .ok()
                .filter(|&n| n <= i32::MAX as u32)
                .ok_or_else(|| Error::new(Kind::Internal, "more blocks than a kernel can have"))
        };
        let config = LaunchConfig {
            grid_dim: (number(blocks)?, 1, 1),
            block_dim: (number(threads)?, 1, 1),
            shared_mem_bytes: number(shared)?,
        };
        if shared > SHARED {
            let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            self.function.set_attribute(most, number(shared)? as i32)?;
        }
        let mut builder = self.gpu.stream.launch_builder(&self.function);
        for words in &self.arguments {
            // A kernel's argument is whatever lies at the address of the first word.
            builder.arg(&words[0]);
        }
        // SAFETY: the functions of this module pass what the kernel declares, in its order, and
        // check that arrays hold what it addresses. Arrays are freed on the same stream, after it.
        unsafe { builder.launch(config) }?;
        Ok(())
    }
}
