//! Products of bfloat16 by Intel's tiles (AMX, from Sapphire Rapids on), which multiply eight times as
//! much in a cycle as its vectors do. Intel, Architecture Instruction Set Extensions Programming
//! Reference, chapter 3.
//!
//! A tile has 16 rows of 64 bytes. Of the inputs that is 16 rows of 32 values; of the weight 16 pairs
//! of k for 16 columns, as a panel has them; of the product 16 rows and 16 columns of f32. Two tiles of
//! rows times two of columns are summed at once, in four tiles, over all k.
//!
//! Rust has no stable functions for them yet, so they are written as instructions.

use super::{LANES, Packed, VECTORS};
use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, __get_cpuid_max};
use std::sync::LazyLock;

/// Rows and columns of a tile.
const SIDE: usize = 16;
/// Rows and columns that are computed together.
pub const ROWS: usize = 2 * SIDE;
const COLUMNS: usize = 2 * SIDE;

/// Whether the processor has tiles, and the system lets this process use them.
pub fn available() -> bool {
    static AVAILABLE: LazyLock<bool> = LazyLock::new(|| has_tiles() && permitted());
    *AVAILABLE
}

fn has_tiles() -> bool {
    /// AMX-BF16 and AMX-TILE.
    const TILES: u32 = 1 << 22 | 1 << 24;
    let (last, _) = __get_cpuid_max(0);
    last >= 7 && __cpuid_count(7, 0).edx & TILES == TILES
}

/// Asks Linux to keep tiles for this process: each of its threads takes 8 kB more then.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const REQUEST_PERMISSION: libc::c_int = 0x1023;
    const TILE_DATA: libc::c_ulong = 18;
    // SAFETY: this call of arch_prctl reads and writes no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The products of a block of rounded rows, whose number is filled up to whole tiles, by tiles.
pub fn multiply(weight: &Packed, out: &mut [f32], x: &[u32], rows: usize) {
    let (width, halves) = (weight.width, weight.halves);
    assert!(x.len() >= rows.next_multiple_of(ROWS) * halves && out.len() == rows * width);
    if halves == 0 {
        return out.fill(0.0);
    }
    let tiles = Tiles::new();
    // Of tiles that are not whole.
    let mut some = [0f32; ROWS * COLUMNS];
    let mut panels = &weight.pairs[..];
    for first in (0..width).step_by(LANES * VECTORS) {
        let vectors = (width - first).min(LANES * VECTORS).div_ceil(LANES);
        let (panel, rest) = panels.split_at(vectors * LANES * halves);
        panels = rest;
        for row in (0..rows).step_by(ROWS) {
            let x = [row, row + SIDE].map(|row| x[row * halves..].as_ptr());
            for vector in (0..vectors).step_by(2) {
                // Where there is no second one the first is computed again.
                let weight = [vector, (vector + 1).min(vectors - 1)];
                let weight = weight.map(|vector| panel[vector * LANES..].as_ptr());
                let column = first + vector * LANES;
                let (height, columns) = (ROWS.min(rows - row), COLUMNS.min(width - column));
                let whole = height == ROWS && columns == COLUMNS;
                let to = &mut out[row * width + column..];
                let (target, stride) = if whole {
                    (to.as_mut_ptr(), width)
                } else {
                    (some.as_mut_ptr(), COLUMNS)
                };
                // SAFETY: `target` has 32 rows and columns, `x` as many rows of `halves` pairs,
                // and the panel that many pairs of its columns; all are whole tiles.
                unsafe {
                    tiles.multiply(&Sums {
                        x,
                        x_stride: 4 * halves,
                        weight,
                        weight_stride: 4 * LANES * vectors,
                        count: halves / LANES,
                        out: [target, target.wrapping_add(SIDE * stride)],
                        out_stride: 4 * stride,
                    });
                }
                if !whole {
                    let rows = to.chunks_mut(width).zip(some.chunks_exact(COLUMNS));
                    for (to, from) in rows.take(height) {
                        to[..columns].copy_from_slice(&from[..columns]);
                    }
                }
            }
        }
    }
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row, and rows, of each tile.
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// Tiles of this thread, all of the same shape, until it is dropped.
struct Tiles(());

impl Tiles {
    /// Only where they are [`available`].
    fn new() -> Self {
        assert!(available());
        let mut shapes = Shapes {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes: [0; 16],
            rows: [0; 16],
        };
        shapes.bytes[..8].fill(64);
        shapes.rows[..8].fill(SIDE as u8);
        // SAFETY: the instruction is there, and reads 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
        Self(())
    }

    /// Writes two tiles of rows and two of columns at `out`, as [`Sums`] says.
    ///
    /// # Safety
    /// All that [`Sums`] names lies within its slices.
    unsafe fn multiply(&self, sums: &Sums) {
        let [above, below] = sums.x;
        let [left, right] = sums.weight;
        let [top, bottom] = sums.out;
        // SAFETY: the caller's; tiles are set up, and nothing but this asks for their registers.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{above} + {x_stride}*1]",
                "tileloadd tmm6, [{left} + {weight_stride}*1]",
                "tileloadd tmm7, [{right} + {weight_stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{below} + {x_stride}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {above}, 64",
                "add {below}, 64",
                "add {left}, {down}",
                "add {right}, {down}",
                "dec {count}",
                "jnz 2b",
                "tilestored [{top} + {out_stride}*1], tmm0",
                "tilestored [{top} + {out_stride}*1 + 64], tmm1",
                "tilestored [{bottom} + {out_stride}*1], tmm2",
                "tilestored [{bottom} + {out_stride}*1 + 64], tmm3",
                above = inout(reg) above => _,
                below = inout(reg) below => _,
                left = inout(reg) left => _,
                right = inout(reg) right => _,
                count = inout(reg) sums.count => _,
                down = in(reg) SIDE * sums.weight_stride,
                x_stride = in(reg) sums.x_stride,
                weight_stride = in(reg) sums.weight_stride,
                out_stride = in(reg) sums.out_stride,
                top = in(reg) top,
                bottom = in(reg) bottom,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the instruction is there.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }
}

/// Four tiles of a product; strides are in bytes.
struct Sums {
    /// Two tiles of 16 rows.
    x: [*const u32; 2],
    x_stride: usize,
    /// Two tiles of 16 columns.
    weight: [*const u32; 2],
    weight_stride: usize,
    /// Tiles along k, at least one.
    count: usize,
    /// Where the first column of each tile of rows goes; the second tile of columns follows it.
    out: [*mut f32; 2],
    out_stride: usize,
}
