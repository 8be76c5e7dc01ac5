//! What makes two runs the same run: everything that decides the numbers.
//!
//! Of inputs the content counts, not the path or the time (of those that lie elsewhere, what stands
//! for it: [`crate::io::source::stamp`]); options count as they were given, but
//! for those that change nothing in the numbers, which their structs leave out.

use super::file_name;
use super::options::Compute;
use super::session::Session;
use crate::checkpoint;
use crate::error::{Error, Kind, Result};
use crate::io::input::is_stdin;
use crate::io::sha256::digest;
use crate::io::source::{can_be_read_again, is_remote, shown, stamp};
use crate::stream::RunIdentity;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// The identity of a run of these options over these inputs.
///
/// # Errors
/// Usage: an input is standard input, which cannot be read again; Io.
pub fn of(
    session: &Session,
    compute: &Compute,
    options: Map<String, Value>,
    inputs: &[(&'static str, PathBuf)],
) -> Result<RunIdentity> {
    let mut identity = Map::new();
    let mut put = |name: String, value: Value| identity.insert(name, value);
    put("version".into(), json!(env!("CARGO_PKG_VERSION")));
    put("model".into(), json!(session.checkpoint.digest.get()));
    let adapters = (1..).zip(&compute.adapter);
    let adapters = adapters.map(|(number, path)| (format!("adapter {number}"), path));
    let model = compute.model.iter().map(|path| ("model".to_string(), path));
    for (what, path) in model.chain(adapters) {
        for path in checkpoint::files(path)? {
            // The weights are in the model's digest.
            let extension = path.extension().and_then(|extension| extension.to_str());
            if extension.is_some_and(|extension| ["json", "txt"].contains(&extension)) {
                put(
                    format!("{what}: {}", file_name(&path)),
                    json!(digest(&path)?),
                );
            }
        }
    }
    for (what, path) in inputs {
        if is_stdin(path) {
            let what = "--resume needs an input that can be read again, not stdin";
            return Err(Error::usage(what));
        }
        if is_remote(path) {
            let Some(stamp) = stamp(path)? else {
                let what = "--resume needs a server that says its files' sizes and gives ranges";
                return Err(Error::usage(what)
                    .file(shown(path))
                    .todo("fetch the file first"));
            };
            put((*what).to_string(), json!(stamp));
        } else if can_be_read_again(path)? {
            put((*what).to_string(), json!(digest(path)?));
        }
    }
    put("device".into(), json!(session.device().1));
    put("chunk".into(), json!(session.chunk));
    for (name, value) in options {
        put(format!("--{}", name.replace('_', "-")), value);
    }
    Ok(identity)
}

/// The options of a command that decide the numbers, by name.
///
/// # Errors
/// None in practice: a struct of options is an object.
pub fn options(options: &impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(options) {
        Ok(Value::Object(options)) => Ok(options),
        _ => Err(Error::new(Kind::Internal, "options are an object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Embed, Predict, Reads, Score};
    use clap::{Args, Command};

    /// Options that are not among those that decide the numbers.
    const OTHERS: [&[&str]; 5] = [
        // Files whose content is in the identity.
        &[
            "fasta",
            "reads",
            "variants",
            "reference",
            "regions_file",
            "intervals",
            "background",
            "model",
            "adapter",
        ],
        // What they came to is in it.
        &["chunk", "device"],
        // Where the run takes place, what it may take, and what is said of it.
        &[
            "output",
            "force",
            "max_output",
            "summary",
            "profile",
            "strict",
            "threads",
            "scratch",
            "device_memory",
            "resume",
            "checkpoint_every",
            "checkpoint_dir",
            "time_limit",
        ],
        // What else the input must be.
        &["allow_empty", "allow_missing_eof"],
        // Files that are written at the end, of what the checkpoints hold; or not with --resume.
        &[
            "vcf_out",
            "plot",
            "bam_out",
            "genes",
            "genetic_code",
            "bed",
            "threshold",
            "bigwig",
            "bedgraph",
            "tracks",
            "tsv",
            "tsv_columns",
            "info",
        ],
    ];

    fn decided<T: Args + Serialize>(line: &[&str]) {
        let command = T::augment_args(Command::new("crocuta"));
        let matches = command.clone().get_matches_from(line);
        let known = options(&T::from_arg_matches(&matches).unwrap()).unwrap();
        for option in command.get_arguments() {
            let name = option.get_id().as_str();
            let is_other = OTHERS.iter().any(|names| names.contains(&name));
            assert!(known.contains_key(name) != is_other, "--{name}");
        }
    }

    #[test]
    fn every_option_that_can_change_a_row_is_part_of_the_identity() {
        decided::<Embed>(&["embed", "a.fa"]);
        decided::<Predict>(&["predict", "a.fa"]);
        decided::<Reads>(&["reads", "a.bam"]);
        decided::<Score>(&["score", "v.vcf", "-r", "a.fa"]);
    }
}
