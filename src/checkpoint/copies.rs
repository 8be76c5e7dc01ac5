//! Two copies of a model's weights in one file.

use crate::checkpoint::is_embedding;
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// An error if tensors of these names are two copies of a model's, as of its weights and of their
/// means over the training: which is meant, only the user knows.
pub fn one_copy<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
    let below = |prefix: &str| -> BTreeSet<&str> {
        let names = names.clone();
        names.filter_map(|name| name.strip_prefix(prefix)).collect()
    };
    let embeddings: Vec<&str> = names.clone().filter(|name| is_embedding(name)).collect();
    for (i, a) in embeddings.iter().enumerate() {
        for b in &embeddings[i + 1..] {
            let (Some(a), Some(b)) = apart(a, b) else {
                continue;
            };
            let (first, second) = (below(a), below(b));
            let both = first.intersection(&second).count();
            if both > 1 && 2 * both >= first.len().min(second.len()) {
                return Err(two_copies(&format!("{a}*"), &format!("{b}*")));
            }
        }
    }
    Ok(())
}

/// The error for weights that are there twice.
pub fn two_copies(a: &str, b: &str) -> Error {
    let error = Error::model(format!("two copies of the weights: {a} and {b}"));
    error.todo("keep the tensors of one of them in the file")
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
