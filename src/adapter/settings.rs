//! What `adapter_config.json` says of the tensors beside it, in PEFT's keys.

use super::{BASE, OWN};
use crate::checkpoint::Config;
use crate::error::Result;
use regex::Regex;
use serde_json::Value;
use std::path::Path;

/// Initialisations after which the base model is what it was.
const PLAIN: [&str; 3] = ["gaussian", "eva", "orthogonal"];
/// Beginnings of those that take the first product out of the base model's weights: these weights
/// are not in the adapter's file.
const CHANGING: [&str; 5] = ["pissa", "olora", "loftq", "corda", "lora_ga"];
/// What would change the numbers, and is not computed: keys that must be absent, false or empty.
const UNSUPPORTED: [&str; 11] = [
    "alora_invocation_tokens",
    "arrow_config",
    "fan_in_fan_out",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
];
/// Keys that are read, and keys that matter to training alone.
const KNOWN: [&str; 29] = [
    "alpha_pattern",
    "auto_mapping",
    BASE,
    "bias",
    "corda_config",
    OWN,
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// The configuration of an adapter whose kind is known to be computed as PEFT does.
pub(super) struct Settings {
    /// As read.
    pub config: Config,
    ranks: Vec<Pattern>,
    alphas: Vec<Pattern>,
}

/// A key of a pattern, and the number that modules with such names have.
struct Pattern {
    key: String,
    names: Regex,
    number: f64,
}

impl Settings {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// Model, naming the key: what cannot be computed as PEFT does, and what is not as PEFT writes it.
    pub fn read(path: &Path) -> Result<Self> {
        let config = Config::read(path)?;
        let kind = config.text("peft_type", None)?;
        if kind != "LORA" {
            return Err(config.error("peft_type", format!("{kind}, but only LORA is supported")));
        }
        let nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(items) => items.is_empty(),
            _ => false,
        };
        for key in UNSUPPORTED {
            if let Some(value) = config.get(key).filter(|value| !nothing(value)) {
                let what = format!("{value}: adapters of that kind are not supported");
                return Err(config.error(key, what).todo(MERGE));
            }
        }
        config.deny_unknown(&[&KNOWN[..], &UNSUPPORTED].concat())?;
        initialisation(&config)?;
        let bias = config.text("bias", Some("none"))?;
        if !["none", "all", "lora_only"].contains(&bias.as_str()) {
            return Err(config.error(
                "bias",
                format!("{bias}, but expected none, all or lora_only"),
            ));
        }
        Ok(Self {
            ranks: patterns(&config, "rank_pattern")?,
            alphas: patterns(&config, "alpha_pattern")?,
            config,
        })
    }

    /// s of a module whose tensors have this rank: what the patterns say of it, else what all have.
    pub fn factor(&self, module: &str, rank: usize) -> Result<f64> {
        let of = |patterns: &[Pattern]| {
            let mut all = patterns.iter();
            all.find(|pattern| pattern.names.is_match(module) || pattern.key == module)
                .map(|pattern| pattern.number)
        };
        let (key, expected) = match of(&self.ranks) {
            Some(rank) => ("rank_pattern", rank),
            None => ("r", self.config.size("r", 1..=1 << 16, None)? as f64),
        };
        if expected != rank as f64 {
            let what = format!("{expected}, but the tensors of {module} have rank {rank}");
            return Err(self.config.error(key, what));
        }
        let alpha = match of(&self.alphas) {
            Some(alpha) => alpha,
            None => self.config.number("lora_alpha", None)?,
        };
        let over = if self.config.flag("use_rslora", Some(false))? {
            (rank as f64).sqrt()
        } else {
            rank as f64
        };
        Ok(alpha / over)
    }

    /// An error unless the configuration says that the module has an adapter: PEFT would leave the
    /// tensors of another one aside.
    pub fn expects(&self, module: &str) -> Result<()> {
        let refused = |key: &str| {
            let what = format!("leaves out {module}, of which there are tensors");
            Err(self.config.error(key, what))
        };
        if self.config.has("exclude_modules") && self.named("exclude_modules", module)?.is_some() {
            return refused("exclude_modules");
        }
        let all = self.config.get("target_modules").and_then(Value::as_str);
        if !self.config.has("target_modules") || all == Some("all-linear") {
            return Ok(());
        }
        match self.named("target_modules", module)? {
            None => refused("target_modules"),
            Some(Named::Ending) if !self.layer_is_chosen(module)? => refused("layers_to_transform"),
            Some(_) => Ok(()),
        }
    }

    /// How a list of names, or the one pattern that may stand in its place, names a module.
    fn named(&self, key: &str, module: &str) -> Result<Option<Named>> {
        if let Some(pattern) = self.config.get(key).and_then(Value::as_str) {
            let whole = expression(&self.config, key, &format!("^(?:{pattern})$"))?;
            return Ok(whole.is_match(module).then_some(Named::Whole));
        }
        let names = texts(&self.config, key)?;
        let ends = |name: &String| module.ends_with(&format!(".{name}"));
        Ok(if names.iter().any(|name| name == module) {
            Some(Named::Whole)
        } else {
            names.iter().any(ends).then_some(Named::Ending)
        })
    }

    /// Whether `layers_to_transform`, if it is there, has the number in the module's name.
    fn layer_is_chosen(&self, module: &str) -> Result<bool> {
        let key = "layers_to_transform";
        let chosen = match self.config.get(key) {
            None => return Ok(true),
            Some(Value::Number(one)) => vec![one.as_u64().unwrap_or(u64::MAX)],
            Some(_) => {
                let all = self.config.sizes(key, 0..=1 << 16)?;
                all.into_iter().map(|layer| layer as u64).collect()
            }
        };
        let mut above = texts(&self.config, "layers_pattern")?;
        if above.is_empty() {
            above.push("[^.]*".to_string());
        }
        for name in above {
            let number = format!(r"^.*\.{name}\.(\d+)\.");
            let number = expression(&self.config, "layers_pattern", &number)?;
            if let Some(found) = number.captures(module) {
                let found = found.get(1).and_then(|digits| digits.as_str().parse().ok());
                return Ok(found.is_some_and(|layer: u64| chosen.contains(&layer)));
            }
        }
        Ok(false)
    }

    /// Whether `modules_to_save` names a module that holds the tensor.
    pub fn saves(&self, tensor: &str) -> Result<bool> {
        let whole = format!(".{tensor}");
        let names = texts(&self.config, "modules_to_save")?;
        let mut names = names.iter();
        Ok(names.any(|name| whole.contains(&format!(".{name}."))))
    }
}

/// How a list names a module.
enum Named {
    /// By its whole name.
    Whole,
    /// By the end of its name.
    Ending,
}

/// What helps where an adapter cannot be read.
const MERGE: &str = "merge it with its base model in PEFT, and give the merged model";

fn initialisation(config: &Config) -> Result<()> {
    let key = "init_lora_weights";
    let kind = match config.get(key) {
        None | Some(Value::Bool(_)) => return Ok(()),
        Some(_) => config.text(key, None)?.to_lowercase(),
    };
    if PLAIN.contains(&kind.as_str()) {
        return Ok(());
    }
    let what = if CHANGING.iter().any(|name| kind.starts_with(name)) {
        format!("{kind} changes the base model, whose changed weights are not in the adapter")
    } else {
        format!("{kind} is no initialisation that is known")
    };
    Err(config.error(key, what).todo(MERGE))
}

/// The numbers by module of `alpha_pattern` and `rank_pattern`, whose keys are regular expressions
/// for the ends of modules' names.
fn patterns(config: &Config, key: &str) -> Result<Vec<Pattern>> {
    let patterns = config.object(key)?;
    let keys = patterns.keys().map(|name| {
        Ok(Pattern {
            key: name.to_string(),
            names: expression(&patterns, name, &format!(r"^(?:.*\.)?(?:{name})$"))?,
            number: patterns.number(name, None)?,
        })
    });
    keys.collect()
}

fn expression(config: &Config, key: &str, text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|e| {
        let reason = e.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim();
        config.error(
            key,
            format!("a regular expression that cannot be read ({reason})"),
        )
    })
}

/// A text or a list of texts; empty when absent.
fn texts(config: &Config, key: &str) -> Result<Vec<String>> {
    let Some(Value::Array(items)) = config.get(key) else {
        let one = config.text(key, Some(""))?;
        return Ok(if one.is_empty() {
            Vec::new()
        } else {
            vec![one]
        });
    };
    let text = |item: &Value| item.as_str().map(str::to_string);
    let all: Option<Vec<String>> = items.iter().map(text).collect();
    all.ok_or_else(|| config.error(key, "expected a list of texts"))
}
