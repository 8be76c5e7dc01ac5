//! Two copies of a model's weights in one file.

use super::super::is_embedding;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// An error if the tensors are two copies of a model's, as of its weights and of their means over
/// the training: which is meant, only the user knows.
pub(super) fn one_copy(tensors: &BTreeMap<String, candle_core::Tensor>) -> Result<()> {
    let below = |prefix: &str| -> BTreeSet<&str> {
        let names = tensors.keys();
        names.filter_map(|name| name.strip_prefix(prefix)).collect()
    };
    let embeddings: Vec<&String> = tensors.keys().filter(|name| is_embedding(name)).collect();
    for (i, a) in embeddings.iter().enumerate() {
        for b in &embeddings[i + 1..] {
            let (Some(a), Some(b)) = apart(a, b) else {
                continue;
            };
            let (first, second) = (below(a), below(b));
            let both = first.intersection(&second).count();
            if both > 1 && 2 * both >= first.len().min(second.len()) {
                let what = format!("two copies of the weights: {a}* and {b}*");
                let todo = "keep the tensors of one of them in the file";
                return Err(Error::model(what).todo(todo));
            }
        }
    }
    Ok(())
}

/// The beginnings of two names, each with its dot or empty, before the parts that they end with
/// alike; none if they end differently.
fn apart<'a>(a: &'a str, b: &'a str) -> (Option<&'a str>, Option<&'a str>) {
    let parts = |name: &'a str| name.split_inclusive('.').rev();
    let alike = parts(a).zip(parts(b)).take_while(|(a, b)| a == b);
    let length: usize = alike.map(|(part, _)| part.len()).sum();
    let before = |name: &'a str| (length > 0).then(|| &name[..name.len() - length]);
    (before(a), before(b))
}
