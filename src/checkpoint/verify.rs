//! `models verify`: everything that can be said of a checkpoint without running it.

use super::open::{Checkpoint, weight_files};
use super::{bundled, digests};
use crate::error::Result;
use std::path::Path;

/// What [`verify`] found to be in order.
#[derive(Debug)]
pub struct Verified {
    /// `config.json` and the weight files, each with its SHA-256 in hex.
    pub files: Vec<(String, String)>,
    /// The number of tensors.
    pub tensors: usize,
    /// The number of values in them.
    pub values: usize,
}

/// Opens the model in `dir`, or the bundled one of that name, as strictly as a run does, and reads
/// every value: NaN or infinity is an error that names the tensor. Its files must have the digests
/// in the file `sums`, if given.
pub fn verify(dir: &Path, sums: Option<&Path>) -> Result<Verified> {
    let checkpoint = Checkpoint::open(dir)?;
    let files = match bundled::find(dir)? {
        Some(bundled) => bundled.files(),
        None => {
            let mut paths = weight_files(&checkpoint.dir)?;
            paths.insert(0, checkpoint.dir.join("config.json"));
            digests::of(&paths)?
        }
    };
    if let Some(sums) = sums {
        digests::check(sums, &files)?;
    }
    let weights = &checkpoint.weights;
    for name in weights.names().filter(|name| weights.is_float(name)) {
        weights.tensor(name, weights.shape(name).unwrap_or_default())?;
    }
    let named = files.into_iter().map(|(path, digest)| {
        let name = path.file_name().unwrap_or_default();
        (name.to_string_lossy().into_owned(), digest)
    });
    Ok(Verified {
        files: named.collect(),
        tensors: weights.names().count(),
        values: weights.values(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Config, create, preset};
    use serde_json::json;

    #[test]
    fn a_value_that_is_not_finite_is_an_error_that_names_the_tensor() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("model");
        let mut config = preset("mamba-d256-l16").unwrap();
        config.insert("num_hidden_layers".into(), json!(1));
        create(&Config::new("x", config), 0, &out, 1 << 30).unwrap();
        let verified = verify(&out, None).unwrap();
        assert_eq!(verified.files.len(), 2);
        assert_eq!(
            verified.files[1].1,
            Checkpoint::open(&out).unwrap().digest.get()
        );
        assert_eq!(verified.tensors, 12);

        let path = out.join("model.safetensors");
        let good = std::fs::read(&path).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut bytes = good.clone();
            let end = bytes.len();
            bytes[end - 4..].copy_from_slice(&bad.to_le_bytes());
            std::fs::write(&path, bytes).unwrap();
            let error = verify(&out, None).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Model, "{error}");
            let error = error.to_string();
            assert!(
                error.contains("tensor backbone.norm_f.weight: value 255"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_bundled_model_is_verified_as_one_in_a_directory_is() {
        let verified = verify(Path::new(bundled::DEFAULT), None).unwrap();
        let names = verified.files.iter().map(|(name, _)| name.as_str());
        assert_eq!(
            names.collect::<Vec<_>>(),
            ["config.json", "model.safetensors"]
        );
        let opened = Checkpoint::open(Path::new(bundled::DEFAULT)).unwrap();
        assert_eq!(verified.files[1].1, opened.digest.get());
        let dir = tempfile::tempdir().unwrap();
        let sums = dir.path().join("sums");
        for (file, right) in [(&verified.files[1], true), (&verified.files[0], false)] {
            let config = &verified.files[0].1;
            let text = format!("{config}  config.json\n{}  model.safetensors\n", file.1);
            std::fs::write(&sums, text).unwrap();
            assert_eq!(
                verify(Path::new(bundled::DEFAULT), Some(&sums)).is_ok(),
                right
            );
        }
    }
}
