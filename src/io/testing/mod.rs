//! What tests of modules share: damaged files are made, not stored.

mod bytes;

pub use bytes::{bgzf, bgzf_without_eof, gzip};

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// The `.gzi` of `file`, which holds `size` bytes of text in blocks of `block`.
pub fn gzi(size: usize, block: usize, file: &[u8]) -> Vec<u8> {
    bytes::words(&bytes::gzi(size, block, file))
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
