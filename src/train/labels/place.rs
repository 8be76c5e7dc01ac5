//! Which bases a label is of.

use crate::error::{Error, Result};
use crate::sequence::contigs::{compare, must_be_circle};
use crate::sequence::region::Region;
use crate::train::Genomes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// The bases of a contig that a label is of: one run, or two where it goes over the origin of a
/// circle.
pub(super) struct Bases {
    /// The contig's number.
    pub contig: usize,
    runs: [Range<usize>; 2],
}

impl Bases {
    /// Those labels of the contig's that belong to these bases; each base has `k` of them.
    pub fn of<'a, T>(&self, labels: &'a mut [T], k: usize) -> impl Iterator<Item = &'a mut T> {
        let [first, second] = &self.runs;
        // The second run, if there is one, ends before the first begins.
        let (before, after) = labels.split_at_mut(first.start * k);
        let second = before[..second.end * k].iter_mut();
        after[..first.len() * k].iter_mut().chain(second)
    }
}

/// The genomes on whose bases the labels of a file are.
pub(super) struct OnGenomes<'a> {
    genomes: &'a Genomes,
    path: &'a Path,
    circles: BTreeMap<String, u64>,
}

impl<'a> OnGenomes<'a> {
    /// For the file at `path`, which says that some contigs are circles of so many bases.
    ///
    /// # Errors
    /// Input: a label stands on a contig that the genomes lack; a circle has other bases there.
    pub fn new<'b>(
        genomes: &'a Genomes,
        path: &'a Path,
        contigs: impl Iterator<Item = &'b str>,
        circles: BTreeMap<String, u64>,
    ) -> Result<Self> {
        for (name, bases) in &circles {
            if let Some(contig) = genomes.place(name) {
                let checked = must_be_circle(*bases, &genomes.contigs[contig]);
                checked.map_err(|error| error.file(path.display()))?;
            }
        }
        match compare(contigs, &genomes.contigs).report() {
            Some(report) => Err(Error::input(report)
                .file(path.display())
                .todo("rename the contigs of the labels or of the FASTA file")),
            None => Ok(Self {
                genomes,
                path,
                circles,
            }),
        }
    }

    /// The bases of a region that stands in this line of the file, if it has lines.
    ///
    /// # Errors
    /// Input: they are not all on the contig.
    pub fn bases(&self, region: &Region, line: Option<u64>) -> Result<Bases> {
        let wrong = |what: String| {
            let place = line.map_or_else(|| region.to_string(), |line| format!("line {line}"));
            let error = Error::input(what).file(self.path.display()).place(place);
            Err(error.todo("give the labels of this very sequence"))
        };
        let Some(contig) = self.genomes.place(&region.contig) else {
            return wrong(format!("{} is not a contig of the genomes", region.contig));
        };
        let length = self.genomes.contigs[contig].length;
        let Region { start, end, .. } = *region;
        let around = self.circles.contains_key(&region.contig) && start < length;
        if end > length && !(around && end - start <= length) {
            return wrong(format!(
                "ends at {end} of {}, which has {length} bases",
                region.contig
            ));
        }
        let first = start as usize..end.min(length) as usize;
        let second = 0..end.saturating_sub(length) as usize;
        Ok(Bases {
            contig,
            runs: [first, second],
        })
    }
}
