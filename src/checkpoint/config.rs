//! `config.json`, read key by key with checked types and ranges.

use crate::error::{Error, Result};
use crate::io::input::without_mark;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::Path;

/// Published files have a few kB; this is far above and bounds the memory.
const MAX_BYTES: u64 = 1 << 24;

/// A JSON object of a model's configuration, with the path to it for messages.
#[derive(Clone, Debug)]
pub struct Config {
    file: String,
    path: String,
    object: Map<String, Value>,
}

/// The text of a small file of a model, of at most 16 MiB and a byte.
pub(super) fn text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    match file.take(MAX_BYTES + 1).read_to_string(&mut text) {
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            let error = Error::model("is not UTF-8").file(path.display());
            Err(error.caused_by(e))
        }
        Err(e) => Err(Error::io(path, &e)),
        Ok(_) => Ok(text),
    }
}

impl Config {
    /// The object `object` that was read from `file`.
    pub fn new(file: impl Display, object: Map<String, Value>) -> Self {
        Self {
            file: file.to_string(),
            path: String::new(),
            object,
        }
    }

    /// Reads the JSON object in the file at `path`, of at most 16 MiB and 127 levels.
    ///
    /// Python writes `Infinity`, `-Infinity` and `NaN` bare, which is not JSON, and transformers
    /// since 5 as `{"__float__": "Infinity"}`: both are read as the texts of that name, so that a
    /// key of which a number is asked refuses them.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path.display(), &text(path)?)
    }

    /// The JSON object `text` that was read from `file`; as [`Config::read`].
    pub fn parse(file: impl Display, text: &str) -> Result<Self> {
        if text.len() as u64 > MAX_BYTES {
            return Err(Error::model(format!("longer than {MAX_BYTES} bytes")).file(file));
        }
        let text = quote_bare_numbers(without_mark(text));
        let mut object: Map<String, Value> = serde_json::from_str(&text).map_err(|e| {
            let what = format!("not a JSON object: {e}");
            Error::model(what).file(&file).caused_by(e)
        })?;
        object.values_mut().for_each(untag);
        Ok(Self::new(file, object))
    }

    /// Is the key there, and not null?
    pub fn has(&self, key: &str) -> bool {
        self.object.get(key).is_some_and(|value| !value.is_null())
    }

    /// A whole number in `range`. `None`: the key is required; `Some`: its value when absent.
    pub fn size(
        &self,
        key: &str,
        range: RangeInclusive<usize>,
        default: Option<usize>,
    ) -> Result<usize> {
        let Some(value) = self.get(key) else {
            return default.ok_or_else(|| self.missing(key));
        };
        value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| range.contains(n))
            .ok_or_else(|| {
                let (low, high) = range.into_inner();
                self.wrong(key, value, format!("a whole number from {low} to {high}"))
            })
    }

    /// A number that float32 can hold: what is computed is that.
    pub fn number(&self, key: &str, default: Option<f64>) -> Result<f64> {
        let Some(value) = self.get(key) else {
            return default.ok_or_else(|| self.missing(key));
        };
        value
            .as_f64()
            .filter(|x| (*x as f32).is_finite())
            .ok_or_else(|| self.wrong(key, value, "a number"))
    }

    /// What a norm adds to the variance: from 0 to 1.
    pub fn epsilon(&self, key: &str, default: f64) -> Result<f64> {
        let epsilon = self.number(key, Some(default))?;
        if (0.0..=1.0).contains(&epsilon) {
            Ok(epsilon)
        } else {
            Err(self.error(key, format!("{epsilon}, but expected a number from 0 to 1")))
        }
    }

    /// A truth value.
    pub fn flag(&self, key: &str, default: Option<bool>) -> Result<bool> {
        let Some(value) = self.get(key) else {
            return default.ok_or_else(|| self.missing(key));
        };
        value
            .as_bool()
            .ok_or_else(|| self.wrong(key, value, "true or false"))
    }

    /// A text.
    pub fn text(&self, key: &str, default: Option<&str>) -> Result<String> {
        let Some(value) = self.get(key) else {
            return default.map(str::to_string).ok_or_else(|| self.missing(key));
        };
        value
            .as_str()
            .map(str::to_string)
            .ok_or_else(|| self.wrong(key, value, "a text"))
    }

    /// A list of whole numbers, each in `range`; empty when absent.
    pub fn sizes(&self, key: &str, range: RangeInclusive<usize>) -> Result<Vec<usize>> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let wrong = || self.wrong(key, value, format!("a list of whole numbers in {range:?}"));
        value
            .as_array()
            .ok_or_else(wrong)?
            .iter()
            .map(|item| {
                item.as_u64()
                    .and_then(|n| usize::try_from(n).ok())
                    .filter(|n| range.contains(n))
                    .ok_or_else(wrong)
            })
            .collect()
    }

    /// The object under `key`; empty when absent.
    pub fn object(&self, key: &str) -> Result<Config> {
        let object = match self.get(key) {
            None => Map::new(),
            Some(Value::Object(object)) => object.clone(),
            Some(value) => return Err(self.wrong(key, value, "an object")),
        };
        Ok(Config {
            file: self.file.clone(),
            path: self.key_path(key),
            object,
        })
    }

    /// The keys of this object.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.object.keys().map(String::as_str)
    }

    /// The value as read; `None` when absent or null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// The object itself.
    pub fn as_json(&self) -> &Map<String, Value> {
        &self.object
    }

    /// The object as Python would write it: bare `Infinity` and `NaN` again.
    pub fn to_text(&self) -> String {
        let mut text = format!("{:#}\n", Value::Object(self.object.clone()));
        for word in BARE {
            text = text.replace(&format!("\"{word}\""), word);
        }
        text
    }

    /// An error for a key that is likely a misspelt one of `known`, which would silently mean its
    /// default. Other keys that are neither in `known`, nor written by transformers into every
    /// file, nor private (`_…`), are warned of: published files hold many that nothing reads.
    pub fn deny_unknown(&self, known: &[&str]) -> Result<()> {
        let generic = TRANSFORMERS.split_whitespace().collect::<Vec<_>>();
        for key in self.keys() {
            if key.starts_with('_') || known.contains(&key) || generic.contains(&key) {
                continue;
            }
            if key == "quantization_config" {
                return Err(self.error(key, "quantised weights are not supported"));
            }
            let misspelt = |name: &&&str| (1..=2.min(key.len() / 3)).contains(&distance(key, name));
            if let Some(name) = known.iter().find(misspelt) {
                let error = self.error(key, "unknown key");
                return Err(error.todo(format!("is {name} meant?")));
            }
            tracing::warn!("{}", self.error(key, "unknown key, which is ignored"));
        }
        Ok(())
    }

    /// An error about `key`.
    pub fn error(&self, key: &str, what: impl Display) -> Error {
        Error::model(what)
            .file(&self.file)
            .place(format!("key {}", self.key_path(key)))
    }

    fn missing(&self, key: &str) -> Error {
        self.error(key, "missing")
    }

    fn wrong(&self, key: &str, value: &Value, expected: impl Display) -> Error {
        let mut shown = value.to_string();
        if shown.len() > 60 {
            shown = shown.chars().take(60).collect::<String>() + "…";
        }
        self.error(key, format!("{shown}, but expected {expected}"))
    }

    fn key_path(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_string(),
            path => format!("{path}.{key}"),
        }
    }
}

/// Numbers that Python writes and JSON lacks.
const BARE: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// `text` with the numbers that Python writes and JSON lacks in quotes.
fn quote_bare_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    let (mut quoted, mut escaped) = (false, false);
    while let Some(c) = rest.chars().next() {
        if !quoted && let Some(word) = BARE.into_iter().find(|word| rest.starts_with(word)) {
            out.extend(['"'].into_iter().chain(word.chars()).chain(['"']));
            rest = &rest[word.len()..];
            continue;
        }
        match c {
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// Replaces each `{"__float__": x}` within `value` by x. Values are at most 127 deep.
fn untag(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(untag),
        Value::Object(object) => match (object.len(), object.get_mut("__float__")) {
            (1, Some(number)) => *value = number.take(),
            _ => object.values_mut().for_each(untag),
        },
        _ => {}
    }
}

/// Levenshtein's distance, in bytes. Keys longer than any real one are simply far.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 100 {
        return a.len();
    }
    let mut row = (0..=b.len()).collect::<Vec<_>>();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let cost = (diagonal + usize::from(x != y))
                .min(row[j] + 1)
                .min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[b.len()]
}

/// Keys of `PretrainedConfig`, written by transformers 4.38 to 5.23 into any model's file. None
/// changes a forward pass here. `quantization_config` would, and is therefore not among them.
const TRANSFORMERS: &str = "
    add_cross_attention architectures auto_map bad_words_ids begin_suppress_tokens bos_token_id
    chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id diversity_penalty
    do_sample dtype early_stopping encoder_no_repeat_ngram_size eos_token_id
    exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id
    id2label is_decoder is_encoder_decoder label2id length_penalty max_length min_length model_type
    no_repeat_ngram_size num_beam_groups num_beams num_labels num_return_sequences
    output_attentions output_hidden_states output_scores pad_token_id prefix problem_type
    pruned_heads remove_invalid_values repetition_penalty return_dict return_dict_in_generate
    sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss
    tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p torch_dtype torchscript
    transformers_version typical_p use_bfloat16 use_cache
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse("config.json", text)
    }

    #[test]
    fn infinity_is_read_but_is_not_a_number() {
        let text =
            r#"{"limit": [0.0, Infinity], "low": -Infinity, "nan": NaN, "s": "NaN \\\" NaN"}"#;
        let config = parse(text).unwrap();
        let tagged =
            r#"{"limit": [0.0, {"__float__": "Infinity"}], "low": {"__float__": "-Infinity"}}"#;
        let tagged = parse(tagged).unwrap();
        for key in ["limit", "low"] {
            assert_eq!(tagged.get(key), config.get(key));
        }
        assert_eq!(config.get("limit").unwrap()[1], "Infinity");
        assert_eq!(config.text("s", None).unwrap(), "NaN \\\" NaN");
        assert_eq!(
            parse(&config.to_text()).unwrap().as_json(),
            config.as_json()
        );
        assert!(config.to_text().contains(": -Infinity"));
        for key in ["low", "nan"] {
            let error = config.number(key, None).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Model, "{error}");
            let error = error.to_string();
            assert!(error.contains(&format!("key {key}")), "{error}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        let config = parse("\u{feff}{\"d\": 1}").unwrap();
        assert_eq!(config.size("d", 1..=1, None).unwrap(), 1);
    }

    #[test]
    fn what_is_not_a_shallow_object_is_an_error() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "[]",
            "1",
            "{",
            "{}x",
            &format!("{{\"a\":{deep}"),
            &"{\"a\":".repeat(100_000),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Model, "{error}");
        }
    }

    #[test]
    fn values_of_the_wrong_kind_name_their_key() {
        let config = parse(r#"{"ssm_cfg": {"d": "8", "zero": 0, "huge": 1000000000000}}"#).unwrap();
        let ssm = config.object("ssm_cfg").unwrap();
        for key in ["d", "zero", "huge", "absent"] {
            let error = ssm.size(key, 1..=65536, None).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Model, "{error}");
            let error = error.to_string();
            assert!(error.contains(&format!("key ssm_cfg.{key}")), "{error}");
        }
    }

    #[test]
    fn a_misspelt_key_is_an_error_with_the_right_name_and_other_unknown_keys_a_warning() {
        let known = ["d_model", "n_layer", "time_step_rank"];
        for (misspelt, meant) in [("d_modle", "d_model"), ("n_layers", "n_layer")] {
            let config = parse(&format!(r#"{{"use_cache": true, "{misspelt}": 8}}"#)).unwrap();
            let error = config.deny_unknown(&known).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Model, "{error}");
            let error = error.to_string();
            let words = [format!("key {misspelt}"), format!("{meant} meant")];
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        let config = parse(r#"{"_name_or_path": "x", "time_step_scale": 1, "new": 1}"#).unwrap();
        let (checked, said) = crate::io::testing::logged(|| config.deny_unknown(&known));
        checked.unwrap();
        assert!(said.contains("key time_step_scale: unknown key") && said.contains("key new"));
        assert!(!said.contains("_name_or_path"));
        let config = parse(r#"{"quantization_config": {}}"#).unwrap();
        assert!(config.deny_unknown(&known).is_err());
    }
}
