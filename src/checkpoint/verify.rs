//! `models verify`: everything that can be said of a checkpoint without running it.

use super::open::{Checkpoint, weight_files};
use super::{digests, safetensors};
use crate::error::Result;
use crate::ops::Tensor;
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

/// Opens the model in `dir` as strictly as a run does, and reads every value: NaN or infinity is
/// an error that names the tensor. Its files must have the digests in the file `sums`, if given.
pub fn verify(dir: &Path, sums: Option<&Path>) -> Result<Verified> {
    let checkpoint = Checkpoint::open(dir)?;
    let dir = checkpoint.dir.as_path();
    let mut paths = weight_files(dir)?;
    paths.insert(0, dir.join("config.json"));
    if let Some(sums) = sums {
        digests::check(sums, &paths)?;
    }
    let weights = &checkpoint.weights;
    for name in weights.names().filter(|name| weights.is_float(name)) {
        let shape = weights.shape(name).unwrap_or_default();
        if let Some(place) = not_finite(&weights.tensor(name, shape)?)? {
            let what = format!("value {place} is not a finite number");
            return Err(weights
                .error(name, what)
                .todo("fetch the model again, or train it anew"));
        }
    }
    let files = paths.iter().map(|path| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok((name, safetensors::digest(path)?))
    });
    Ok(Verified {
        files: files.collect::<Result<_>>()?,
        tensors: weights.names().count(),
        values: weights.values(),
    })
}

/// The place of the first value, in row-major order, that is NaN or infinite.
fn not_finite(tensor: &Tensor) -> Result<Option<usize>> {
    let values = tensor.to_vec1::<f32>()?;
    Ok(values.iter().position(|value| !value.is_finite()))
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
        assert_eq!(verified.files[1].1, Checkpoint::open(&out).unwrap().digest);
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
}
