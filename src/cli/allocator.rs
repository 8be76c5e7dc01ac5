//! Memory for everything.

use crate::error::Kind;
use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator; when it has no memory left, the process ends with exit code 137, on
/// which schedulers retry with more memory, instead of an abort.
///
/// Large blocks begin at a cache line. The system's begin 16 bytes behind one, where each vector of
/// 64 bytes takes two lines: a convolution of 128 taps then took 2.6 times as long.
pub struct Allocator;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes from which on a block is large.
const LARGE: usize = 1 << 14;

// SAFETY: every call goes to the system's allocator, for a small block with the caller's arguments,
// for a large one with a line more. The block then begins at the first line behind the system's
// beginning; the byte before it says how far behind, so that it is found again.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller of this function promises.
        unsafe { placed(System.alloc(asked(layout)), layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller of this function promises. The byte that is written is no part of
        // the block.
        unsafe { placed(System.alloc_zeroed(asked(layout)), layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller of this function promises: with the alignment, `size` does not
        // overflow.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let kept = size.min(layout.size());
        match (is_large(layout), is_large(new)) {
            // SAFETY: as above.
            (false, false) => unsafe { or_exit(System.realloc(block, layout, size), size) },
            // SAFETY: as above. What the block held has moved with the system's beginning, and is
            // moved to the new line before the byte that may lie within it is written.
            (true, true) => unsafe {
                let before = behind(block, layout);
                let from = System.realloc(block.sub(before), asked(layout), asked(new).size());
                let from = or_exit(from, size);
                if before != to_line(from) {
                    from.add(to_line(from)).copy_from(from.add(before), kept);
                }
                placed(from, new)
            },
            // SAFETY: as above; the blocks are apart.
            _ => unsafe {
                let at = self.alloc(new);
                at.copy_from_nonoverlapping(block, kept);
                self.dealloc(block, layout);
                at
            },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller of this function promises.
        unsafe { System.dealloc(block.sub(behind(block, layout)), asked(layout)) }
    }
}

/// Whether the block is placed at a line; one that must begin at a page is left to the system.
fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE && layout.align() <= LINE
}

/// What the system is asked for.
fn asked(layout: Layout) -> Layout {
    let more = if is_large(layout) { LINE } else { 0 };
    // Beyond what there can be, the system finds no memory for it.
    let size = layout.size().saturating_add(more);
    Layout::from_size_align(size, layout.align()).unwrap_or(layout)
}

/// Where in the system's block the caller's begins.
///
/// # Safety
/// The system's block was asked for as above.
unsafe fn placed(block: *mut u8, layout: Layout) -> *mut u8 {
    let block = or_exit(block, layout.size());
    if !is_large(layout) {
        return block;
    }
    // SAFETY: the block has a line more than the caller asked for, and the way is from 1 byte to that.
    unsafe {
        let at = block.add(to_line(block));
        at.sub(1).write(to_line(block) as u8);
        at
    }
}

/// Bytes to the first line behind the beginning of the system's block.
fn to_line(block: *mut u8) -> usize {
    LINE - block.addr() % LINE
}

/// How far behind the system's beginning the block begins.
///
/// # Safety
/// The block was placed as above.
unsafe fn behind(block: *mut u8, layout: Layout) -> usize {
    if is_large(layout) {
        // SAFETY: written when it was placed.
        unsafe { usize::from(block.sub(1).read()) }
    } else {
        0
    }
}

fn or_exit(block: *mut u8, size: usize) -> *mut u8 {
    if block.is_null() && size > 0 {
        let message = b"crocuta: error: out of memory: give it more, or a smaller --chunk\n";
        // SAFETY: writes a static message; nothing here allocates.
        unsafe {
            libc::write(2, message.as_ptr().cast(), message.len());
            libc::_exit(i32::from(Kind::Memory as u8));
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of a block.
    ///
    /// # Safety
    /// It has them, and they were written.
    unsafe fn bytes<'a>(block: *mut u8, len: usize) -> &'a mut [u8] {
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(block, len) }
    }

    #[test]
    fn a_block_keeps_what_it_holds_however_it_grows_and_shrinks() {
        let sizes = [10, 5000, LARGE, 3 * LARGE, 1 << 18, LARGE + 1, LARGE - 1, 9];
        for align in [1, 4, 16, LINE] {
            let layout = |size| Layout::from_size_align(size, align).unwrap();
            for others in 0..9 {
                let mut kept = Vec::new();
                // SAFETY: blocks are used within their sizes and given back with their layouts.
                unsafe {
                    let mut block = Allocator.alloc_zeroed(layout(sizes[0]));
                    for pair in sizes.windows(2) {
                        for (i, x) in bytes(block, pair[0]).iter_mut().enumerate() {
                            *x = (i % 251) as u8;
                        }
                        // Another block in the way, so that the system's beginnings differ.
                        kept.push(vec![1u8; 1000 + 16 * others]);
                        block = Allocator.realloc(block, layout(pair[0]), pair[1]);
                        let least = if pair[1] >= LARGE { LINE } else { align };
                        assert_eq!(block.addr() % least, 0, "{pair:?}");
                        let held = bytes(block, pair[0].min(pair[1])).iter().enumerate();
                        assert!(
                            held.into_iter().all(|(i, x)| *x == (i % 251) as u8),
                            "{pair:?}"
                        );
                        bytes(block, pair[1]).fill(0);
                    }
                    Allocator.dealloc(block, layout(9));
                }
            }
        }
    }

    #[test]
    fn zeroed_blocks_are_zeros_and_pages_begin_where_they_must() {
        for (size, align) in [(100, 8), (LARGE, 4), (1 << 20, LINE), (1 << 16, 4096)] {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: as above.
            unsafe {
                let block = Allocator.alloc_zeroed(layout);
                assert_eq!(block.addr() % align, 0);
                assert!(bytes(block, size).iter().all(|x| *x == 0));
                Allocator.dealloc(block, layout);
            }
        }
    }
}
