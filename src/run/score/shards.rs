//! `--shard`: which of the input's records are scored.

use super::options::{By, Score};
use crate::error::{Error, Result};
use crate::io::input::is_stdin;
use crate::io::variants::Options as ReadOptions;
use crate::run::name_of;
use crate::score::{Mode, Part, Reference, Settings, count_records, region_of};
use crate::sequence::shard::Shard;
use crate::table::footer::ShardRecord;

impl Score {
    /// Refuses shards that would change what is scored.
    pub(super) fn check_shards(&self) -> Result<()> {
        if self.sharding.shard.is_none() || self.shard_by == By::Contig {
            return Ok(());
        }
        if self.sample.is_some() {
            let error = Error::usage("--sample joins variants, which --shard-by site would part");
            return Err(error.todo("use --shard-by contig"));
        }
        if self.variants.as_deref().is_some_and(is_stdin) {
            let error = Error::usage("--shard-by site reads the variants twice");
            return Err(error.todo("give a file, not stdin, or use --shard-by contig"));
        }
        Ok(())
    }

    /// The records that a shard scores.
    pub(super) fn part(
        &self,
        shard: Option<Shard>,
        settings: &Settings,
        reference: &Reference,
    ) -> Result<Part> {
        let Some(shard) = shard else {
            return Ok(Part::All);
        };
        if self.shard_by == By::Contig {
            let has = shard.has_contigs(reference.contigs());
            return Ok(Part::Contigs(has, shard.index == 1));
        }
        if settings.mode == Mode::Stream && settings.context.is_none() {
            let what = "with --shard-by site each shard would read its contigs from their start";
            let todo = "give --context a number of bases, or use --shard-by contig";
            return Err(Error::usage(what).todo(todo));
        }
        let records = match (&self.saturate, &self.variants) {
            (Some(region), _) => {
                let span = region_of(region, reference)?;
                span.end - span.start
            }
            (None, Some(path)) => count_records(path, &self.reading())?,
            (None, None) => 0,
        };
        Ok(Part::Records(shard.part(records)))
    }

    /// The shard, for the metadata.
    pub(super) fn shard(&self) -> Option<ShardRecord> {
        let Shard { index, of } = self.sharding.one()?;
        Some(ShardRecord {
            index,
            of,
            by: name_of(self.shard_by),
            block: None,
        })
    }

    /// How the variants are read.
    pub(super) fn reading(&self) -> ReadOptions {
        ReadOptions {
            sample: self.sample.clone(),
            allow_missing_eof: self.allow_missing_eof,
        }
    }
}
