//! Rows as an Arrow IPC file, also called Feather: strings plain, since a file may hold but one
//! dictionary a column, and the table's footer among the schema's metadata.

use super::rows::Rows;
use crate::error::{Error, Kind, Result};
use crate::io::atomic::AtomicFile;
use crate::io::table_writer::{FOOTER_KEY, ZERO_BASED_KEY};
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use arrow_select::take::take;
use std::collections::HashMap;
use std::sync::Arc;

/// Writes the rows.
pub fn write(rows: &Rows, file: AtomicFile) -> Result<AtomicFile> {
    let name = file.name().to_path_buf();
    let failed = |error: ArrowError| match error {
        ArrowError::IoError(_, io) => Error::io(&name, &io),
        other => Error::because(Kind::Internal, other).file(name.display()),
    };
    let plain = |field: &Field| match field.data_type() {
        DataType::Dictionary(..) => field.clone().with_data_type(DataType::Utf8),
        _ => field.clone(),
    };
    let fields: Vec<Field> = rows.fields().into_iter().map(plain).collect();
    let metadata = HashMap::from([
        (FOOTER_KEY.to_string(), rows.table.footer.to_string()),
        (ZERO_BASED_KEY.to_string(), "true".to_string()),
    ]);
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
    let mut writer = FileWriter::try_new(file, &schema).map_err(failed)?;
    rows.each(|columns| {
        let columns: Result<Vec<ArrayRef>, ArrowError> = columns.iter().map(words).collect();
        let batch = columns.and_then(|columns| RecordBatch::try_new(Arc::clone(&schema), columns));
        let written = batch.and_then(|batch| writer.write(&batch));
        written.map_err(failed)
    })?;
    writer.finish().map_err(failed)?;
    writer.into_inner().map_err(failed)
}

/// A column of words as strings.
fn words(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.as_dictionary_opt::<Int32Type>() {
        Some(words) => take(words.values(), words.keys(), None),
        None => Ok(Arc::clone(column)),
    }
}
