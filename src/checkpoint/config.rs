//! `config.json`, read key by key with checked types and ranges.

use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// A JSON object of a model's configuration, with the path to it for messages.
#[derive(Clone, Debug)]
pub struct Config {
    file: String,
    path: String,
    object: Map<String, Value>,
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

    /// A finite number.
    pub fn number(&self, key: &str, default: Option<f64>) -> Result<f64> {
        let Some(value) = self.get(key) else {
            return default.ok_or_else(|| self.missing(key));
        };
        value
            .as_f64()
            .filter(|x| x.is_finite())
            .ok_or_else(|| self.wrong(key, value, "a number"))
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
