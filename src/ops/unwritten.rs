//! Memory for results.

/// A vector of `len` values that the caller writes before anyone reads it.
///
/// Zeroing costs a pass over memory for every activation; kernels write all of their output.
pub(crate) fn unwritten<T: bytemuck::Pod>(len: usize) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity is `len`, every bit pattern is a valid T, and the kernels that call
    // this, or the file that is read, write each value before it is read.
    #[allow(clippy::uninit_vec)]
    unsafe {
        values.set_len(len);
    }
    values
}
