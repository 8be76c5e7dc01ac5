//! The coding sequences of an annotation.

use crate::io::gff::{self, Feature};
use std::collections::BTreeMap;

/// A coding sequence: its lines in the order in which it is read.
pub(super) struct Coding<'a> {
    pub parts: Vec<&'a Feature>,
    pub contig: usize,
    /// No frame to learn: a pseudogene, a length that is no multiple of three, or parts on both
    /// strands.
    pub broken: bool,
    pub partial: bool,
}

impl Coding<'_> {
    /// Bases of its parts.
    fn length(&self) -> u64 {
        length(&self.parts)
    }
}

/// The coding sequences of contigs, whose numbers `places` has by their names, the longest last
/// and broken ones first. Lines of one ID, or of one parent, on one contig are one sequence.
///
/// One with parts on both strands, as trans-splicing makes it, is broken: one warning says so.
pub(super) fn coding<'a>(
    features: &'a [Feature],
    places: &BTreeMap<&str, usize>,
) -> Vec<Coding<'a>> {
    let named = features
        .iter()
        .filter_map(|feature| Some((feature.attribute("ID")?, feature)));
    let by_id: BTreeMap<&str, &Feature> = named.filter(|(_, f)| f.kind != "CDS").collect();
    let circles = circles(features);
    let (mut all, mut spliced) = (Vec::new(), Vec::new());
    for (contig, parts) in grouped(features) {
        let Some(&place) = places.get(contig) else {
            continue;
        };
        let parts = in_order(parts, circles.contains_key(contig));
        let both = parts.iter().any(|part| part.reverse != parts[0].reverse);
        if both {
            spliced.extend(parts.iter().map(|part| part.line).min());
        }
        let owners = owners(parts[0], &by_id);
        let partial = owners.iter().any(|f| f.says("partial"));
        let odd = parts.len() == 1 && !partial && !length(&parts).is_multiple_of(3);
        all.push(Coding {
            broken: odd || both || owners.iter().any(|f| is_pseudo(f)),
            parts,
            contig: place,
            partial,
        });
    }
    if let Some(line) = spliced.iter().min() {
        tracing::warn!(
            "{} coding sequences have parts on both strands, as with trans-splicing, and are not \
             learned from: the first is in line {line}",
            spliced.len()
        );
    }
    all.sort_by_key(|coding| (!coding.broken, coding.length()));
    all
}

/// The contigs that are circles, and their bases: a feature of theirs says so.
pub fn circles(features: &[Feature]) -> BTreeMap<String, u64> {
    features.iter().filter_map(gff::circle).collect()
}

fn length(parts: &[&Feature]) -> u64 {
    let parts = parts.iter();
    parts.map(|part| part.region.end - part.region.start).sum()
}

/// The lines of each coding sequence, with its contig.
fn grouped(features: &[Feature]) -> impl Iterator<Item = (&str, Vec<&Feature>)> {
    let mut groups: BTreeMap<(&str, String), Vec<&Feature>> = BTreeMap::new();
    for feature in features.iter().filter(|feature| feature.kind == "CDS") {
        let keys = ["ID", "Parent", "transcript_id", "protein_id"];
        let key = keys.iter().find_map(|key| feature.attribute(key));
        let key = key.map_or_else(|| format!("line {}", feature.line), str::to_string);
        let contig = feature.region.contig.as_str();
        groups.entry((contig, key)).or_default().push(feature);
    }
    groups
        .into_iter()
        .map(|((contig, _), parts)| (contig, parts))
}

/// The parts as they are read. Those of a circle that meet at its origin go on there: what lies
/// before the widest gap comes last.
fn in_order(mut parts: Vec<&Feature>, circular: bool) -> Vec<&Feature> {
    parts.sort_by_key(|part| part.region.start);
    let meets = circular && parts[0].region.start == 0;
    let gap = |i: &usize| {
        let (before, after) = (&parts[i - 1].region, &parts[*i].region);
        after.start.saturating_sub(before.end)
    };
    if let Some(first) = (1..parts.len()).max_by_key(gap).filter(|_| meets) {
        parts.rotate_left(first);
    }
    if parts[0].reverse {
        parts.reverse();
    }
    parts
}

/// A part, and the features that it is a part of, and so on.
fn owners<'a>(part: &'a Feature, by_id: &BTreeMap<&str, &'a Feature>) -> Vec<&'a Feature> {
    /// Far above what annotations have, and an end where two features name each other.
    const MOST: usize = 64;
    let (mut owners, mut next) = (vec![part], 0);
    while let Some(feature) = owners.get(next).copied() {
        let parents = feature.parents.iter();
        owners.extend(parents.filter_map(|parent| by_id.get(parent.as_str()).copied()));
        owners.truncate(MOST);
        next += 1;
    }
    owners
}

fn is_pseudo(feature: &Feature) -> bool {
    let biotype = ["biotype", "gene_biotype", "transcript_biotype"];
    feature.kind.starts_with("pseudogen")
        || feature.says("pseudo")
        || feature.attribute("pseudogene").is_some()
        || biotype
            .iter()
            .filter_map(|key| feature.attribute(key))
            .any(|value| value.contains("pseudogene"))
}
