//! Files, good and damaged, as functions on bytes: for test programs and for tests of modules.
#![allow(dead_code, reason = "each takes its part")]

use flate2::{Compression, Crc, write::DeflateEncoder, write::GzEncoder};
use std::io::Write;

/// The block that ends every BGZF file.
pub const EOF_BLOCK: [u8; 28] = [
    31, 139, 8, 4, 0, 0, 0, 0, 0, 255, 6, 0, 66, 67, 2, 0, 27, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// One gzip member.
pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text).unwrap();
    gzip.finish().unwrap()
}

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
    [bgzf_without_eof(text, block), EOF_BLOCK.to_vec()].concat()
}

/// The `.gzi` of BGZF `file` in blocks of `block` bytes of `size` bytes of text.
pub fn gzi(size: usize, block: usize, file: &[u8]) -> Vec<u64> {
    let (mut words, mut at) = (vec![0], 0);
    for text in (block..size).step_by(block) {
        at += usize::from(u16::from_le_bytes([file[at + 16], file[at + 17]])) + 1;
        words.extend([at as u64, text as u64]);
    }
    words[0] = words.len() as u64 / 2;
    words
}

/// Words as a `.gzi` file holds them.
pub fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// `bytes` without the last `n`.
pub fn cut(bytes: &[u8], n: usize) -> &[u8] {
    &bytes[..bytes.len() - n]
}

/// A safetensors file: its header as text, and data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

/// The header of a safetensors file, and its data.
pub fn header(file: &[u8]) -> (String, &[u8]) {
    let len = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    (
        String::from_utf8(file[8..8 + len].to_vec()).unwrap(),
        &file[8 + len..],
    )
}

/// A PyTorch file whose `data.pkl` is `pickle`.
pub fn torch(pickle: &[u8], entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let options = options.compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("archive/data.pkl", pickle)].iter().chain(entries) {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
