//! New, untrained checkpoints in the published layout.

use super::layout::{self, Fill, Planned};
use super::staging::Staging;
use super::{Architecture, Checkpoint, Config, Tokenizer, Weights, safetensors};
use crate::error::{Error, Result};
use ::safetensors::Dtype;
use candle_core::{DType, Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// What [`create`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// SHA-256 of `model.safetensors`, in hex.
    pub digest: String,
    /// Stored values: parameters and buffers.
    pub values: usize,
}

/// Writes random weights for `config` to the new directory `out`, with the published names,
/// shapes and initialisation. The same seed gives the same bytes.
///
/// More than `max_bytes` of weights is a usage error that states the size. Memory: one tensor.
pub fn create(config: &Config, seed: u64, out: &Path, max_bytes: u64) -> Result<Created> {
    let plan = affordable(config, max_bytes).map_err(|error| error.file(out.display()))?;
    let staging = Staging::begin(out)?;
    staging.write("config.json", config.to_text().as_bytes())?;

    let entries = plan.iter().map(|planned| planned.entry.clone()).collect();
    let plan = plan
        .into_iter()
        .map(|planned| (planned.entry.name.clone(), planned));
    let plan = plan.collect::<BTreeMap<_, _>>();
    let digest = safetensors::write(
        &staging.path().join("model.safetensors"),
        entries,
        |entry| {
            Ok(plan
                .get(&entry.name)
                .map(|planned| values(planned, seed))
                .unwrap_or_default())
        },
    )
    .map_err(|error| error.file(out.display()))?;
    staging.commit()?;
    let values = plan
        .values()
        .map(|planned| planned.entry.shape.iter().product::<usize>())
        .sum();
    Ok(Created { digest, values })
}

/// The checkpoint that [`create`] would write, in memory. `dir` is where the configuration came
/// from: a tokenizer that lies there counts.
pub fn untrained(config: Config, seed: u64, dir: &Path, max_bytes: u64) -> Result<Checkpoint> {
    let mut tensors = BTreeMap::new();
    for planned in affordable(&config, max_bytes)? {
        let dtype = match planned.entry.dtype {
            Dtype::I64 => DType::I64,
            _ => DType::F32,
        };
        let bytes = values(&planned, seed);
        let tensor = Tensor::from_raw_buffer(&bytes, dtype, &planned.entry.shape, &Device::Cpu)?;
        tensors.insert(planned.entry.name, tensor);
    }
    let architecture = Architecture::of(&config)?;
    Ok(Checkpoint {
        dir: dir.to_path_buf(),
        architecture,
        config,
        tokenizer: Tokenizer::read(dir, architecture)?,
        weights: Weights::new(dir.display(), tensors),
        digest: String::new().into(),
        name: "untrained".to_string(),
        origin: "untrained".to_string(),
    })
}

/// How much the weights of a configuration are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weighed {
    /// Values that training changes.
    pub parameters: u64,
    /// Bytes of all values.
    pub bytes: u64,
}

/// How much [`create`] would write for `config`. `fixed`: parts of the names of tensors that belong
/// to the architecture.
///
/// # Errors
/// Model: not a configuration that is understood.
pub fn weighed(config: &Config, fixed: &[&str]) -> Result<Weighed> {
    let plan = layout::plan(config)?;
    let trained = |planned: &&Planned| {
        let name = &planned.entry.name;
        !fixed.iter().any(|part| name.contains(part))
    };
    let values = |planned: &Planned| planned.entry.shape.iter().product::<usize>() as u64;
    let bytes = plan.iter().map(|planned| planned.entry.bytes() as u64);
    Ok(Weighed {
        parameters: plan.iter().filter(trained).map(values).sum(),
        bytes: bytes.sum(),
    })
}

/// The plan for `config`, unless it takes more than `max_bytes`.
fn affordable(config: &Config, max_bytes: u64) -> Result<Vec<Planned>> {
    let plan = layout::plan(config)?;
    let sizes = plan.iter().map(|planned| planned.entry.bytes() as u64);
    let bytes = sizes.fold(0u64, u64::saturating_add);
    if bytes > max_bytes {
        let what = format!("the weights would take {bytes} bytes, more than {max_bytes}");
        Err(Error::usage(what).todo("raise --max-size"))
    } else {
        Ok(plan)
    }
}

/// The little-endian bytes of a tensor's values. Each tensor has a random stream of its own,
/// named by the seed and its name, so values do not depend on the order of writing.
fn values(planned: &Planned, seed: u64) -> Vec<u8> {
    let mut key = Sha256::new();
    key.update(seed.to_le_bytes());
    key.update(planned.like.as_deref().unwrap_or(&planned.entry.name));
    let mut rng = StdRng::from_seed(key.finalize().into());
    let mut bytes = Vec::with_capacity(planned.entry.bytes());
    for index in 0..planned.entry.shape.iter().product() {
        let value = match &planned.fill {
            Fill::Normal(deviation) => {
                let x: f64 = StandardNormal.sample(&mut rng);
                x * deviation
            }
            Fill::Uniform(low, high) => rng.random_range(*low..=*high),
            Fill::TimeStep { min, max, floor } => {
                let step = rng.random_range(min.ln()..=max.ln()).exp().max(*floor);
                // The inverse of softplus.
                step + (-(-step).exp_m1()).ln()
            }
            Fill::Each(value) => value(index),
        };
        match planned.entry.dtype {
            Dtype::I64 => bytes.extend((value as i64).to_le_bytes()),
            _ => bytes.extend((value as f32).to_le_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Architecture, Checkpoint, preset};
    use crate::error::Kind;
    use candle_core::DType;
    use serde_json::json;

    /// Creates the preset with some keys changed.
    fn made(
        name: &str,
        changes: &[(&str, serde_json::Value)],
    ) -> (tempfile::TempDir, Checkpoint, Created) {
        let mut config = preset(name).unwrap();
        for (key, value) in changes {
            config.insert(key.to_string(), value.clone());
        }
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("model");
        let created = create(&Config::new(name, config), 7, &out, 1 << 30).unwrap();
        let checkpoint = Checkpoint::open(&out).unwrap();
        (dir, checkpoint, created)
    }

    #[test]
    fn hyenadna_has_the_published_size() {
        // The data of the published file, computed from its shapes.
        let (_dir, checkpoint, created) = made("hyenadna-tiny-1k", &[]);
        assert_eq!(created.values * 4, 1_802_848);
        assert_eq!(checkpoint.architecture, Architecture::HyenaDna);
        assert_eq!(checkpoint.digest.get(), created.digest);
        assert_eq!(checkpoint.weights.values(), created.values);
        assert_eq!(checkpoint.name, "model");
        let values = |name: &str, shape: &[usize]| {
            let tensor = checkpoint.weights.tensor(name, shape).unwrap();
            tensor
                .flatten_all()
                .unwrap()
                .stored()
                .unwrap()
                .to_dtype(DType::F64)
                .unwrap()
                .to_vec1::<f64>()
                .unwrap()
        };
        let embedding = values(
            "hyena.backbone.embeddings.word_embeddings.weight",
            &[16, 128],
        );
        assert_eq!(embedding, values("lm_head.weight", &[16, 128]));
        let fc1 = values("hyena.backbone.layers.0.mlp.fc1.weight", &[512, 128]);
        let deviation = (fc1.iter().map(|x| x * x).sum::<f64>() / fc1.len() as f64).sqrt();
        assert!((deviation - 0.02).abs() < 2e-4, "{deviation}");
        let deltas = values(
            "hyena.backbone.layers.1.mixer.filter_fn.modulation.deltas",
            &[1, 1, 128],
        );
        assert!((deltas[0].abs() - 3.070_113_5).abs() < 1e-6);
        assert!((deltas[127].abs() - 15.350_566_9).abs() < 1e-5);
    }

    #[test]
    fn the_seed_decides_every_byte() {
        let small = [
            ("max_seq_len", json!(34)),
            ("d_model", json!(8)),
            ("d_inner", json!(32)),
        ];
        let (_a, _, first) = made("hyenadna-tiny-1k", &small);
        let (_b, _, again) = made("hyenadna-tiny-1k", &small);
        assert_eq!(first, again);
        let mut config = preset("hyenadna-tiny-1k").unwrap();
        config.extend(small.map(|(key, value)| (key.to_string(), value)));
        let dir = tempfile::tempdir().unwrap();
        let other = create(&Config::new("x", config), 8, &dir.path().join("m"), 1 << 30).unwrap();
        assert_ne!(first.digest, other.digest);
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new("x", preset("hyenadna-tiny-1k").unwrap());
        std::fs::create_dir(dir.path().join("taken")).unwrap();
        std::fs::write(dir.path().join("taken/file"), "").unwrap();
        let error = create(&config, 0, &dir.path().join("taken"), 1 << 30).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        let error = create(&config, 0, &dir.path().join("large"), 1000).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{error}");
        assert!(error.to_string().contains("1802848 bytes"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
