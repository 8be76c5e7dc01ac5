//! Models that are part of the program: `models/` of the repository, where their cards stand.

use super::digests::Digested;
use crate::error::{Error, Result};
use crate::io::sha256::digest_of;
use std::path::Path;

/// The model of commands that are not told of another.
pub const DEFAULT: &str = "crocuta-bacteria";
/// The model that finds genes, if no other is named.
pub const GENES: &str = "crocuta-bacteria-genes";

/// A model within the program.
pub(super) struct Bundled {
    /// Its name: what `--model` takes.
    pub name: &'static str,
    /// `config.json`.
    pub config: &'static str,
    /// `model.safetensors`.
    pub weights: &'static [u8],
    /// `metrics.json`: what it was trained on, and how.
    pub record: &'static str,
}

impl Bundled {
    /// Its files by their names, as they would lie in a directory.
    pub fn files(&self) -> Vec<Digested> {
        let files = [
            ("config.json", self.config.as_bytes()),
            ("model.safetensors", self.weights),
        ];
        let dir = Path::new(self.name);
        let digested = files.map(|(name, bytes)| (dir.join(name), digest_of(bytes)));
        digested.into()
    }
}

macro_rules! model {
    ($name:literal) => {
        Bundled {
            name: $name,
            config: include_str!(concat!("../../models/", $name, "/config.json")),
            weights: include_bytes!(concat!("../../models/", $name, "/model.safetensors")),
            record: include_str!(concat!("../../models/", $name, "/metrics.json")),
        }
    };
}

static ALL: [Bundled; 3] = [
    model!("crocuta-bacteria"),
    model!("crocuta-bacteria-genes"),
    model!("crocuta-human"),
];

/// The bundled model of this name, unless a directory stands at the path.
///
/// # Errors
/// Io: the system does not say what is there.
pub(super) fn find(path: &Path) -> Result<Option<&'static Bundled>> {
    let Some(named) = ALL.iter().find(|bundled| Path::new(bundled.name) == path) else {
        return Ok(None);
    };
    let stands = path.try_exists().map_err(|e| Error::io(path, &e))?;
    Ok((!stands).then_some(named))
}

/// Names of the models that are part of the program.
pub fn bundled() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|bundled| bundled.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, preset};
    use serde_json::json;

    #[test]
    fn the_bundled_model_has_the_preset_of_its_name() {
        let mut preset = preset(DEFAULT).unwrap();
        preset.insert("torch_dtype".into(), json!("float16"));
        let bundled = Checkpoint::open(Path::new(DEFAULT)).unwrap();
        assert_eq!(bundled.config.as_json(), &preset);
    }
}
