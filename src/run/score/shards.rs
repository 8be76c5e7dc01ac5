//! `--shard` and `--region`: which of the input's records are scored.

use super::options::{By, Score};
use crate::error::{Error, Result};
use crate::io::input::is_stdin;
use crate::io::variants::Options as ReadOptions;
use crate::score::{Part, Reference, Shares, count_records, region_of};
use crate::sequence::region::{self, Span};
use std::collections::HashMap;

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

    /// How the records are shared out, if there are shards.
    pub(super) fn shares(&self, reference: &Reference) -> Result<Option<Shares>> {
        let Some(of) = self.sharding.count() else {
            return Ok(None);
        };
        if self.shard_by == By::Contig {
            return Ok(Some(Shares::of_contigs(reference.contigs(), of)));
        }
        let records = match (&self.saturate, &self.variants) {
            (Some(region), _) => {
                let span = region_of(region, reference)?;
                span.end - span.start
            }
            (None, Some(path)) => count_records(path, &self.reading())?,
            (None, None) => 0,
        };
        Ok(Some(Shares::Records { records, of }))
    }

    /// The records that are scored.
    pub(super) fn part(&self, shares: Option<&Shares>) -> Part {
        match (shares, self.sharding.one()) {
            (Some(shares), Some(shard)) => Part::Shard(shares.clone(), shard.index),
            _ => Part::All,
        }
    }

    /// Where variants are scored, if not everywhere; and how many regions have no base.
    pub(super) fn within(&self, reference: &Reference) -> Result<(Option<Vec<Span>>, u64)> {
        if !self.regions.are_given() {
            return Ok((None, 0));
        }
        let (regions, empty) = self.regions.queries(false)?;
        let contigs = reference.contigs();
        let places: HashMap<&str, usize> = (0..)
            .zip(contigs)
            .map(|(place, contig)| (contig.name.as_str(), place))
            .collect();
        let find = |name: &str| places.get(name).copied();
        let spans = regions.iter().map(|query| query.resolve_by(contigs, find));
        let mut spans = spans.collect::<Result<Vec<_>>>()?;
        region::merge(&mut spans);
        Ok((Some(spans), empty))
    }

    /// How the variants are read.
    pub(super) fn reading(&self) -> ReadOptions {
        ReadOptions {
            sample: self.sample.clone(),
            allow_missing_eof: self.allow_missing_eof,
        }
    }
}
