//! `check --shard N`: what each shard of a genome would take.

use super::{GenomeJob, OpenGenome};
use crate::error::Result;
use crate::run::plan;
use crate::sequence::shard::Shard;

impl GenomeJob<'_> {
    /// A line for each of these shards.
    pub(super) fn describe_shards(
        &self,
        opened: &mut OpenGenome,
        shards: impl Iterator<Item = Shard>,
        speed: f64,
    ) -> Result<String> {
        let source = &self.inputs.source;
        // All that the input has, since all of it was counted if there is no index.
        let contigs = opened.genome.finished_contigs().to_vec();
        let together = self.together(opened.task.as_ref());
        let mut lines = plan::header();
        for shard in shards {
            let settings = &opened.settings;
            let intervals = settings.intervals.as_ref().map(|(all, _)| all);
            let part = self.part(intervals, Some(shard), Some(contigs.clone()));
            let facts = &opened.session.engine.facts;
            opened.genome = source.open(facts, settings.strand, together, part)?;
            opened.estimate(None);
            let names = opened.genome.names().unwrap_or_default();
            lines += &plan::line(shard, names, &opened.session.estimate, speed);
        }
        Ok(lines)
    }
}
