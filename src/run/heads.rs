//! Options of `predict` about heads, and what is written of predictions beside the table.

use super::outputs::{Format, Outputs};
use super::provenance;
use super::session::Session;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::genes::{CLASSES, GeneticCode};
use crate::head::{Link, Task, Unit};
use crate::io::{bedgraph, bigwig};
use crate::sequence::shard::Shard;
use crate::stream::Strand;
use crate::stream::genome::{Genes, GenomeSettings, Regions, Tracks, ValueFile, ValueTrack};
use crate::table::{self, HeadOutputs};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The name of the language model among heads.
const LANGUAGE_MODEL: &str = "lm";

/// What is predicted, and where it goes.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct Heads {
    /// The head of the model that predicts: one of `crocuta models show`, or lm, the language model
    /// [default: the model's own head if it has one, else lm].
    #[arg(long, value_name = "NAME", help_heading = "Heads")]
    pub head: Option<String>,
    /// Write the genes that a gene head's probabilities give, as GFF3. Without -o no table is
    /// written then, nor with --bed, --bigwig and --bedgraph.
    #[arg(
        long,
        value_name = "GFF3",
        conflicts_with = "time_limit",
        help_heading = "Heads"
    )]
    #[serde(skip)]
    pub genes: Option<PathBuf>,
    /// The genetic code of the genes: 11, or 4 for mycoplasmas, where TGA is no stop.
    #[arg(long, value_name = "CODE", default_value = "11", value_parser = code,
          requires = "genes", help_heading = "Heads")]
    #[serde(skip)]
    pub genetic_code: GeneticCode,
    /// Write runs of bases of a class, as BED.
    #[arg(
        long,
        value_name = "BED",
        conflicts_with = "time_limit",
        help_heading = "Heads"
    )]
    #[serde(skip)]
    pub bed: Option<PathBuf>,
    /// The probability from which on a base is of a class, or the value, for --bed.
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.5,
        requires = "bed",
        help_heading = "Heads"
    )]
    #[serde(skip)]
    pub threshold: f32,
    /// Write bigWig tracks for genome browsers, PREFIX.<track>.bw: of the language model logp, entropy,
    /// p_A, p_C, p_G and p_T, of a head its classes; with --strand both PREFIX.<track>.plus.bw and
    /// .minus.bw.
    #[arg(
        long,
        value_name = "PREFIX",
        conflicts_with = "time_limit",
        help_heading = "Output"
    )]
    #[serde(skip)]
    pub bigwig: Option<PathBuf>,
    /// The same tracks as text, PREFIX.<track>.bedGraph.
    #[arg(
        long,
        value_name = "PREFIX",
        conflicts_with = "time_limit",
        help_heading = "Output"
    )]
    #[serde(skip)]
    pub bedgraph: Option<PathBuf>,
    /// Tracks that --bigwig and --bedgraph write, separated by commas [default: all].
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        help_heading = "Output"
    )]
    #[serde(skip)]
    pub tracks: Option<Vec<String>>,
}

fn code(text: &str) -> Result<GeneticCode, String> {
    let code = text.parse().ok().and_then(GeneticCode::new);
    code.ok_or_else(|| format!("{text}: expected 11 or 4"))
}

impl Heads {
    /// Whether anything is written beside the table.
    pub fn writes(&self) -> bool {
        self.genes.is_some() || self.bed.is_some() || self.writes_tracks()
    }

    /// Whether what is asked for is a head's that is not the language model's.
    pub fn ask_for_a_head(&self) -> bool {
        let named = self
            .head
            .as_deref()
            .is_some_and(|head| head != LANGUAGE_MODEL);
        self.genes.is_some() || self.bed.is_some() || named
    }

    fn writes_tracks(&self) -> bool {
        self.bigwig.is_some() || self.bedgraph.is_some()
    }

    /// What to do about an option that is the language model's alone, where another head predicts:
    /// that model makes neither genes nor regions of classes.
    pub fn without(&self, option: &str) -> String {
        let other = if self.genes.is_some() || self.bed.is_some() {
            ""
        } else {
            ", or add --head lm"
        };
        format!("leave out {option}{other}")
    }

    /// Fails if rows that are intervals, or bins, cannot be what is to be written, or if there is no
    /// name for it.
    ///
    /// # Errors
    /// Usage.
    pub fn check(&self, intervals: bool, bins: bool) -> Result<()> {
        for (option, prefix) in [("--bigwig", &self.bigwig), ("--bedgraph", &self.bedgraph)] {
            if let Some(prefix) = prefix {
                must_begin_a_name(option, prefix)?;
            }
        }
        let what = if self.tracks.is_some() && !self.writes_tracks() {
            "--tracks is for --bigwig and --bedgraph"
        } else if intervals && self.writes_tracks() {
            "--bigwig and --bedgraph do not go with --intervals, which may overlap"
        } else if bins && (self.genes.is_some() || self.bed.is_some()) {
            "--genes and --bed are made of bases: they do not go with --bin"
        } else {
            return Ok(());
        };
        Err(Error::usage(what))
    }

    /// The files beside the table whose names do not depend on the head.
    pub fn outputs(&self) -> Vec<(PathBuf, Format)> {
        let genes = self.genes.iter().map(|path| (path.clone(), Format::Gff3));
        let bed = self.bed.iter().map(|path| (path.clone(), Format::Bed));
        genes.chain(bed).collect()
    }

    /// The head that predicts; none for the language model.
    ///
    /// # Errors
    /// Usage: no such head, or one that cannot do what is asked for.
    pub fn task(&self, checkpoint: &Checkpoint) -> Result<Option<Task>> {
        let own = Task::list(&checkpoint.config)?;
        let task = if self.head.is_none() && self.genes.is_some() && own.len() > 1 {
            own.into_iter().find(is_of_genes)
        } else {
            chosen(own, self.head.as_deref())?
        };
        if self.genes.is_some() && !task.as_ref().is_some_and(is_of_genes) {
            return Err(match &self.head {
                Some(head) => {
                    Error::usage(format!("--genes needs a gene head: \"{head}\" is none"))
                        .todo("leave out --head")
                }
                None => Error::usage("--genes needs a model with a gene head").todo(
                    "leave out -m (and CROCUTA_MODEL) for the bundled one, or train one with \
                     crocuta fit --objective genes",
                ),
            });
        }
        if self.bed.is_some() && task.is_none() {
            let error = Error::usage("--bed is for heads of tasks");
            return Err(match self.head {
                Some(_) => error.todo("choose one with --head, not the language model"),
                None => error.todo("train one with crocuta fit --objective tracks"),
            });
        }
        Ok(task)
    }

    /// Opens the files; `task`: the head, if it is not the language model; `shard`: the one that is
    /// read, if not all is.
    ///
    /// # Errors
    /// As [`Outputs::create`]; Usage: no such track.
    pub fn open(
        &self,
        task: Option<&Task>,
        session: &Session,
        outputs: &mut Outputs,
        settings: &GenomeSettings,
        shard: Option<Shard>,
    ) -> Result<Tracks> {
        let mut tracks = Tracks::default();
        // Only who writes it waits for the model's digest.
        let source = || provenance::line(session);
        if let Some(path) = &self.genes {
            let file = outputs.create(path, Format::Gff3)?;
            tracks.genes = Some(Genes::create(file, self.genetic_code, &source(), shard)?);
        }
        if let (Some(path), Some(task)) = (&self.bed, task) {
            let file = outputs.create(path, Format::Bed)?;
            let regions = Regions::create(file, &task.outputs, self.threshold, &source());
            tracks.regions = Some(regions?);
        }
        let span = settings.bins.map_or(1, |(size, _)| size as u32);
        let strands: &[(&str, Option<u8>)] = match settings.strand {
            Strand::Both => &[(".plus", Some(b'+')), (".minus", Some(b'-'))],
            _ => &[("", None)],
        };
        for (name, place) in self.chosen(task)? {
            for (suffix, strand) in strands {
                let name = format!("{name}{suffix}");
                if let Some(prefix) = &self.bigwig {
                    let path = track(prefix, &name, "bw");
                    let file = outputs.create(&path, Format::BigWig)?;
                    let writer = bigwig::Writer::create(file, span, &settings.scratch)?;
                    let file = ValueFile::BigWig(Box::new(writer));
                    tracks.values.push(ValueTrack::new(file, place, *strand));
                }
                if let Some(prefix) = &self.bedgraph {
                    let path = track(prefix, &name, "bedGraph");
                    let file = outputs.create(&path, Format::BedGraph)?;
                    let writer = bedgraph::Writer::create(file, &source())?;
                    let file = ValueFile::BedGraph(Box::new(writer));
                    tracks.values.push(ValueTrack::new(file, place, *strand));
                }
            }
        }
        Ok(tracks)
    }

    /// The names of the tracks, and the places of their values in a row.
    fn chosen(&self, task: Option<&Task>) -> Result<Vec<(String, usize)>> {
        let all: Vec<(String, usize)> = match task {
            Some(task) => task.outputs.iter().cloned().zip(0..).collect(),
            None => {
                let named = table::TRACKS.iter();
                named.map(|(name, at)| (name.to_string(), *at)).collect()
            }
        };
        let Some(wanted) = &self.tracks else {
            return Ok(all);
        };
        let find = |name: &String| {
            let found = all.iter().find(|(known, _)| known == name).cloned();
            found.ok_or_else(|| {
                let known: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
                let todo = format!("there are {}", known.join(", "));
                Error::usage(format!("--tracks: no track is called {name}")).todo(todo)
            })
        };
        wanted.iter().map(find).collect()
    }
}

/// The head that is asked for, or the only one; none for the language model.
///
/// # Errors
/// Usage: no such head, or several of which none is asked for.
pub fn chosen(own: Vec<Task>, asked: Option<&str>) -> Result<Option<Task>> {
    let all = || {
        let names = own.iter().map(|task| format!("\"{}\"", task.name));
        names
            .chain(["lm".to_string()])
            .collect::<Vec<_>>()
            .join(", ")
    };
    match asked {
        Some(LANGUAGE_MODEL) => Ok(None),
        Some(name) => match own.iter().find(|task| task.name == name) {
            Some(task) => Ok(Some(task.clone())),
            None => Err(
                Error::usage(format!("the model has no head \"{name}\"")).todo(format!(
                    "choose of {}, or train one with crocuta fit",
                    all()
                )),
            ),
        },
        None if own.len() > 1 => Err(Error::usage("the model has several heads")
            .todo(format!("choose with --head: {}", all()))),
        None => Ok(own.into_iter().next()),
    }
}

/// What a table says of a head.
pub fn outputs(task: &Task) -> HeadOutputs {
    HeadOutputs {
        head: task.name.clone(),
        names: task.outputs.clone(),
        probabilities: task.link != Link::Identity,
    }
}

/// What a user should know of the head that a run uses, and of those that it leaves aside.
pub fn notes(checkpoint: &Checkpoint, used: Option<&Task>) -> Result<Vec<String>> {
    let own = Task::list(&checkpoint.config)?.into_iter();
    let others = own.filter(|task| Some(task) != used);
    let others: Vec<String> = others.map(|task| described(&task)).collect();
    let left = format!("heads that this run does not use: {}", others.join("; "));
    let mut notes: Vec<String> = used.and_then(Task::warning).into_iter().collect();
    notes.extend((!others.is_empty()).then_some(left));
    Ok(notes)
}

/// A head in words: its name, what it describes, and its classes or values.
pub fn described(task: &Task) -> String {
    let unit = match task.unit {
        Unit::Base => "bases",
        Unit::Sequence => "sequences",
    };
    let what = match task.link {
        Link::Identity => "values",
        Link::Sigmoid => "classes that may overlap",
        Link::Softmax => "classes",
    };
    format!(
        "{}, of {unit}, {what} {}",
        task.name,
        task.outputs.join(", ")
    )
}

/// Fails if tracks of this prefix would have hidden names, or names like options.
fn must_begin_a_name(option: &str, prefix: &Path) -> Result<()> {
    let text = prefix.to_string_lossy();
    let name = text.rsplit('/').next().unwrap_or_default();
    if !["", "-", ".", ".."].contains(&name) {
        return Ok(());
    }
    let what = format!("{option} {text}: tracks are files whose names begin with the prefix");
    Err(Error::usage(what).todo("give one that ends in a name, such as tracks/genome"))
}

/// The path of a track.
fn track(prefix: &Path, name: &str, extension: &str) -> PathBuf {
    let mut path = prefix.to_path_buf().into_os_string();
    let name = name.replace(['/', '\0'], "_");
    path.push(format!(".{name}.{extension}"));
    path.into()
}

fn is_of_genes(task: &Task) -> bool {
    task.link == Link::Softmax && task.outputs == CLASSES
}
