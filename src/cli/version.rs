//! `version`: what this program is, and what it finds on this machine.

use super::process::print;
use crate::error::Result;
use crate::ops::{cuda, math};
use crate::run::libraries;
use serde_json::{Value, json};
use std::path::Path;

/// Options of `crocuta version`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  crocuta version\n  crocuta version --json | jq .cuda")]
pub struct Version {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Version {
    /// Runs the command.
    ///
    /// # Errors
    /// Those of [`print`].
    pub fn run(&self) -> Result<()> {
        let found = found();
        if self.json {
            print(&format!("{found:#}\n"))
        } else {
            print(&described(&found))
        }
    }
}

fn found() -> Value {
    libraries::open();
    let (gpus, problem) = match cuda::devices() {
        Ok(names) => (names, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let libraries = cuda::libraries_found();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let libraries = libraries.into_iter().map(
        |(name, present)| json!({"name": name, "found": present, "path": mapped(&maps, name)}),
    );
    let features = [
        ("hub", cfg!(feature = "hub")),
        ("htslib", cfg!(feature = "htslib")),
    ];
    let features = features.iter().filter(|(_, on)| *on).map(|(name, _)| *name);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("CROCUTA_COMMIT"),
        "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        "features": features.collect::<Vec<_>>(),
        "simd": math::instructions(),
        "cuda": {
            "gpus": gpus,
            "problem": problem,
            "libraries": libraries.collect::<Vec<_>>(),
        },
    })
}

/// The file from which a library was opened, as the system's list of mapped files has it.
fn mapped<'a>(maps: &'a str, library: &str) -> Option<&'a str> {
    let start = format!("{library}.so");
    let paths = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]));
    let mut paths = paths.filter(|path| {
        let name = Path::new(path).file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(&start))
    });
    paths.next()
}

/// The same in lines of `name: value`.
fn described(found: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or("unknown".to_string(), str::to_string);
    let list = |value: &Value| {
        let words: Vec<&str> = value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if words.is_empty() {
            "none".to_string()
        } else {
            words.join(", ")
        }
    };
    let mut lines = String::new();
    for name in ["version", "commit", "target", "simd"] {
        lines += &format!("{name}: {}\n", text(&found[name]));
    }
    lines += &format!("features: {}\n", list(&found["features"]));
    let cuda = &found["cuda"];
    lines += &format!("GPUs: {}", list(&cuda["gpus"]));
    lines += &cuda["problem"]
        .as_str()
        .map_or("\n".to_string(), |why| format!(" ({why})\n"));
    for library in cuda["libraries"].as_array().into_iter().flatten() {
        let place = match (library["path"].as_str(), library["found"] == true) {
            (Some(path), _) => path,
            (None, true) => "found",
            (None, false) => "not found",
        };
        lines += &format!("{}: {place}\n", text(&library["name"]));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_found_where_the_system_mapped_it() {
        let maps = "7f-80 r--p 00000000 08:01 1  /opt/a b/libcublasLt.so.13.0\n\
                    80-81 r--p 00000000 08:01 2  /opt/libcublas.so.13\n81-82 rw-p 0 00:00 0 [heap]\n";
        assert_eq!(mapped(maps, "libcublas"), Some("/opt/libcublas.so.13"));
        assert_eq!(
            mapped(maps, "libcublasLt"),
            Some("/opt/a b/libcublasLt.so.13.0")
        );
        assert_eq!(mapped(maps, "libcufft"), None);
    }
}
