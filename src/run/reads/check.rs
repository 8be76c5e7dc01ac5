//! What a run over reads would take, and which records a shard has.

use super::{OpenReads, Reads};
use crate::error::Result;
use crate::io::alignments::{Alignments, flag};
use crate::run::plan;
use crate::sequence::shard::{Blocks, Shard};

/// Records of a block, of which shards take one after the other in turn, where nothing tells how
/// many records there are.
const BLOCK: u64 = 1 << 12;

impl Reads {
    /// The records of a shard: consecutive ones if an index says how many there are.
    pub(super) fn blocks(&self, source: &Alignments, shard: Shard) -> Result<Blocks> {
        let records = source.indexed_records(&self.reads)?;
        let size = records.map_or(BLOCK, |records| records.div_ceil(shard.of).max(1));
        Ok(Blocks { shard, size })
    }
}

/// Counts the records, and measures: of the whole run, or of each shard.
pub(super) fn describe(options: &Reads, opened: &mut OpenReads) -> Result<String> {
    let shards: Vec<Shard> = options.sharding.all().into_iter().flatten().collect();
    let size = match shards.first() {
        Some(&shard) => options.blocks(&opened.source, shard)?.size,
        None => 1,
    };
    // Reads and bases of each shard.
    let mut of_shards = vec![(0, 0); shards.len()];
    let (mut records, mut reads, mut bases, mut longest) = (0u64, 0, 0, 0);
    while let Some(record) = opened.source.next_record()? {
        let place = records;
        records += 1;
        let elsewhere = opened.blocks.is_some_and(|blocks| !blocks.has(place));
        let left_out = [flag::SECONDARY, flag::SUPPLEMENTARY];
        let left_out = left_out.iter().any(|&bit| record.has(bit));
        if elsewhere || (left_out && !options.all_alignments) {
            continue;
        }
        let length = record.len() as u64;
        let windows = opened.session.windows;
        let read = length + windows.map_or(0, |windows| windows.shared(length));
        (reads, bases, longest) = (reads + 1, bases + read, longest.max(length));
        if !shards.is_empty() {
            let of_shard = &mut of_shards[(place / size) as usize % shards.len()];
            *of_shard = (of_shard.0 + 1, of_shard.1 + read);
        }
    }
    let session = &opened.session;
    let speed = session.estimate.measure(session.engines())? / opened.head.runs() as f64;
    let estimate = &mut opened.session.estimate;
    estimate.rows = Some(reads);
    estimate.bases = Some(bases);
    estimate.speed = Some(speed);
    if !shards.is_empty() {
        let mut lines = plan::header();
        for (shard, (reads, bases)) in shards.into_iter().zip(of_shards) {
            (estimate.rows, estimate.bases) = (Some(reads), Some(bases));
            lines += &plan::line(shard, &[], estimate, speed);
        }
        return Ok(lines);
    }
    Ok(format!(
        "format: {}\nall {records} records: {reads} reads of {bases} bases, the longest {longest}\n{}",
        opened.source.format().name(),
        opened.session.estimate.describe(speed)
    ))
}
