//! Shards of a genome: what is read of it, and what each would take.

use super::{GenomeJob, OpenGenome};
use crate::error::Result;
use crate::head::Task;
use crate::run::options::Wanted;
use crate::run::plan;
use crate::sequence::Contig;
use crate::sequence::region::Query;
use crate::sequence::shard::Shard;
use crate::stream::genome::Intervals;

impl GenomeJob<'_> {
    /// Whether regions may be read as one sequence: a head that looks around must not see over a
    /// gap, and --exact reads a sequence as it is.
    pub(super) fn together(&self, task: Option<&Task>) -> bool {
        task.is_none() && !self.inputs.compute.exact
    }

    /// What is read of these regions, or intervals: a shard, or all; `contigs`: those of the input,
    /// if they are known.
    pub(super) fn wanted<'b>(
        &self,
        regions: &'b [Query],
        intervals: Option<&'b Intervals>,
        shard: Option<Shard>,
        contigs: Option<Vec<Contig>>,
    ) -> Wanted<'b> {
        Wanted {
            shard,
            bin: self.bins().map_or(1, |(size, _)| size),
            regions,
            intervals: intervals.map_or(&[], |all| all.all()),
            contigs,
        }
    }

    /// A line for each of these shards.
    pub(super) fn describe_shards(
        &self,
        opened: &mut OpenGenome,
        shards: impl Iterator<Item = Shard>,
        speed: f64,
    ) -> Result<String> {
        let source = &self.inputs.source;
        // All that the input has, since all of it was counted if there is no index; with an index
        // beside what cannot be read at random, or where regions are known, it was not: each shard
        // finds them again.
        let contigs = opened.genome.finished_contigs().to_vec();
        let contigs = Some(contigs).filter(|contigs| !contigs.is_empty());
        let together = self.together(opened.task.as_ref());
        let mut lines = plan::header();
        for shard in shards {
            let settings = &opened.settings;
            let intervals = settings.intervals.as_ref().map(|(all, _)| all);
            let wanted = self.wanted(&opened.regions, intervals, Some(shard), contigs.clone());
            let facts = &opened.session.engine.facts;
            opened.genome = source.open(facts, settings.strand, together, wanted)?;
            opened.estimate(None);
            let names = opened.genome.names().unwrap_or_default();
            lines += &plan::line(shard, names, &opened.session.estimate, speed);
        }
        Ok(lines)
    }
}
