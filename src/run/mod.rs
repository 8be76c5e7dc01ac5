//! What every inference command does, once: open the model and the input, estimate, declare the
//! outputs, run the pipeline, describe the run in the footer and the summary, and give all outputs
//! their names together.

pub(crate) mod binds;
pub(crate) mod device;
mod estimate;
mod genome;
mod heads;
mod identity;
mod inputs;
mod layers;
pub mod libraries;
mod memory;
pub(crate) mod options;
pub(crate) mod outputs;
mod plan;
mod provenance;
mod reads;
mod score;
mod session;
mod summary;
pub(crate) mod units;

pub use genome::{Embed, Predict};
pub use heads::described;
pub use memory::{address_limit, available_memory, peak_memory};
pub use options::{Compressed, Workers};
pub use provenance::command;
pub use reads::Reads;
pub use score::Score;

use crate::error::{Error, Kind, Result};
use crate::io::source::{is_remote, shown};
use crate::ops::{math, timing};
use crate::sequence::region::Query;
use crate::stream::{Journal, Progress, Style, stop_after};
use inputs::Inputs;
use options::{Compute, Output, Sharding};
use outputs::{Format, Outputs};
use serde_json::{Map, Value};
use session::Session;
use std::path::{Path, PathBuf};
use std::time::Duration;
use summary::Summary;

/// A command that runs a model over an input: genomes, reads, variants.
pub trait Job {
    /// What stands open during a run.
    type Opened;
    /// The files that it writes, claimed before any work.
    type Targets;

    /// The options that all share.
    fn shared(&self) -> (&Compute, &Output);

    /// The part of the input that is read.
    fn sharding(&self) -> &Sharding;

    /// Refuses options that do not go together.
    fn check_options(&self) -> Result<()>;

    /// The files that are read besides the model's: what each is, and its path.
    fn inputs(&self) -> Vec<(&'static str, PathBuf)>;

    /// The files that are written, as far as they are known before the model is.
    fn outputs(&self) -> Vec<(PathBuf, Format)>;

    /// Opens the model and the input.
    fn open(&self) -> Result<Self::Opened>;

    /// What all have open.
    fn session(opened: &Self::Opened) -> &Session;

    /// The options that decide the numbers, by name.
    fn options(&self) -> Result<Map<String, Value>>;

    /// Claims the outputs.
    fn declare(&self, opened: &Self::Opened, outputs: &mut Outputs) -> Result<Self::Targets>;

    /// Runs the pipeline, and completes the outputs beside their paths.
    fn process(
        &self,
        opened: &mut Self::Opened,
        targets: Self::Targets,
        journal: Option<&mut Journal>,
        progress: &mut Progress,
    ) -> Result<Summary>;

    /// Says in lines of `name: value` what the run would take, by counting and measuring.
    fn describe(&self, opened: &mut Self::Opened) -> Result<String>;
}

/// Fails where a region stands in the place of the reference: `-r` is of samtools, but not there.
fn must_not_be_a_region(inputs: &[(&'static str, PathBuf)]) -> Result<()> {
    let reference = inputs.iter().find(|(what, _)| *what == "reference");
    let Some((_, path)) = reference.filter(|(_, path)| !path.exists() && !is_remote(path)) else {
        return Ok(());
    };
    let text = path.to_string_lossy();
    if !Query::parse(&text).is_ok_and(|query| query.names().count() > 1) {
        return Ok(());
    }
    Err(Error::usage("no such file, but a region")
        .file(path.display())
        .todo(format!(
            "write --region {text}: -r is the reference's FASTA"
        )))
}

/// Whether a command keeps checkpoints.
pub fn resumes<J: Job>(job: &J) -> bool {
    job.shared().1.resume
}

/// Runs a command.
///
/// # Errors
/// After any, no output has changed.
pub fn run<J: Job>(job: &J, style: Style) -> Result<()> {
    let (compute, output) = job.shared();
    job.check_options()?;
    job.sharding().must_be_one()?;
    if let Some(limit) = output.time_limit {
        stop_after(limit)?;
    }
    compute.workers.start()?;
    let inputs = job.inputs();
    must_not_be_a_region(&inputs)?;
    for (what, path) in &inputs {
        tracing::debug!("{what}: {}", shown(path));
    }
    let mut read: Vec<PathBuf> = inputs.iter().map(|(_, path)| path.clone()).collect();
    read.extend(compute.files()?);
    let unchanged = Inputs::of(inputs.iter().map(|(_, path)| path));
    let mut outputs = Outputs::new(&read, output.force);
    let declared = declared(job);
    if output.summary.is_some() {
        outputs.set().sum();
    }
    outputs.open(&declared)?;
    let mut opened = job.open()?;
    let session = J::session(&opened);
    session.announce();
    session.estimate.check_memory()?;
    session.estimate.check_output(output.max_output)?;
    tracing::info!("on {}; {}", session.place(), session.estimate);
    let instructions = math::instructions();
    tracing::debug!("steps of {} bases, {instructions}", session.chunk);
    for (path, _) in &declared {
        tracing::debug!("writes {}", path.display());
    }
    if output.profile {
        timing::start();
    }
    let summary = output.summary.as_deref();
    let summary = summary.map(|path| outputs.create(path, Format::Json));
    let summary = summary.transpose()?;
    let targets = job.declare(&opened, &mut outputs)?;
    let mut journal = journal(job, &opened, &inputs)?;
    let mut progress = Progress::new(style, J::session(&opened).estimate.bases);
    let done = job.process(&mut opened, targets, journal.as_mut(), &mut progress);
    progress.finish();
    let done = done.inspect_err(|error| {
        let stopped = [Kind::Interrupted, Kind::Terminated].contains(&error.kind());
        if let Some(journal) = journal
            .as_ref()
            .filter(|journal| stopped && journal.checkpoints() > 0)
        {
            let (number, place) = (journal.checkpoints(), journal.directory().display());
            tracing::info!("checkpoint {number} stands in {place}: the same command goes on there");
        }
    })?;
    unchanged.must_be_unchanged()?;
    let seconds = progress.elapsed().as_secs_f64();
    let session = J::session(&opened);
    if let Some(file) = summary {
        summary::write(file, &done, session, (seconds, output.profile))?;
    }
    let written = outputs.written();
    outputs.commit()?;
    if let Some(journal) = journal {
        journal.remove();
    }
    tracing::info!("model {}", session.named());
    done.report(session, seconds, &written);
    match &done.failed {
        Some(what) if output.strict => Err(Error::new(Kind::Strict, what)),
        _ => Ok(()),
    }
}

/// Opens everything that a run would, and prints what it would take.
///
/// # Errors
/// Those that the run would meet before its work.
pub fn check<J: Job>(job: &J, print: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let (compute, output) = job.shared();
    job.check_options()?;
    compute.workers.start()?;
    let inputs = job.inputs();
    must_not_be_a_region(&inputs)?;
    let mut read: Vec<PathBuf> = inputs.iter().map(|(_, path)| path.clone()).collect();
    read.extend(compute.files()?);
    Outputs::new(&read, output.force).must_be_free(&declared(job))?;
    let mut opened = job.open()?;
    J::session(&opened).warn();
    let text = job.describe(&mut opened)?;
    let session = J::session(&opened);
    // Lines for shards are a table.
    let binds = match job.sharding().all() {
        Some(_) => String::new(),
        None => binds::describe(session, (compute, output), &inputs)?,
    };
    print(&format!("model: {}\n{text}{binds}", session.named()))?;
    session.estimate.check_memory()?;
    session.estimate.check_output(output.max_output)
}

/// The files that a run writes, the summary among them, as far as they are known before the model.
fn declared<J: Job>(job: &J) -> Vec<(PathBuf, Format)> {
    let summary = job.shared().1.summary.iter();
    let summary = summary.map(|path| (path.clone(), Format::Json));
    job.outputs().into_iter().chain(summary).collect()
}

fn journal<J: Job>(
    job: &J,
    opened: &J::Opened,
    inputs: &[(&'static str, PathBuf)],
) -> Result<Option<Journal>> {
    let (compute, output) = job.shared();
    if !output.resume {
        return Ok(None);
    }
    let session = J::session(opened);
    let identity = identity::of(session, compute, job.options()?, inputs)?;
    let every = Duration::from_secs(output.checkpoint_every);
    let directory = output.checkpoint_dir.as_deref();
    Journal::open(output.path(), directory, identity, every).map(Some)
}

/// A path's last part, for metadata.
pub(crate) fn file_name(path: &Path) -> String {
    let shown = PathBuf::from(shown(path));
    let name = shown.file_name().unwrap_or(shown.as_os_str());
    name.to_string_lossy().into_owned()
}

/// An option's value as it is spelled on the command line.
fn name_of(value: impl clap::ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_string())
        .unwrap_or_default()
}
