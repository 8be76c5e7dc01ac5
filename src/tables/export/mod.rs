//! `table export`: rows of a table in another format.

mod ipc;
mod npy;
mod rows;
mod text;

use crate::error::{Error, Result};
use crate::io::atomic::{AtomicFile, is_stdout};
use crate::io::delimited::Style;
use crate::io::table_file::TableFile;
use crate::run::outputs::{Format, Outputs};
use rows::Rows;
use std::ffi::OsStr;
use std::io::{IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};

/// What is exported, and to where.
pub struct Export<'a> {
    /// The table.
    pub table: &'a Path,
    /// The file that is written.
    pub output: &'a Path,
    /// Its format; none: as its extension says.
    pub form: Option<Form>,
    /// The columns, in this order; none: all.
    pub columns: &'a [String],
    /// Rows that overlap these regions; none: all.
    pub regions: &'a [String],
    /// Replace the output if it exists.
    pub force: bool,
}

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Columns separated by tabs.
    Tsv,
    /// Columns separated by commas.
    Csv,
    /// Arrow's file format.
    Ipc,
    /// A matrix, and its keys beside it.
    Npy,
}

impl Form {
    fn format(self) -> Format {
        match self {
            Self::Tsv => Format::Tsv,
            Self::Csv => Format::Csv,
            Self::Ipc => Format::Ipc,
            Self::Npy => Format::Npy,
        }
    }

    /// What the name of an output promises.
    fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "tsv" | "txt" => Ok(Self::Tsv),
            "csv" => Ok(Self::Csv),
            "arrow" | "feather" | "ipc" => Ok(Self::Ipc),
            "npy" => Ok(Self::Npy),
            _ => {
                let what = "the output's name does not say its format";
                let error = Error::usage(what).file(path.display());
                Err(error.todo("give --tsv, --csv, --ipc or --npy"))
            }
        }
    }
}

/// Writes rows of a table. Memory: some thousand rows.
///
/// # Errors
/// Input: it is no table of ours, or damaged; Usage: columns or regions that it does not have, and
/// the output; Io.
pub fn export(request: &Export) -> Result<()> {
    let form = request.form.map_or_else(|| Form::of(request.output), Ok)?;
    let table = TableFile::open(request.table)?;
    let rows = Rows::new(&table, request.columns, request.regions)?;
    let style = match form {
        Form::Tsv => Style::Tsv,
        Form::Csv => Style::Csv,
        Form::Ipc => return to_file(request, form, |file| ipc::write(&rows, file)),
        Form::Npy => return to_matrix(request, &rows),
    };
    if is_stdout(request.output) && stdout().is_terminal() {
        return text::write(&rows, style, &mut stdout().lock(), Path::new("stdout"));
    }
    to_file(request, form, |mut file| {
        let name = file.name().to_path_buf();
        text::write(&rows, style, &mut file, &name)?;
        Ok(file)
    })
}

fn to_file(
    request: &Export,
    form: Form,
    write: impl FnOnce(AtomicFile) -> Result<AtomicFile>,
) -> Result<()> {
    let mut outputs = Outputs::new(&[request.table.to_path_buf()], request.force);
    let file = outputs.create(request.output, form.format())?;
    write(file)?.finish()?;
    outputs.commit()
}

/// A matrix, and the table of its rows' other columns, if any are wanted.
fn to_matrix(request: &Export, rows: &Rows) -> Result<()> {
    if is_stdout(request.output) {
        let what = "--npy writes two files, a matrix and the keys of its rows";
        return Err(Error::usage(what).todo("give a file to -o"));
    }
    let (vector, others) = rows.parted()?;
    let keys: PathBuf = request.output.with_extension("keys.tsv");
    let mut outputs = Outputs::new(&[request.table.to_path_buf()], request.force);
    let mut declared = vec![(request.output.to_path_buf(), Format::Npy)];
    let has_keys = !others.fields().is_empty();
    if has_keys {
        declared.push((keys.clone(), Format::Tsv));
    }
    outputs.open(&declared)?;
    let mut matrix = outputs.create(request.output, Format::Npy)?;
    npy::write(&vector, &mut matrix, request.output)?;
    matrix.finish()?;
    if has_keys {
        let mut file = outputs.create(&keys, Format::Tsv)?;
        text::write(&others, Style::Tsv, &mut file, &keys)?;
        file.finish()?;
    }
    outputs.commit()
}

/// Writes bytes to an output that messages call `name`.
fn put(to: &mut dyn Write, bytes: &[u8], name: &Path) -> Result<()> {
    to.write_all(bytes).map_err(|e| Error::io(name, &e))
}
