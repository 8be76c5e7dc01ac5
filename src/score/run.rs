//! All alleles of a ledger through the pipeline: sites → forks or windows → scores → ledger.

use super::contig::ContigStrand;
use super::ledger::Ledger;
use super::pass::Pass;
use super::quartets::Quartets;
use super::reference::Reference;
use super::sites::{Site, SiteStep, Sites};
use super::{Job, Scorer, Settings};
use crate::error::Result;
use crate::io::atomic::AtomicFile;
use crate::stream::pipeline::{self, Computation, Next, Outcome, Sink, Stage, Totals};
use crate::stream::{Aside, Journal, Mark, Progress, load, store};
use crate::table::{Known, Scores};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// Scores all alleles of a prepared ledger, contig by contig; tells what was read, and what the
/// model said of it.
///
/// Memory: besides the model's and the ledger's, 16 bytes for each allele of a contig. Scratch
/// files: a byte for each base of the contig at work.
///
/// # Errors
/// Those of the reader and the encoder.
pub fn run(
    (scorers, settings): (&[Scorer], &Settings),
    reference: &Reference,
    ledger: &RwLock<Ledger>,
    journal: Option<&mut Journal>,
    progress: &mut Progress,
) -> Result<(Totals, Known)> {
    let mut sink = LedgerSink::open(ledger, journal.as_deref())?;
    let position = journal.as_ref().map(|journal| journal.position());
    let position = position.unwrap_or_default();
    let mut sites = Sites::new(settings, reference, ledger, position)?;
    let computes = scorers.iter().map(|&scorer| Scoring {
        scorer,
        settings,
        quartets: settings.four.then(Quartets::default),
        pass: None,
        carried: None,
    });
    let mut computes: Vec<_> = computes.collect();
    let mut rows = Passing::default();
    let totals = pipeline::run(
        &mut sites,
        &mut computes,
        &mut rows,
        &mut sink,
        journal,
        progress,
    )?;
    Ok((totals, rows.known))
}

/// Scores of some changes of one strand.
struct Finished {
    reverse: bool,
    scores: Vec<(Job, Scores)>,
    /// What was said of the reference meanwhile.
    known: Known,
}

impl Outcome for Finished {
    /// They are small.
    fn put_aside(self, _: &mut Aside) -> Result<Self> {
        Ok(self)
    }
}

/// The pass over the strand at work.
struct Scoring<'a> {
    scorer: Scorer<'a>,
    settings: &'a Settings,
    quartets: Option<Quartets>,
    /// None between two strands.
    pass: Option<Pass<'a>>,
    /// What an earlier run's pass carried, until the strand is known.
    carried: Option<Vec<u8>>,
}

impl Stage for Scoring<'_> {
    type In = SiteStep;
    type Out = Finished;

    fn run(&mut self, step: SiteStep, to: &mut Next<Finished>) -> Result<()> {
        let strand = &step.strand;
        for (i, site) in step.sites.into_iter().enumerate() {
            let Site {
                position,
                start,
                jobs,
            } = site;
            loop {
                let pass = self.pass(strand)?;
                let is_near = pass.approach(start, &mut |bases, name| to.done(bases, name))?;
                self.send(strand, false, to)?;
                // What is not asked for can wait until a step begins.
                if to.is_asked() || (i == 0 || !is_near) && to.is_due() {
                    let pass = self.pass(strand)?;
                    pass.rest(&mut |bases, name| to.done(bases, name))?;
                    self.send(strand, false, to)?;
                    to.mark(position, &mut |file| self.save(file))?;
                }
                if is_near {
                    break;
                }
            }
            let pass = self.pass(strand)?;
            pass.site(jobs, &mut |bases, name| to.done(bases, name))?;
            self.send(strand, false, to)?;
        }
        if step.ends {
            let pass = self.pass(strand)?;
            pass.finish(&mut |bases, name| to.done(bases, name))?;
            self.send(strand, true, to)?;
            self.pass = None;
        }
        Ok(())
    }

    fn save(&self, file: &mut dyn Write) -> Result<()> {
        let mut carried = Vec::new();
        if let Some(pass) = &self.pass {
            pass.save(&mut carried)?;
        }
        store(&(&self.quartets, carried), file)
    }

    fn restore(&mut self, file: &mut dyn Read) -> Result<()> {
        let carried: Vec<u8>;
        (self.quartets, carried) = load(file)?;
        self.carried = (!carried.is_empty()).then_some(carried);
        Ok(())
    }
}

impl Computation for Scoring<'_> {
    fn place(&self) -> String {
        self.scorer.engine.device.name()
    }

    fn scratch(&self) -> &Path {
        &self.settings.scratch
    }
}

impl<'a> Scoring<'a> {
    /// The pass over the strand at work, which goes on where an earlier run's was stopped.
    fn pass(&mut self, strand: &ContigStrand) -> Result<&mut Pass<'a>> {
        let pass = match self.pass.take() {
            Some(pass) => pass,
            None => {
                let mut pass = Pass::new(self.scorer, self.settings, strand.clone())?;
                if let Some(carried) = self.carried.take() {
                    pass.restore(&mut &carried[..])?;
                }
                pass
            }
        };
        Ok(self.pass.insert(pass))
    }

    /// Sends on the scores that are done; `all`: no others of the strand are to come.
    fn send(&mut self, strand: &ContigStrand, all: bool, to: &mut Next<Finished>) -> Result<()> {
        let Some(pass) = &mut self.pass else {
            return Ok(());
        };
        let (mut scores, reverse) = (pass.take(strand), strand.reverse);
        strand.check()?;
        if let Some(quartets) = &mut self.quartets {
            scores = quartets.pass(scores, reverse, all);
        }
        // Nothing of either is left behind: a checkpoint does not hold it.
        let known = pass.take_known();
        if scores.is_empty() && known == Known::default() {
            return Ok(());
        }
        to.send(Finished {
            reverse,
            scores,
            known,
        })
    }
}

/// Scores are rows already.
#[derive(Default)]
struct Passing {
    known: Known,
}

impl Stage for Passing {
    type In = Finished;
    type Out = Finished;

    fn run(&mut self, step: Finished, to: &mut Next<Finished>) -> Result<()> {
        self.known.add(step.known);
        to.send(step)
    }

    fn save(&self, file: &mut dyn Write) -> Result<()> {
        store(&self.known, file)
    }

    fn restore(&mut self, file: &mut dyn Read) -> Result<()> {
        self.known = load(file)?;
        Ok(())
    }
}

/// Stores scores in the ledger, and beside it in the parts of a journal.
struct LedgerSink<'a> {
    ledger: &'a RwLock<Ledger>,
    part: Option<ScoresFile>,
}

/// The scores since the last checkpoint, as [`Stored`].
struct ScoresFile {
    directory: PathBuf,
    path: PathBuf,
    file: BufWriter<AtomicFile>,
}

/// The places of a change's alleles, whether it was on the reverse strand, and its scores.
type Stored = (Vec<usize>, bool, Scores);

impl<'a> LedgerSink<'a> {
    fn open(ledger: &'a RwLock<Ledger>, journal: Option<&Journal>) -> Result<Self> {
        let Some(journal) = journal else {
            return Ok(Self { ledger, part: None });
        };
        let directory = journal.directory().to_path_buf();
        for number in 1..=journal.checkpoints() {
            read_part(&part(&directory, number), ledger)?;
        }
        let part = ScoresFile::create(directory, journal.checkpoints() + 1)?;
        Ok(Self {
            ledger,
            part: Some(part),
        })
    }
}

impl Sink for LedgerSink<'_> {
    type In = Finished;

    fn write(&mut self, finished: Finished) -> Result<()> {
        let mut ledger = self.ledger.write().unwrap_or_else(PoisonError::into_inner);
        for (job, scores) in finished.scores {
            let stored: Stored = (job.entries, finished.reverse, scores);
            if let Some(part) = &mut self.part {
                store(&stored, &mut part.file).map_err(|e| e.file(part.path.display()))?;
            }
            ledger.take(stored.0, stored.1, &stored.2)?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, mark: &mut Mark) -> Result<()> {
        let Some(part) = self.part.take() else {
            return Ok(());
        };
        let file = part.file.into_inner();
        let file = file.map_err(|e| crate::Error::io(&part.path, e.error()))?;
        mark.keep(&part.path, file.finish()?.sha256)?;
        self.part = Some(ScoresFile::create(part.directory, mark.number() + 1)?);
        Ok(())
    }
}

impl ScoresFile {
    fn create(directory: PathBuf, number: u64) -> Result<Self> {
        let path = part(&directory, number);
        let file = AtomicFile::create(&path, true)?;
        Ok(Self {
            directory,
            path,
            file: BufWriter::with_capacity(1 << 20, file),
        })
    }
}

fn part(directory: &std::path::Path, number: u64) -> PathBuf {
    directory.join(format!("scores.part-{number}"))
}

/// Takes the scores of a part into the ledger.
fn read_part(path: &std::path::Path, ledger: &RwLock<Ledger>) -> Result<()> {
    let mut ledger = ledger.write().unwrap_or_else(PoisonError::into_inner);
    let file = std::fs::File::open(path).map_err(|e| crate::Error::io(path, &e))?;
    let length = file
        .metadata()
        .map_err(|e| crate::Error::io(path, &e))?
        .len();
    let mut file = Counted {
        file: BufReader::with_capacity(1 << 20, file),
        read: 0,
    };
    while file.read < length {
        let (entries, reverse, scores): Stored =
            load(&mut file).map_err(|error| error.file(path.display()))?;
        ledger.take(entries, reverse, &scores)?;
    }
    Ok(())
}

/// Counts what is read, to know where the file ends.
struct Counted {
    file: BufReader<std::fs::File>,
    read: u64,
}

impl Read for Counted {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(bytes)?;
        self.read += n as u64;
        Ok(n)
    }
}
