//! A Transformer with a cheaper attention and the same weights: what is approximated is how tokens
//! meet, not what was learned. How much that costs is measured on the user's sequence; some of it
//! comes back by training (`crocuta fit --lora`).

use super::compare::{CHECK_BASES, Check, Compared, OutputError, compare, trained};
use crate::checkpoint::{self, Architecture, Changes, Checkpoint, Staging, Weights};
use crate::encoder::transformer::{AttentionKind, Hyperparameters};
use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Taps of Nyström's convolution, which begins at zero and is trained.
const TAPS: usize = 33;

/// An attention that costs less than the exact one over all tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cheaper {
    /// Over so many tokens.
    Sliding(usize),
    /// By so many random features.
    Performer(usize),
    /// By so many landmarks.
    Nystrom(usize),
}

impl FromStr for Cheaper {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, size) = text
            .split_once(':')
            .map_or((text, None), |(a, b)| (a, Some(b)));
        let sized = |default: usize, most: usize| match size.map(str::parse) {
            None => Ok(default),
            Some(Ok(size)) if (1..=most).contains(&size) => Ok(size),
            Some(_) => Err(format!("expected {name}:N with N from 1 to {most}")),
        };
        match name {
            "sliding" => sized(256, 1 << 40).map(Self::Sliding),
            "performer" => sized(256, 1 << 16).map(Self::Performer),
            "nystrom" => sized(64, 1 << 12).map(Self::Nystrom),
            _ => Err("expected sliding, performer or nystrom, as sliding:512".to_string()),
        }
    }
}

impl fmt::Display for Cheaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sliding(window) => write!(f, "the {window} last tokens"),
            Self::Performer(features) => write!(f, "{features} random features"),
            Self::Nystrom(landmarks) => write!(f, "{landmarks} landmarks"),
        }
    }
}

/// How far the converted model is from its original.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionReport {
    /// What attention became.
    pub attention: Cheaper,
    /// Bases of the sequences that were compared, at most.
    pub length: usize,
    /// Of the hidden vectors.
    pub output: OutputError,
    /// Bits a base of the original and of the converted model, if it reads in one direction.
    pub bits: Option<[f64; 2]>,
    /// Bytes of state of each after a sequence of that length.
    pub state: [u64; 2],
}

/// Puts a cheaper attention into the Transformer `source`, measures the error on `check`, or on
/// random bases, in sequences of the trained length, and writes the model to the new directory
/// `out`, with `attention.json`.
///
/// Returns the report and the SHA-256 of `model.safetensors`. Memory: the weights twice.
///
/// # Errors
/// Usage: the source is no Transformer with exact attention, or looks the other way.
pub fn cheaper_attention(
    source: &Checkpoint,
    attention: Cheaper,
    check: Option<Check>,
    out: &Path,
) -> Result<(AttentionReport, String)> {
    if source.architecture != Architecture::Transformer {
        let what = "only the attention of a crocuta-transformer can be replaced";
        let error = Error::usage(what).file(source.dir.display());
        return Err(error.todo("of other models --attention-window bounds it at each run"));
    }
    let sizes = Hyperparameters::read(&source.config)?;
    let config = changed(&sizes, attention).map_err(|error| error.file(source.dir.display()))?;
    let staging = Staging::begin(out)?;
    let tensors = added(&sizes, attention)?;
    let mut converted = source.with(with(source, &tensors, out));
    let mut object = source.config.as_json().clone();
    object.extend(config.clone());
    converted.config = checkpoint::Config::new("config.json", object);
    let models = [Compared::load(source)?, Compared::load(&converted)?];
    let length = trained([&models[0], &models[1]]);
    let check = check
        .unwrap_or_else(|| Check::random(CHECK_BASES))
        .cut(length);
    let (output, bits) = compare([&models[0], &models[1]], &check)?;
    let longest = check.sequences.iter().map(Vec::len).max().unwrap_or(0);
    let state = [&models[0], &models[1]].map(|compared| {
        let facts = &compared.facts;
        (facts.state_bytes + facts.token_bytes.saturating_mul(longest)) as u64
    });
    let report = AttentionReport {
        attention,
        length: longest,
        output,
        bits,
        state,
    };
    let text = format!("{:#}\n", report.to_json(source));
    let changes = Changes {
        config,
        tensors,
        files: vec![("attention.json", text)],
    };
    let digest = checkpoint::write_model(staging, source, changes, |_| Ok(()))?;
    Ok((report, digest))
}

/// The keys of `config.json` that change.
fn changed(sizes: &Hyperparameters, attention: Cheaper) -> Result<Map<String, Value>> {
    let keys = match (sizes.attention, attention) {
        (AttentionKind::Causal(now), Cheaper::Sliding(window)) => {
            narrower(now, window)?;
            json!({"attention": "sliding", "window": window})
        }
        (AttentionKind::Bidirectional(now), Cheaper::Sliding(window)) => {
            narrower(now, window)?;
            json!({"window": window})
        }
        (AttentionKind::Causal(None), Cheaper::Performer(features)) => {
            json!({"attention": "performer", "features": features})
        }
        (AttentionKind::Bidirectional(None), Cheaper::Nystrom(landmarks)) => {
            json!({"attention": "nystrom", "landmarks": landmarks, "conv_size": TAPS})
        }
        (AttentionKind::Causal(_) | AttentionKind::Performer(_), Cheaper::Nystrom(_)) => {
            let error = Error::usage("Nyström attention sees both sides, and the model one");
            return Err(error.todo("give sliding or performer"));
        }
        (AttentionKind::Bidirectional(_), Cheaper::Performer(_)) => {
            let error = Error::usage("Performer attention sees one side, and the model both");
            return Err(error.todo("give sliding or nystrom"));
        }
        _ => {
            let error = Error::usage("the model's attention is not the exact one over all tokens");
            return Err(error.todo("convert the model that it was made of"));
        }
    };
    match keys {
        Value::Object(keys) => Ok(keys),
        _ => Ok(Map::new()),
    }
}

/// An error unless a window is narrower than what there is.
fn narrower(now: Option<usize>, window: usize) -> Result<()> {
    match now {
        Some(now) if window >= now => {
            let what = format!("the model's attention sees no more than {now} tokens as it is");
            Err(Error::usage(what).todo(format!("give sliding:N with N below {now}")))
        }
        _ => Ok(()),
    }
}

/// The tensors that an approximation has besides.
fn added(sizes: &Hyperparameters, attention: Cheaper) -> Result<BTreeMap<String, Tensor>> {
    let (heads, width) = (sizes.heads, sizes.width / sizes.heads);
    let mut rng = StdRng::seed_from_u64(0);
    let each = (0..sizes.layers).filter_map(|layer| {
        let at = format!("layers.{layer}.attention");
        match attention {
            Cheaper::Sliding(_) => None,
            Cheaper::Performer(count) => {
                let values = orthogonal(count, width, &mut rng);
                let tensor = Tensor::from_vec(values, (count, width), &Device::Cpu);
                Some((format!("{at}.features"), tensor))
            }
            Cheaper::Nystrom(_) => {
                let tensor =
                    Tensor::from_vec(vec![0f32; heads * TAPS], (heads, 1, TAPS), &Device::Cpu);
                Some((format!("{at}.conv.weight"), tensor))
            }
        }
    });
    each.map(|(name, tensor)| Ok((name, tensor?))).collect()
}

/// Normal vectors that are orthogonal within each run of `width`, with lengths as of independent
/// ones: an estimate of the same mean with less variance (Choromanski et al. 2020, section 2.4).
fn orthogonal(count: usize, width: usize, rng: &mut StdRng) -> Vec<f32> {
    let mut normal = |n: usize| -> Vec<f64> {
        let mut draw = || -> f64 { StandardNormal.sample(rng) };
        (0..n).map(|_| draw()).collect()
    };
    let mut rows: Vec<f32> = Vec::with_capacity(count * width);
    let mut run: Vec<Vec<f64>> = Vec::with_capacity(width);
    while rows.len() < count * width {
        if run.len() == width {
            run.clear();
        }
        let mut row = normal(width);
        for other in &run {
            let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
            row.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
        }
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
        let length = normal(width).iter().map(|x| x * x).sum::<f64>().sqrt();
        rows.extend(row.iter().map(|x| (x * length) as f32));
        run.push(row);
    }
    rows
}

fn with(source: &Checkpoint, tensors: &BTreeMap<String, Tensor>, out: &Path) -> Weights {
    let all = source.weights.stored().iter().chain(tensors);
    let all = all.map(|(name, tensor)| (name.clone(), tensor.clone()));
    Weights::new(out.display(), all.collect())
}

impl AttentionReport {
    /// The report as it is stored.
    fn to_json(&self, source: &Checkpoint) -> Value {
        let bits = self
            .bits
            .map(|[original, converted]| json!({ "original": original, "converted": converted }));
        json!({
            "original": { "name": source.name, "sha256": source.digest.get() },
            "attention": self.attention.to_string(),
            "output": {
                "sequence": self.output.sequence,
                "bases": self.output.bases,
                "longest": self.length,
                "largest_difference": self.output.largest,
                "rms_difference": self.output.rms,
            },
            "bits_per_base": bits,
            "state_bytes": { "original": self.state[0], "converted": self.state[1] },
        })
    }
}

impl fmt::Display for AttentionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "attention by {}, in sequences of up to {} bases",
            self.attention, self.length
        )?;
        writeln!(f, "{}", self.output)?;
        if let Some([original, converted]) = self.bits {
            writeln!(f, "bits a base: {original:.4} before, {converted:.4} after")?;
        }
        writeln!(
            f,
            "bytes of state: {} before, {} after",
            self.state[0], self.state[1]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Config, create};

    fn made(dir: &Path, attention: &str) -> Checkpoint {
        let config = json!({
            "model_type": "crocuta-transformer", "hidden_size": 32, "num_layers": 2,
            "num_heads": 2, "initializer_range": 0.2, "max_seq_len": 200, "attention": attention
        });
        let out = dir.join(attention);
        let config = Config::parse("config.json", &config.to_string()).unwrap();
        create(&config, 1, &out, 1 << 30).unwrap();
        Checkpoint::open(&out).unwrap()
    }

    fn convert(source: &Checkpoint, text: &str, out: &Path) -> Result<AttentionReport> {
        let check = Some(Check::random(450));
        Ok(cheaper_attention(source, text.parse().unwrap(), check, out)?.0)
    }

    #[test]
    fn more_of_the_same_comes_closer_and_the_error_is_that_of_the_new_model() {
        let dir = tempfile::tempdir().unwrap();
        for (kind, few, many, all) in [
            ("causal", "sliding:8", "sliding:100", Some("sliding:200")),
            ("causal", "performer:16", "performer:4096", None),
            (
                "bidirectional",
                "sliding:8",
                "sliding:100",
                Some("sliding:200"),
            ),
            ("bidirectional", "nystrom:2", "nystrom:64", None),
        ] {
            let at = dir.path().join(few.replace(':', "-") + kind);
            std::fs::create_dir(&at).unwrap();
            let source = made(&at, kind);
            let error = |text: &str| {
                let report = convert(&source, text, &at.join(text.replace(':', "-"))).unwrap();
                assert_eq!((report.output.bases, report.length), (450, 200));
                assert_eq!(report.bits.is_some(), kind == "causal");
                report
            };
            let (few, many) = (error(few), error(many));
            assert!(many.output.rms < few.output.rms / 2.0, "{few:?} {many:?}");
            if let Some(all) = all {
                let report = error(all);
                assert!(report.output.largest < 1e-6, "{report:?}");
                assert!(report.bits.is_none_or(|[a, b]| (a - b).abs() < 1e-6));
            }
        }
    }

    #[test]
    fn what_looks_the_other_way_or_is_approximate_already_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let causal = made(dir.path(), "causal");
        let both = made(dir.path(), "bidirectional");
        let performer = made(dir.path(), "performer");
        for (source, attention, words) in [
            (&causal, "nystrom", "sees both sides"),
            (&both, "performer", "sees one side"),
            (&performer, "sliding", "not the exact one"),
            (&performer, "performer", "not the exact one"),
        ] {
            let error = convert(source, attention, &dir.path().join("out")).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Usage);
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(narrower(Some(64), 64).is_err() && narrower(Some(64), 63).is_ok());
        for text in ["sliding:0", "sliding:x", "linformer", "performer:"] {
            assert!(text.parse::<Cheaper>().is_err(), "{text}");
        }
        assert_eq!("nystrom".parse(), Ok(Cheaper::Nystrom(64)));
    }

    #[test]
    fn features_are_orthogonal_within_runs_and_as_long_as_normal_ones() {
        let width = 16;
        let rows = orthogonal(20 * width, width, &mut StdRng::seed_from_u64(3));
        let row = |i: usize| &rows[i * width..][..width];
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        for i in 0..width {
            for j in 0..i {
                assert!(dot(row(i), row(j)).abs() < 1e-4);
            }
        }
        let squares: f32 = rows.iter().map(|x| x * x).sum();
        assert!((squares / rows.len() as f32 - 1.0).abs() < 0.1);
    }
}
