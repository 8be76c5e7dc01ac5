//! What a run takes, by what is known of its sequences.

use super::OpenGenome;
use crate::io::genome::Planned;
use crate::run::estimate::Estimate;
use std::collections::HashSet;

impl OpenGenome {
    /// Estimates what the run takes, by what is known of the sequences, or was counted.
    pub(super) fn estimate(&mut self, counted: Option<Vec<Planned>>) {
        let planned = counted.or_else(|| self.genome.planned());
        let (windows, strand) = (self.session.windows, self.settings.strand);
        let bin = self.settings.bins.map_or(1, |(size, _)| size);
        let read = |planned: &Planned| {
            let again = windows.map_or(0, |windows| windows.shared(planned.bases));
            (planned.bases + again) * strand.passes()
        };
        let bases = match &planned {
            Some(planned) => Some(planned.iter().map(read).sum()),
            None => self.genome.bases_hint().map(|n| n * strand.passes()),
        };
        let contigs = planned.as_ref().map_or(0, |planned| planned.len() as u64);
        let names = self.genome.names().map(HashSet::<&String>::from_iter);
        let is_read = |contig| names.as_ref().is_none_or(|names| names.contains(contig));
        let intervals = self.settings.intervals.as_ref().map(|(intervals, _)| {
            let all = intervals.all().iter();
            all.filter(|interval| is_read(&interval.region.contig))
                .count() as u64
        });
        let counted = planned.map(|planned| planned.iter().map(|p| p.rows(bin)).sum::<u64>());
        let scratch = self.session.estimate.scratch;
        self.session.estimate = Estimate {
            rows: intervals.or(counted).map(|rows| rows * strand.rows()),
            scratch,
            ..Estimate::new(
                &self.session.engine,
                self.session.tokens(),
                &self.columns,
                bases,
                contigs,
                bin,
            )
        };
        if !self.has_table {
            self.session.estimate.without_table();
        }
    }
}
