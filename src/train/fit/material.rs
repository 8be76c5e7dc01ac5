//! The data of a training run, read: genomes with labels, or tables of sequences.

use super::request::{Lesson, Tracking};
use crate::error::{Error, Result};
use crate::head::Task;
use crate::sequence::region::{Query, Region, Span};
use crate::train::labelled::{self, Labelled};
use crate::train::{self, DataFile, Example, Genomes, Labels, Reading};
use std::path::{Path, PathBuf};

/// Bases that choose the weights of a model that is adapted.
const MOST: u64 = 100_000;

/// What a run learns from: files that were read.
#[derive(Clone)]
pub struct Material {
    /// The head that learns it; none where that is the language model's.
    pub(super) task: Option<Task>,
    pub(super) data: Data,
    /// The files that were read, and what each is.
    pub(super) files: Vec<(&'static str, DataFile)>,
    /// What chooses the weights and what tests them, in words.
    pub(super) held_back: [Vec<String>; 2],
}

/// By base or by sequence.
#[derive(Clone)]
pub(super) enum Data {
    Genomes {
        genomes: Genomes,
        labels: Option<Labels>,
        held_back: [Vec<Span>; 2],
    },
    Tables {
        /// To train on, to choose the weights, to test them.
        sets: [Vec<Example>; 3],
        /// Sequences that are not trained on: copies of others'.
        copies: usize,
    },
}

impl Material {
    /// Reads all files of a lesson; `queries` choose the weights and test them.
    ///
    /// Memory: the genomes, one byte a base, with their labels, or the sequences.
    ///
    /// # Errors
    /// Those of the files; Usage: a region that is not on the genomes.
    pub fn read(lesson: &Lesson, queries: &[Vec<Query>; 2], adapts: bool) -> Result<Self> {
        match lesson {
            Lesson::NextBase { fasta, .. } => Self::genomes(fasta, None, queries, adapts),
            Lesson::Tracks(tracking) => {
                Self::genomes(&tracking.fasta, Some(tracking), queries, false)
            }
            Lesson::Sequences {
                table,
                validate,
                test,
                values,
                reading,
                ..
            } => {
                let others = [validate.as_deref(), test.as_deref()];
                Self::tables(table, others, *values, *reading)
            }
        }
    }

    /// The files that were read.
    pub fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.files.iter().map(|(_, file)| file)
    }

    /// Whether the head of bases reads the hidden vectors of both strands.
    pub fn read_both_strands(&mut self, both: bool) {
        if let Some(task) = &mut self.task {
            task.both_strands = both;
        }
    }

    /// Bases of the longest contig, or of the longest sequence of a table.
    pub fn longest(&self) -> u64 {
        match &self.data {
            Data::Genomes { genomes, .. } => {
                let lengths = genomes.contigs.iter().map(|contig| contig.length);
                lengths.max().unwrap_or_default()
            }
            Data::Tables { sets, .. } => {
                let examples = sets.iter().flatten().map(std::slice::from_ref);
                examples.map(Example::bases).max().unwrap_or_default()
            }
        }
    }

    /// Where no table chooses the weights: holds out about one in `n` sequences for that, with all
    /// their copies, on either strand. Which ones follows from their bases alone.
    pub fn hold_out(&mut self, n: u64) {
        if let Data::Tables { sets, .. } = &mut self.data
            && let [training, held_out, _] = sets
            && held_out.is_empty()
        {
            held_out.extend(training.extract_if(.., |example| example.is_one_in(n)));
            self.held_back[0] = vec![format!("one in {n} sequences, by their bases")];
        }
    }

    fn genomes(
        fasta: &[PathBuf],
        tracking: Option<&Tracking>,
        queries: &[Vec<Query>; 2],
        adapts: bool,
    ) -> Result<Self> {
        let genomes = Genomes::read(fasta)?;
        let labels = match tracking {
            Some(t) if t.genes => Some(Labels::genes(&t.labels, &genomes)?),
            Some(t) => Some(Labels::read(&t.labels, &t.features, &genomes)?),
            None => None,
        };
        let task = tracking.zip(labels.as_ref());
        let task = task.map(|(t, labels)| labels.task(t.shape, t.both_strands));
        let sources = |role, sources: &[DataFile]| {
            let sources = sources.iter().cloned();
            sources.map(|source| (role, source)).collect::<Vec<_>>()
        };
        let mut files = sources("FASTA", &genomes.files);
        if let Some(labels) = &labels {
            files.extend(sources("labels", &labels.files));
        }
        let [chosen, tested] = queries;
        let mut held_back = [genomes.held_out(chosen)?, genomes.held_out(tested)?];
        if adapts && held_back[0].is_empty() {
            held_back[0] = end(&genomes);
        }
        if held_back.iter().all(Vec::is_empty) {
            tracing::warn!("nothing is held out: how good the model is will not be known");
        }
        Ok(Self {
            task,
            files,
            held_back: held_back.each_ref().map(|spans| named(&genomes, spans)),
            data: Data::Genomes {
                genomes,
                labels,
                held_back,
            },
        })
    }

    fn tables(
        table: &Path,
        others: [Option<&Path>; 2],
        values: bool,
        reading: Reading,
    ) -> Result<Self> {
        let mut files = Vec::new();
        let mut read = |role, path: &Path| -> Result<Vec<Labelled>> {
            let rows = labelled::read(path)?;
            files.push((role, DataFile::read(path, rows.len() as u64)?));
            Ok(rows)
        };
        let training = read("table", table)?;
        let mut held_back = Vec::new();
        for (role, path) in ["table to validate", "table to test"]
            .into_iter()
            .zip(others)
        {
            let rows = path.map(|path| read(role, path)).transpose()?;
            held_back.push(rows.unwrap_or_default());
        }
        let here = |error: Error| error.file(table.display());
        let task = train::task(&training, values, reading).map_err(here)?;
        let taken: Vec<&[_]> = held_back.iter().map(Vec::as_slice).collect();
        let (training, copies) = train::examples(&task, training, &taken).map_err(here)?;
        if copies > 0 {
            tracing::warn!("{copies} sequences are not trained on: copies of held-out ones");
        }
        let mut sets = [training, Vec::new(), Vec::new()];
        for ((set, rows), path) in sets[1..].iter_mut().zip(held_back).zip(others) {
            let path = path.unwrap_or(table);
            let found = train::examples(&task, rows, &[]);
            *set = found.map_err(|error| error.file(path.display()))?.0;
        }
        let name = |path: Option<&Path>| path.iter().map(|p| p.display().to_string()).collect();
        Ok(Self {
            task: Some(task),
            files,
            held_back: others.map(name),
            data: Data::Tables { sets, copies },
        })
    }
}

/// Of the longest contig the last twentieth, of which [`MOST`] bases are enough.
fn end(genomes: &Genomes) -> Vec<Span> {
    let contigs = genomes.contigs.iter().enumerate();
    let longest = contigs.max_by_key(|(at, contig)| (contig.length, std::cmp::Reverse(*at)));
    let span = longest.map(|(contig, found)| Span {
        contig,
        start: found.length - (found.length / 20).min(MOST),
        end: found.length,
    });
    span.into_iter()
        .filter(|span| span.start < span.end)
        .collect()
}

/// Spans as regions.
fn named(genomes: &Genomes, spans: &[Span]) -> Vec<String> {
    let regions = spans.iter().map(|span| {
        let contig = genomes.contigs[span.contig].name.clone();
        let (start, end) = (span.start, span.end);
        Region { contig, start, end }.to_string()
    });
    regions.collect()
}
