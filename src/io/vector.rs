//! The column chunk of one vector column, encoded here.
//!
//! arrow-rs turns every float16 into an object of its own (29 million values a second, an eighth
//! of its float32 rate). A vector of float16 is already laid out as Parquet wants it, so pages are
//! built from the bytes as they are and handed to the file as a finished chunk:
//! float16 PLAIN (DuckDB cannot read BYTE_STREAM_SPLIT on it), float32 BYTE_STREAM_SPLIT.
//!
//! A page (Parquet format, "Data Pages", v1) is: length and bytes of the repetition levels, length
//! and bytes of the definition levels, values; compressed together. Every vector has `dim` values
//! and none is NULL, so the repetition levels are 0 followed by `dim - 1` ones in every row, the
//! definition levels are all 1, and both are run-length encoded.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

use arrow_buffer::Buffer;
use bytes::{Buf, Bytes};
use parquet::basic::{Encoding, EncodingMask};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::{OffsetIndexMetaData, PageLocation};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use rayon::prelude::*;

use super::compression::Compression;

/// The size of a page's values, in bytes, before compression.
const PAGE_BYTES: usize = 1 << 20;

/// More bytes than a page's header has.
const HEADER: usize = 64;

const _: () = assert!(
    cfg!(target_endian = "little"),
    "Parquet values are little-endian"
);

/// The type of a vector's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
}

impl Element {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Its name, as NumPy spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "float16",
            Self::F32 => "float32",
        }
    }
}

/// The vectors of one row group: rows × `dim` numbers, as they came, until they are encoded.
pub(super) struct VectorChunk {
    column: ColumnDescPtr,
    element: Element,
    dim: usize,
    compression: Compression,
    pieces: Vec<Buffer>,
}

/// The same, encoded.
pub(super) struct EncodedVectors {
    pages: Pages,
    close: ColumnCloseResult,
}

/// One encoded page.
struct EncodedPage {
    rows: usize,
    /// Bytes before compression, the header's among them.
    uncompressed: usize,
    /// Its header and what follows, as the file has them.
    bytes: Bytes,
}

/// The pages of a chunk, which lie one behind the other in the file and nowhere before.
struct Pages(Vec<Bytes>);

/// The bytes of pages that were not read yet.
struct Unread(VecDeque<Bytes>);

impl VectorChunk {
    pub(super) fn new(
        column: ColumnDescPtr,
        (element, dim): (Element, usize),
        compression: Compression,
    ) -> Self {
        Self {
            column,
            element,
            dim,
            compression,
            pieces: Vec::new(),
        }
    }

    /// Appends whole vectors.
    pub(super) fn push(&mut self, values: Buffer) {
        self.pieces.push(values);
    }

    /// Encodes the pages, on all cores.
    pub(super) fn encode(self) -> Result<EncodedVectors, ParquetError> {
        let row = self.dim * self.element.size();
        let page = (PAGE_BYTES / row).max(1) * row;
        let len: usize = self.pieces.iter().map(|piece| piece.len()).sum();
        let encoded: Vec<EncodedPage> = (0..len.div_ceil(page))
            .into_par_iter()
            .map(|at| self.page(at * page, page.min(len - at * page)))
            .collect::<Result<_, _>>()?;
        let rows = len / row;
        drop(self.pieces);

        let mut index = OffsetIndexMetaData {
            page_locations: Vec::with_capacity(encoded.len()),
            unencoded_byte_array_data_bytes: None,
        };
        let (mut first_row_index, mut written, mut uncompressed) = (0, 0, 0);
        for page in &encoded {
            index.page_locations.push(PageLocation {
                offset: written,
                compressed_page_size: i32::try_from(page.bytes.len()).map_err(too_large)?,
                first_row_index,
            });
            first_row_index += to_i64(page.rows)?;
            written += to_i64(page.bytes.len())?;
            uncompressed += page.uncompressed;
        }

        let metadata = ColumnChunkMetaData::builder(Arc::clone(&self.column))
            .set_encodings_mask(EncodingMask::new_from_encodings(
                [Encoding::RLE, values_encoding(self.element)].iter(),
            ))
            .set_compression(self.compression.of_vectors())
            .set_num_values(to_i64(rows * self.dim)?)
            .set_total_compressed_size(written)
            .set_total_uncompressed_size(to_i64(uncompressed)?)
            .set_data_page_offset(0)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: written.unsigned_abs(),
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(index),
        };
        let pages = Pages(encoded.into_iter().map(|page| page.bytes).collect());
        Ok(EncodedVectors { pages, close })
    }

    /// The page of the `len` bytes from `from` on.
    fn page(&self, from: usize, len: usize) -> Result<EncodedPage, ParquetError> {
        let rows = len / (self.dim * self.element.size());
        let mut page = Vec::with_capacity(len + 10 * rows + 32);
        let mut row = Vec::new();
        run(1, 0, &mut row);
        run(self.dim - 1, 1, &mut row);
        levels(&row.repeat(rows), &mut page)?;
        let mut all_defined = Vec::new();
        run(rows * self.dim, 1, &mut all_defined);
        levels(&all_defined, &mut page)?;
        match self.element {
            Element::F16 => self
                .parts(from, len)
                .for_each(|part| page.extend_from_slice(part)),
            // BYTE_STREAM_SPLIT: the first bytes of all values, then the second bytes, and so on.
            Element::F32 => {
                for stream in 0..4 {
                    for part in self.parts(from, len) {
                        page.extend(part.chunks_exact(4).map(|value| value[stream]));
                    }
                }
            }
        }
        let size = page.len();
        let compressed = self.compression.compress(page)?;
        EncodedPage::new(compressed, size, (rows, self.element, self.dim))
    }

    /// The bytes of all pieces in `from..from + len`, piece by piece.
    fn parts(&self, from: usize, len: usize) -> impl Iterator<Item = &[u8]> {
        let mut before = 0;
        self.pieces.iter().map(move |piece| {
            let within = |at: usize| at.saturating_sub(before).min(piece.len());
            let part = &piece[within(from)..within(from + len)];
            before += piece.len();
            part
        })
    }
}

impl EncodedVectors {
    pub(super) fn append_to<W: std::io::Write + Send>(
        self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<(), ParquetError> {
        group.append_column(&self.pages, self.close)
    }
}

impl EncodedPage {
    /// Puts the header before a page of `rows` vectors, which had `size` bytes.
    fn new(
        compressed: Vec<u8>,
        size: usize,
        (rows, element, dim): (usize, Element, usize),
    ) -> Result<Self, ParquetError> {
        let mut bytes = TrackedWrite::new(Vec::with_capacity(compressed.len() + HEADER));
        let page = Page::DataPage {
            buf: compressed.into(),
            num_values: u32::try_from(rows * dim).map_err(too_large)?,
            encoding: values_encoding(element),
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let page = CompressedPage::new(page, size);
        let written = SerializedPageWriter::new(&mut bytes).write_page(page)?;
        Ok(Self {
            rows,
            uncompressed: written.uncompressed_size,
            bytes: Bytes::from(bytes.into_inner()?),
        })
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.0.iter().map(|page| page.len() as u64).sum()
    }
}

impl ChunkReader for Pages {
    type T = Unread;

    fn get_read(&self, start: u64) -> Result<Unread, ParquetError> {
        let mut unread = Unread(self.0.iter().cloned().collect());
        unread.skip(usize::try_from(start).map_err(too_large)?);
        Ok(unread)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = vec![0; length];
        self.get_read(start)?.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

impl Unread {
    /// Leaves bytes out.
    fn skip(&mut self, mut bytes: usize) {
        while let Some(page) = self.0.front_mut() {
            if bytes < page.len() {
                page.advance(bytes);
                return;
            }
            bytes -= page.len();
            self.0.pop_front();
        }
    }
}

impl Read for Unread {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let Some(page) = self.0.front() else {
            return Ok(0);
        };
        let n = to.len().min(page.len());
        to[..n].copy_from_slice(&page[..n]);
        self.skip(n);
        Ok(n)
    }
}

fn values_encoding(element: Element) -> Encoding {
    match element {
        Element::F16 => Encoding::PLAIN,
        Element::F32 => Encoding::BYTE_STREAM_SPLIT,
    }
}

/// Levels in a v1 page: their length in bytes, then they.
fn levels(encoded: &[u8], page: &mut Vec<u8>) -> Result<(), ParquetError> {
    let length = u32::try_from(encoded.len()).map_err(too_large)?;
    page.extend_from_slice(&length.to_le_bytes());
    page.extend_from_slice(encoded);
    Ok(())
}

/// A run of the RLE/bit-packing hybrid at bit width 1: `count << 1` as a varint, then the value.
fn run(count: usize, value: u8, out: &mut Vec<u8>) {
    if count == 0 {
        return;
    }
    let mut header = (count as u64) << 1;
    while header >= 0x80 {
        out.push(header as u8 | 0x80);
        header >>= 7;
    }
    out.extend([header as u8, value]);
}

fn to_i64<T: TryInto<i64>>(n: T) -> Result<i64, ParquetError> {
    n.try_into().map_err(|_| too_large("a column chunk"))
}

fn too_large(what: impl std::fmt::Display) -> ParquetError {
    ParquetError::General(format!("too large for Parquet: {what}"))
}
