//! `crocuta pilot`: which architecture serves the user's own data, by controlled experiments.
//!
//! Candidates of equal size are compared in what they take (`memory`, `throughput`,
//! `latency`) and in what they learn (`quality`, `recall`). A `Candidate` is a name, a
//! configuration and the weights that it starts from; how it runs and trains is the encoder's and
//! the training loop's. Each finished measurement is `kept`, so that a repeated command goes on.
//! The report is made of the kept rows alone.

mod candidate;
mod catalogue;
mod data;
mod kept;
mod latency;
mod memory;
mod pass;
mod quality;
mod recall;
mod report;
mod results;
mod throughput;
mod training;
mod verdict;

pub use pass::child;

use crate::checkpoint::Staging;
use crate::error::{Error, Kind, Result};
use crate::io::sha256;
use crate::ops::Device;
use crate::run;
use crate::run::units::{self, readable};
use crate::stream::{self, RunIdentity};
use crate::table::{Experiment, Origin, PilotRow};
use candidate::{Candidate, Start};
use catalogue::KNOWN;
use data::Data;
use kept::{Found, Kept};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use training::Timed;

/// The part of the budget that each experiment may take; the rest is for quality.
const MEMORY: f64 = 0.12;
const THROUGHPUT: f64 = 0.05;
const LATENCY: f64 = 0.08;
const RECALL: f64 = 0.2;

/// What is asked of a pilot.
#[derive(Clone, Debug)]
pub struct Request {
    /// The genome.
    pub fasta: Option<PathBuf>,
    /// What is known of its bases.
    pub labels: Vec<PathBuf>,
    /// Types of features; none: all.
    pub features: Vec<String>,
    /// Or a table of sequences and labels.
    pub table: Option<PathBuf>,
    /// A table to measure on.
    pub validate_table: Option<PathBuf>,
    /// The directory to make.
    pub output: PathBuf,
    /// The time that it may take.
    pub budget: Duration,
    /// Names, configurations, models; none: those that are known.
    pub candidates: Vec<String>,
    /// Of each candidate that is known by name.
    pub parameters: u64,
    /// Bases that are read at a time in training.
    pub length: u64,
    /// Steps of training; none: as many as the budget allows.
    pub steps: Option<u64>,
    /// Distances of copies.
    pub distances: Vec<u32>,
    /// The first seed.
    pub seed: u64,
    /// How many seeds.
    pub seeds: u16,
    /// Bytes of memory that a candidate may take; none: what is free.
    pub memory: Option<u64>,
}

/// Opens the devices, unless what it is told speaks against a GPU; with the device in words and the
/// precision.
pub type Open<'a> = &'a dyn Fn(Option<&'static str>) -> Result<(Vec<Device>, [String; 2])>;

/// Is told what is done, and after how many seconds of the budget.
pub type Tell<'a> = &'a mut dyn FnMut(&str, f64);

/// A candidate on its device.
struct Entrant {
    candidate: Candidate,
    device: Device,
}

/// A pilot that can begin: everything was read and checked.
pub struct Pilot<'a> {
    request: Request,
    data: Data,
    entrants: Vec<Entrant>,
    /// Candidates that cannot run, and why.
    left_out: Vec<(String, String)>,
    /// The device in words, and the precision.
    place: [String; 2],
    /// Bases of the longest sequence.
    longest: u64,
    /// Bytes that a candidate may take.
    memory: u64,
    open: Open<'a>,
    /// The command line of a child process that measures.
    child: &'a dyn Fn() -> Result<Command>,
}

impl<'a> Pilot<'a> {
    /// Reads the data and makes the candidates.
    ///
    /// # Errors
    /// Those of the files, the candidates and the device; Usage: what is asked cannot be.
    pub fn prepare(
        request: Request,
        open: Open<'a>,
        child: &'a dyn Fn() -> Result<Command>,
    ) -> Result<Self> {
        if request.fasta.is_none() && request.table.is_none() {
            let error = Error::usage("nothing to measure on");
            return Err(error.todo("give a FASTA file, or a --table of sequences and labels"));
        }
        let data = Data::read(&request)?;
        let longest = data.material.longest();
        if longest < 16 {
            return Err(
                Error::input(format!("the longest sequence has {longest} bases"))
                    .todo("give longer ones"),
            );
        }
        let (_, place) = open(None).or_else(|_| open(Some("no GPU")))?;
        let mut pilot = Self {
            memory: request
                .memory
                .or_else(run::available_memory)
                .unwrap_or(u64::MAX),
            request,
            data,
            entrants: Vec::new(),
            left_out: Vec::new(),
            place,
            longest,
            open,
            child,
        };
        for candidate in pilot.candidates()? {
            pilot.enter(candidate)?;
        }
        Ok(pilot)
    }

    /// Those that were asked for, or those that are known and can learn the task.
    fn candidates(&self) -> Result<Vec<Candidate>> {
        let Request {
            candidates,
            parameters,
            ..
        } = &self.request;
        let length = self.data.length;
        if !candidates.is_empty() {
            let each = candidates.iter().map(|text| match Path::new(text) {
                path if path.exists() => Candidate::own(path),
                _ => catalogue::named(text, *parameters, length),
            });
            return each.collect();
        }
        let labelled = self.request.table.is_some() || !self.request.labels.is_empty();
        let known = KNOWN.iter().filter(|known| labelled || !known.whole);
        known
            .map(|known| known.sized(*parameters, length))
            .collect()
    }

    fn enter(&mut self, candidate: Candidate) -> Result<()> {
        if self
            .entrants
            .iter()
            .any(|other| other.candidate.name == candidate.name)
        {
            let what = format!("two candidates are called {}", candidate.name);
            return Err(Error::usage(what).todo("rename a file"));
        }
        let without = "the model has layers that do not run on the GPU yet";
        match (self.open)((!candidate.facts.runs_on_gpu).then_some(without)) {
            Ok((devices, _)) => {
                let device = devices.into_iter().next().unwrap_or(Device::Cpu);
                self.entrants.push(Entrant { candidate, device });
            }
            Err(error) if error.kind() == Kind::Usage => {
                self.left_out.push((candidate.name, error.to_string()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Seconds that all of it may take.
    fn budget(&self) -> f64 {
        self.request.budget.as_secs_f64()
    }

    /// Measures what is not measured yet, and writes the report.
    ///
    /// # Errors
    /// Usage: something stands at the output; those of the candidates; Io.
    pub fn run(&self, command: &str, tell: Tell) -> Result<Vec<String>> {
        let out = Staging::begin(&self.request.output)?;
        let mut kept = Kept::open(&self.request.output, &self.identity()?)?;
        self.describe(&mut kept)?;
        let trainings = training::time(self, &mut kept, tell)?;
        let free = match self.free(&kept, &trainings) {
            Err(error) => {
                kept.remove();
                return Err(error);
            }
            free => free?,
        };
        let share = |part: f64| part * free / self.entrants.len().max(1) as f64;
        for entrant in &self.entrants {
            let Entrant { candidate, device } = entrant;
            tell(&format!("memory: {}", candidate.name), kept.clock());
            memory::measure(self, &mut kept, (candidate, device), share(MEMORY))?;
        }
        for Entrant { candidate, device } in &self.entrants {
            stream::go_on()?;
            let name = &candidate.name;
            tell(&format!("throughput: {name}"), kept.clock());
            let seconds = share(THROUGHPUT);
            let measure = || found(throughput::measure(candidate, device, seconds));
            kept.once(&format!("throughput/{name}"), measure)?;
            tell(&format!("latency: {name}"), kept.clock());
            let seconds = share(LATENCY);
            let measure = || found(latency::measure(candidate, device, seconds));
            kept.once(&format!("latency/{name}"), measure)?;
        }
        recall::measure(self, &mut kept, RECALL * free, tell)?;
        quality::measure(self, &mut kept, &trainings, tell)?;
        tell("report", kept.clock());
        let verdict = report::write(self, &kept, command, &out)?;
        out.commit()?;
        kept.remove();
        Ok(verdict)
    }

    /// Seconds of which the experiments besides quality may take their parts: the budget, unless
    /// the shortest training would then have no time. They are the same where a pilot goes on.
    ///
    /// # Errors
    /// Usage: the budget is less than the least, which the error names.
    fn free(&self, kept: &Kept, trainings: &[Timed]) -> Result<f64> {
        let parts = MEMORY + THROUGHPUT + LATENCY + RECALL;
        if self.request.steps.is_some() {
            return Ok(self.budget());
        }
        let timed = training::timed_at(kept, trainings);
        let least = training::least(trainings);
        let needed = timed + least + training::least_of_others(trainings);
        if needed > self.budget() {
            // Whole tens of seconds, and one in ten more: machines are not always equally fast.
            let least = (needed * 1.1 / 10.0).ceil() as u64 * 10;
            let what = format!(
                "a budget of {} is too short for {} candidates: on this machine at this moment the \
                 shortest pilot of them takes {least} s",
                units::seconds(self.budget()),
                self.entrants.len()
            );
            let todo = format!("give --budget {least}s or more, or fewer --candidates");
            return Err(Error::usage(what).todo(todo));
        }
        let spare = self.budget() - timed - least;
        Ok(self.budget().min(spare / parts))
    }

    /// What is known of each candidate before any run.
    fn describe(&self, kept: &mut Kept) -> Result<()> {
        for Entrant { candidate, .. } in &self.entrants {
            let name = &candidate.name;
            let row = |measure, value, unit| {
                let row = PilotRow::new(Experiment::Candidate, name, measure, value);
                row.unit(unit).origin(Origin::Counted)
            };
            let operations = candidate.operations(self.data.length);
            let length = self.data.length;
            kept.once(&format!("candidate/{name}"), || {
                Ok(Found::rows(vec![
                    row("parameters", candidate.parameters as f64, "values"),
                    row("width", candidate.facts.width as f64, "values"),
                    row("blocks", candidate.facts.layers as f64, "blocks"),
                    row("operations_per_base", operations, "operations").at(length),
                ]))
            })?;
        }
        for (name, why) in &self.left_out {
            let key = format!("candidate/{name}");
            kept.once(&key, || {
                Ok(Found::noted(Vec::new(), format!("not run: {why}")))
            })?;
        }
        Ok(())
    }

    /// All that decides what is measured, but for the speed of the machine.
    fn identity(&self) -> Result<RunIdentity> {
        let Request {
            budget,
            steps,
            distances,
            seed,
            seeds,
            memory,
            features,
            ..
        } = &self.request;
        let mut candidates = serde_json::Map::new();
        for Entrant { candidate, .. } in &self.entrants {
            let digest = match &candidate.start {
                Start::Sized(_) | Start::Random => String::new(),
                Start::Model(path) => sha256::digest(&path.join("config.json"))?,
            };
            let value = json!({"config": candidate.config.as_json(), "start": digest});
            candidates.insert(candidate.name.clone(), value);
        }
        let files = self.data.material.files().map(|file| &file.sha256);
        let identity = json!({
            "crocuta": env!("CARGO_PKG_VERSION"),
            "files": files.collect::<Vec<_>>(),
            "features": features,
            "candidates": candidates,
            "budget": budget.as_secs(),
            "length": self.data.length,
            "steps": steps,
            "distances": distances,
            "seed": seed,
            "seeds": seeds,
            "max-memory": memory,
            "device": self.place,
        });
        match identity {
            Value::Object(identity) => Ok(identity),
            _ => Err(Error::new(Kind::Internal, "an identity is an object")),
        }
    }

    /// What was asked for, and on what, in lines.
    fn about(&self) -> Vec<(&'static str, String)> {
        let Request {
            fasta,
            table,
            labels,
            ..
        } = &self.request;
        let inputs = fasta.iter().chain(table).chain(labels);
        let names: Vec<String> = inputs.map(|path| run::file_name(path)).collect();
        let mut about = vec![
            ("Data", names.join(", ")),
            ("Held out", self.data.held_out.clone()),
            ("Device", format!("{}, {}", self.place[0], self.place[1])),
            ("Memory", readable(self.memory)),
            ("Budget", format!("{:.0} s", self.budget())),
        ];
        if table.is_none() {
            let length = format!("{} bases", self.data.length);
            about.push(("Passages of training", length));
        }
        about
    }
}

/// Whether an error says something of a candidate, beside which the others go on.
fn is_finding(error: &Error) -> bool {
    [Kind::Usage, Kind::Memory, Kind::Model].contains(&error.kind())
}

/// What was found, or why nothing was.
fn found(measured: Result<Found>) -> Result<Found> {
    match measured {
        Err(error) if is_finding(&error) => {
            Ok(Found::noted(Vec::new(), format!("not measured: {error}")))
        }
        other => other,
    }
}

/// An interval among metrics: a list of its two ends.
fn interval(value: Option<&Value>) -> Option<[f64; 2]> {
    let ends = value?.as_array()?;
    let [low, high] = ends.as_slice() else {
        return None;
    };
    Some([low.as_f64()?, high.as_f64()?])
}
