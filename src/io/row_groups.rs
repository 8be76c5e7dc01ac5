//! Row groups copied from one table to another as they are, without decoding them.

use super::table_writer::TableWriter;
use crate::error::{Error, Kind, Result};
use parquet::basic::SortOrder;
use parquet::bloom_filter::Sbbf;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaDataOptions, ParquetMetaDataReader,
};
use parquet::file::statistics::Statistics;
use std::fs::File;
use std::path::Path;

impl TableWriter {
    /// Appends all row groups of the finished table at `path`, which has the same columns.
    ///
    /// # Errors
    /// `Io` if it cannot be read or the disk refuses; `Internal` if it is not such a table.
    pub fn append(&mut self, path: &Path) -> Result<()> {
        self.close_group()?;
        let file = File::open(path).map_err(|e| Error::io(path, &e))?;
        let rows = self.copy_groups(&file).map_err(|error| match error {
            ParquetError::External(source) => Error::new(Kind::Io, &source).caused_by(source),
            other => Error::because(Kind::Internal, other),
        });
        self.count(rows.map_err(|error| error.file(path.display()))?);
        Ok(())
    }

    fn copy_groups(&mut self, file: &File) -> Result<u64, ParquetError> {
        // As written, not summarised: the copy's footer is then that of a table written at once.
        let options = ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false);
        let metadata = ParquetMetaDataReader::new()
            .with_metadata_options(Some(options))
            .with_page_index_policy(PageIndexPolicy::Optional)
            .parse_and_finish(file)?;
        let mut rows = 0;
        for (i, group) in metadata.row_groups().iter().enumerate() {
            let index = metadata.page_index_for_row_group(i);
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
            out.close()?;
            rows += group.num_rows().unsigned_abs();
        }
        Ok(rows)
    }
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
