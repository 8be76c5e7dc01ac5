//! What a run says of itself in its tables' footers, and in a line elsewhere.

use super::options::Compute;
use super::session::Session;
use super::{file_name, name_of};
use crate::error::Result;
use crate::sequence::Contig;
use crate::stream::Strand;
use crate::table::Column;
use crate::table::footer::{
    self, ContigDigest, Coordinates, Footer, Inference, ModelRecord, ReferenceRecord, Selection,
    ShardRecord, Tool,
};
use serde_json::{Map, Value};
use std::path::Path;

/// What a footer says besides what the session knows.
pub struct About<'a> {
    /// `embeddings`, `predictions`, ….
    pub table: &'static str,
    /// The reference's file, if there is one, and its contigs.
    pub reference: (Option<&'a Path>, &'a [Contig]),
    /// `stream`, `window` or `exact`, if it is not by the windows.
    pub mode: Option<&'static str>,
    /// The length of the windows, if it is not the session's.
    pub window: Option<u64>,
    /// The strands that were read.
    pub strand: Strand,
    /// What was asked for.
    pub selection: Selection,
    /// Which shard of its input the run reads, if not all.
    pub shard: Option<ShardRecord>,
    /// Parameters of the command that change the numbers.
    pub params: Vec<(&'static str, Value)>,
    /// What the run found.
    pub measured: Map<String, Value>,
}

/// The footer of a table of these columns.
///
/// # Errors
/// None in practice.
pub fn footer<B>(
    session: &Session,
    compute: &Compute,
    about: About,
    columns: &[Column<B>],
) -> Result<Value> {
    let Session {
        checkpoint,
        windows,
        ..
    } = session;
    let (path, contigs) = about.reference;
    let contigs = contigs.iter().map(|contig| ContigDigest {
        name: contig.name.clone(),
        length: contig.length,
        md5: None,
        sha512t24u: None,
    });
    let window = about.window.or(windows.map(|windows| windows.size as u64));
    let by_window = if window.is_some() { "window" } else { "stream" };
    let mut primary: Vec<String> = columns
        .iter()
        .filter(|column| column.primary)
        .map(|column| column.spec.name.clone())
        .collect();
    if ["embeddings", "predictions"].contains(&about.table) {
        primary.sort();
    }
    let described = columns
        .iter()
        .map(|column| (column.spec.name.clone(), column.described()));
    Footer {
        version: footer::VERSION.to_string(),
        table: about.table.to_string(),
        primary_columns: primary,
        coordinates: Coordinates::zero_based(),
        reference: ReferenceRecord {
            path: path.map(file_name).unwrap_or_default(),
            contigs: contigs.collect(),
        },
        model: ModelRecord {
            name: checkpoint.name.clone(),
            architecture: checkpoint.architecture.to_string(),
            sha256: checkpoint.digest.get().to_string(),
            n_params: checkpoint.weights.values() as u64,
        },
        columns: described.collect(),
        inference: Inference {
            mode: about.mode.unwrap_or(by_window).to_string(),
            chunk: session.chunk as u64,
            window,
            strand: strand_name(about.strand),
            precision: name_of(compute.precision),
            device: session.device().1.to_string(),
        },
        selection: about.selection,
        shard: about.shard,
        tool: Tool::this(),
        params: params(session, compute, about.params),
        measured: about.measured,
        command: None,
        complete: true,
    }
    .to_json()
}

/// The parameters of all commands, and the command's own.
fn params(
    session: &Session,
    compute: &Compute,
    own: Vec<(&'static str, Value)>,
) -> Map<String, Value> {
    let mut params = Map::new();
    if let Some(windows) = session.windows {
        params.insert("overlap".to_string(), windows.overlap.into());
    }
    if let Some(window) = compute.attention_window {
        params.insert("attention-window".to_string(), window.into());
    }
    for (name, value) in own {
        params.insert(name.to_string(), value);
    }
    params
}

/// A strand's name, also of one that no option names.
pub fn strand_name(strand: Strand) -> String {
    match strand {
        Strand::Joined => "joined".to_string(),
        strand => name_of(strand),
    }
}

/// The command line, as it was given: a shell understands it.
pub fn command() -> String {
    let words = std::env::args_os().map(|word| {
        let word = crate::error::printable(&word.to_string_lossy());
        if word.is_empty() || word.contains([' ', '\'', '"', '*', '$', '(']) {
            format!("'{}'", word.replace('\'', "'\\''"))
        } else {
            word
        }
    });
    let words: Vec<String> = words.skip(1).collect();
    format!("crocuta {}", words.join(" "))
}

/// One line for files that have a place for it: program, model, digest, command line.
pub fn line(session: &Session) -> String {
    format!(
        "{} {} model={} sha256={} command={}",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
        session.checkpoint.name,
        session.checkpoint.digest.get(),
        command()
    )
}
