//! Row groups copied from one table to another as they are, without decoding them.

use super::chunks::Chunks;
use super::table_writer::TableWriter;
use crate::error::Result;
use parquet::basic::SortOrder;
use parquet::bloom_filter::Sbbf;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataOptions,
    ParquetMetaDataReader,
};
use parquet::file::statistics::Statistics;
use std::path::Path;

impl TableWriter {
    /// Appends all row groups of the finished table at `path`, which has the same columns.
    ///
    /// # Errors
    /// `Io` if it cannot be read, or the disk refuses the output, and the error names which;
    /// `Input` if it is not such a table.
    pub fn append(&mut self, path: &Path) -> Result<()> {
        let file = Chunks::open(path)?;
        let metadata = metadata(&file).map_err(|error| self.copy_failed((path, &file), error))?;
        for group in 0..metadata.num_row_groups() {
            self.append_group((path, &file), &metadata, group)?;
        }
        Ok(())
    }

    /// Appends one row group of an open table with the same columns, of which [`metadata`] is
    /// known. Memory: a bloom filter, and what the system reads ahead.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_group(
        &mut self,
        from: (&Path, &Chunks),
        metadata: &ParquetMetaData,
        group: usize,
    ) -> Result<()> {
        self.close_group()?;
        self.write_groups(0)?;
        let copied = self.copy_group(from.1, metadata, group);
        copied.map_err(|error| self.copy_failed(from, error))?;
        self.count(metadata.row_group(group).num_rows().unsigned_abs());
        Ok(())
    }

    fn copy_group(
        &mut self,
        file: &Chunks,
        metadata: &ParquetMetaData,
        group: usize,
    ) -> Result<(), ParquetError> {
        let index = metadata.page_index_for_row_group(group);
        let group = metadata.row_group(group);
        let mut out = self.parquet().next_row_group()?;
        for (j, column) in group.columns().iter().enumerate() {
            let close = ColumnCloseResult {
                bytes_written: column.compressed_size().unsigned_abs(),
                rows_written: group.num_rows().unsigned_abs(),
                metadata: as_written(column)?,
                bloom_filter: Sbbf::read_from_column_chunk(column, file)?,
                column_index: index.column_index(j).cloned(),
                offset_index: index.offset_index(j).cloned(),
            };
            out.append_column(file, close)?;
        }
        out.close().map(drop)
    }
}

/// What a table's file says of its row groups: as written, not summarised, so that the footer of a
/// copy is that of a table written at once.
///
/// # Errors
/// Those of the decoder.
pub fn metadata(file: &Chunks) -> Result<ParquetMetaData, ParquetError> {
    let options = ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false);
    ParquetMetaDataReader::new()
        .with_metadata_options(Some(options))
        .with_page_index_policy(PageIndexPolicy::Optional)
        .parse_and_finish(file)
}

/// The metadata of a column as they were when it was written. What is read from a file is never
/// marked for the deprecated fields `min` and `max` (parquet.thrift, `Statistics`), which the
/// writer fills for values of a signed order: the copy's footer would lack them.
fn as_written(column: &ColumnChunkMetaData) -> Result<ColumnChunkMetaData, ParquetError> {
    let signed = column.column_descr().sort_order() == SortOrder::SIGNED;
    let Some(statistics) = column.statistics().filter(|_| signed).cloned() else {
        return Ok(column.clone());
    };
    let statistics = match statistics {
        Statistics::Int32(values) => {
            Statistics::Int32(values.with_backwards_compatible_min_max(true))
        }
        Statistics::Int64(values) => {
            Statistics::Int64(values.with_backwards_compatible_min_max(true))
        }
        Statistics::Float(values) => {
            Statistics::Float(values.with_backwards_compatible_min_max(true))
        }
        Statistics::Double(values) => {
            Statistics::Double(values.with_backwards_compatible_min_max(true))
        }
        other => other,
    };
    let builder = column.clone().into_builder();
    builder.set_statistics(statistics).build()
}
