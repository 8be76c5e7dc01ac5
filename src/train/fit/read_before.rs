//! What the model at the start had read: what is held out of a run may have trained it before.

use crate::train::DataFile;
use crate::train::card::some_of;
use serde_json::Value;

/// The files that a record lists, and those that the model before had read.
pub(super) fn files(record: &Value) -> Vec<Value> {
    let listed = ["read_by_the_start", "data"];
    let listed = listed.iter().filter_map(|key| record[*key].as_array());
    listed.flatten().cloned().collect()
}

/// What to say of a run that holds out, to choose or to test, what stands in files that trained the
/// model at the start. Regions that the model before held out too are none of it.
pub(super) fn warning(
    record: &Value,
    read: &[(&'static str, DataFile)],
    held_back: &[Vec<String>; 2],
) -> Option<String> {
    let before = files(record);
    let known = |file: &&(&'static str, DataFile)| {
        let same = |other: &Value| other["sha256"].as_str() == Some(&file.1.sha256);
        before.iter().any(same)
    };
    let spared: Vec<&str> = ["held_out", "tested"]
        .iter()
        .filter_map(|key| record[*key].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut found: Vec<String> = Vec::new();
    for (role, file) in read.iter().filter(known) {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let whole = *role != "FASTA";
        let regions = held_back.iter().flatten();
        let mut regions =
            regions.filter(|region| !spared.iter().any(|other| within(region, other)));
        if whole && *role == "table" || !whole && regions.next().is_none() {
            continue;
        }
        found.push(name.into_owned());
    }
    (!found.is_empty()).then(|| {
        format!(
            "the model at the start was trained on {}: what is held out of this run may have been \
             read before, and measures on it are too good",
            some_of(&found)
        )
    })
}

/// Whether a region, as `contig:first-last` or `contig`, lies within another one.
fn within(region: &str, other: &str) -> bool {
    let parts = |text: &str| {
        let (contig, range) = text.rsplit_once(':')?;
        let (first, last) = range.split_once('-')?;
        Some((
            contig.to_string(),
            first.parse::<u64>().ok()?,
            last.parse::<u64>().ok()?,
        ))
    };
    match (parts(region), parts(other)) {
        (Some(a), Some(b)) => a.0 == b.0 && a.1 >= b.1 && a.2 <= b.2,
        (Some((contig, ..)), None) => contig == other,
        _ => region == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::PathBuf;

    #[test]
    fn what_the_model_at_the_start_has_read_is_no_test_unless_it_held_it_out_too() {
        let record = json!({
            "data": [{"file": "a.fa", "sha256": "1"}],
            "held_out": ["a:101-200"], "tested": ["b"],
        });
        let file = |sha: &str| {
            let file = DataFile {
                path: PathBuf::from("x/a.fa"),
                sha256: sha.to_string(),
                size: 1,
            };
            [("FASTA", file)]
        };
        let regions = |region: &str| [vec![region.to_string()], vec![]];
        let warned = |sha: &str, region: &str| warning(&record, &file(sha), &regions(region));
        assert!(warned("1", "a:1-50").is_some_and(|text| text.contains("trained on a.fa:")));
        assert!(warned("1", "a:150-250").is_some());
        assert_eq!(warned("1", "a:120-180"), None);
        assert_eq!(warned("1", "b:5-9"), None);
        assert_eq!(warned("2", "a:1-50"), None);
        assert_eq!(warning(&record, &file("1"), &[vec![], vec![]]), None);
    }
}
