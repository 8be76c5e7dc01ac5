//! Matrices within slices, and their product on one thread.

/// A matrix within a slice, by its strides.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    /// From one row to the next, and from one column to the next.
    pub strides: (usize, usize),
}

impl<'a> Matrix<'a> {
    /// Row after row, `stride` values from one to the next.
    pub fn new(values: &'a [f32], [rows, columns]: [usize; 2], stride: usize) -> Self {
        Self {
            values,
            rows,
            columns,
            strides: (stride, 1),
        }
    }

    /// Rows become columns.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            strides: (self.strides.1, self.strides.0),
            ..self
        }
    }

    /// Values from the first to the last, both included.
    fn extent(&self) -> usize {
        (self.rows - 1) * self.strides.0 + (self.columns - 1) * self.strides.1 + 1
    }
}

/// `out ← keep · out + x y`, `out` row-major; with `keep` zero, `out` is not read.
pub(crate) fn multiply(out: &mut [f32], keep: f32, x: Matrix, y: Matrix) {
    let (m, n, k) = (x.rows, y.columns, x.columns);
    assert!(m > 0 && n > 0 && k > 0 && y.rows == k && out.len() == m * n);
    assert!(x.extent() <= x.values.len() && y.extent() <= y.values.len());
    // SAFETY: all three matrices are not empty and lie within their slices, checked above; `out`
    // is borrowed mutably and so overlaps neither.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            keep != 0.0,
            x.values.as_ptr(),
            x.strides.1 as isize,
            x.strides.0 as isize,
            y.values.as_ptr(),
            y.strides.1 as isize,
            y.strides.0 as isize,
            keep,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
