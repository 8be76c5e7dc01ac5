//! Mates of a slice (CRAM specification, section 10.4), as samtools links them: what a record says
//! of its mate, and the signed length of the template.

use super::layout::bit;
use super::raw::Raw;
use crate::io::alignments::flag;
use std::collections::HashMap;

/// The mate is not aligned.
const MATE_UNMAPPED: u16 = 0x8;
/// The mate is stored as the reverse complement.
const MATE_REVERSE: u16 = 0x20;

/// Links the records of a slice; `flags` are their CRAM flags, if they are known.
pub fn link(records: &mut [Raw], flags: Option<&[u32]>) {
    let mut chained = vec![false; records.len()];
    for chain in flags
        .map(|flags| chains(records, flags))
        .unwrap_or_default()
    {
        chain.iter().for_each(|&i| chained[i] = true);
        link_chain(records, &chain);
    }
    for (record, _) in records.iter_mut().zip(chained).filter(|(_, is)| !is) {
        if record.flag() & flag::PAIRED == 0 {
            record.set_mate(-1, record.mate().1);
        }
    }
}

/// The records of each template of which every one but the last says that another follows.
fn chains(records: &[Raw], flags: &[u32]) -> Vec<Vec<usize>> {
    let mut open: HashMap<&[u8], Vec<usize>> = HashMap::new();
    let mut chains = Vec::new();
    for (i, (record, flags)) in records.iter().zip(flags).enumerate() {
        if flags & bit::DETACHED != 0 {
            continue;
        }
        if flags & bit::DOWNSTREAM != 0 {
            open.entry(record.name()).or_default().push(i);
        } else if let Some(mut chain) = open.remove(record.name()) {
            chain.push(i);
            chains.push(chain);
        }
    }
    chains
}

fn link_chain(records: &mut [Raw], chain: &[usize]) {
    let place = |i: usize| (records[i].contig(), records[i].start());
    let contig = records[chain[0]].contig();
    let left = chain.iter().map(|&i| records[i].start()).min();
    let left = left.unwrap_or_default();
    let right = chain.iter().map(|&i| records[i].end()).max();
    let count = |at: &dyn Fn(&Raw) -> bool| chain.iter().filter(|&&i| at(&records[i])).count();
    let leftmost = count(&|record| record.start() == left);
    let rightmost = count(&|record| Some(record.end()) == right);
    let apart = chain.iter().any(|&i| records[i].contig() != contig);
    let length = if apart {
        0
    } else {
        right.unwrap_or_default() - left
    };
    // The first one's sign is positive if it begins the template alone or ends before it does; of
    // records with the same bases, if it is the first read. All others have the other sign.
    let first = &records[chain[0]];
    let ends_before = Some(first.end()) < right;
    let is_first = rightmost > 1 && first.flag() & flag::FIRST != 0;
    let positive = first.start() == left && (leftmost == 1 || ends_before || is_first);
    let of = |i: usize| {
        if (i == chain[0]) == positive {
            length
        } else {
            -length
        }
    };
    let mut links = Vec::new();
    for (at, &i) in chain.iter().enumerate() {
        let mate = chain[(at + 1) % chain.len()];
        let theirs = records[mate].flag();
        let mut flags = records[i].flag() | flag::PAIRED;
        if theirs & flag::UNMAPPED != 0 {
            flags |= MATE_UNMAPPED;
        }
        if theirs & flag::REVERSE != 0 {
            flags |= MATE_REVERSE;
        }
        let aligned = (theirs | flags) & flag::UNMAPPED == 0;
        links.push((i, flags, place(mate), if aligned { of(i) } else { 0 }));
    }
    for (i, flags, (contig, start), template) in links {
        records[i].set_flag(flags);
        records[i].set_mate(contig, start);
        records[i].set_template(template);
    }
}
