//! What two runs must have in common to be the same run: all that decides their weights.

use crate::checkpoint::{Checkpoint, TOKENIZERS};
use crate::error::Result;
use crate::io::sha256::digest;
use crate::io::source::can_be_read_again;
use crate::train::DataFile;
use serde_json::{Map, Value, json};

/// What a run starts from: the digest of its weights, its configuration, and the files that say
/// which token each base is.
pub(super) fn start(checkpoint: &Checkpoint) -> Result<Map<String, Value>> {
    let mut found = Map::new();
    found.insert(
        "weights of the start".into(),
        json!(checkpoint.digest.get()),
    );
    let config = Value::Object(checkpoint.config.as_json().clone());
    found.insert("config.json of the start".into(), config);
    for name in TOKENIZERS {
        let path = checkpoint.dir.join(name);
        if can_be_read_again(&path)? {
            found.insert(format!("{name} of the start"), json!(digest(&path)?));
        }
    }
    Ok(found)
}

/// The files of a run, by what they are, their order and their names: what they hold decides the
/// weights, and the names of some are those of classes.
pub(super) fn files(files: &[(&'static str, DataFile)]) -> Map<String, Value> {
    let mut found = Map::new();
    for (i, (role, source)) in files.iter().enumerate() {
        let name = source.path.file_name().unwrap_or_default();
        let key = format!("{role} {} (file {})", name.to_string_lossy(), i + 1);
        found.insert(key, json!(source.sha256));
    }
    found
}
