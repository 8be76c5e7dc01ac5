//! What the tests of this module share: damaged files are made, not stored.

use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression, Crc};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// BGZF of `text` in blocks of `block` bytes, without the EOF block.
pub fn bgzf_without_eof(text: &[u8], block: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in text.chunks(block) {
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
        deflate.write_all(piece).unwrap();
        let data = deflate.finish().unwrap();
        let mut crc = Crc::new();
        crc.update(piece);
        out.extend([31, 139, 8, 4, 0, 0, 0, 0, 0, 255, 6, 0, b'B', b'C', 2, 0]);
        out.extend((data.len() as u16 + 25).to_le_bytes());
        out.extend(data);
        out.extend(crc.sum().to_le_bytes());
        out.extend((piece.len() as u32).to_le_bytes());
    }
    out
}

/// BGZF of `text` in blocks of `block` bytes.
pub fn bgzf(text: &[u8], block: usize) -> Vec<u8> {
    let mut out = bgzf_without_eof(text, block);
    out.extend(super::bgzf::EOF_BLOCK);
    out
}

/// The `.gzi` of `file`, which holds `size` bytes of text in blocks of `block`.
pub fn gzi(size: usize, block: usize, file: &[u8]) -> Vec<u8> {
    let (mut entries, mut at) = (vec![], 0);
    for text in (block..size).step_by(block) {
        at += usize::from(u16::from_le_bytes([file[at + 16], file[at + 17]])) + 1;
        entries.extend([at as u64, text as u64]);
    }
    let count = entries.len() as u64 / 2;
    let words = std::iter::once(count).chain(entries);
    words.flat_map(u64::to_le_bytes).collect()
}

/// One gzip member.
pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text).unwrap();
    gzip.finish().unwrap()
}

/// One zstd frame with a checksum, as the `zstd` program writes it.
pub fn zstd(text: &[u8]) -> Vec<u8> {
    let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
    zstd.include_checksum(true).unwrap();
    zstd.write_all(text).unwrap();
    zstd.finish().unwrap()
}

/// Runs `f` and returns its result with everything that it logged.
pub fn logged<T>(f: impl FnOnce() -> T) -> (T, String) {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let copy = sink.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || copy.clone())
        .with_ansi(false)
        .finish();
    let value = tracing::subscriber::with_default(subscriber, f);
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    (value, text)
}
