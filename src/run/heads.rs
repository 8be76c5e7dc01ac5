//! Options of `predict` about heads of tasks, and what is written of them beside the table.

use super::outputs::{Format, Outputs};
use super::provenance;
use super::session::Session;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::genes::{CLASSES, GeneticCode};
use crate::head::{Link, Task, Unit};
use crate::io::bigwig;
use crate::stream::genome::{Genes, Regions, Tracks};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The name of the language model among heads.
const LANGUAGE_MODEL: &str = "lm";

/// What is predicted, and where it goes.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct Heads {
    /// The head of the model that predicts: one of `crocuta models show`, or lm, the language model
    /// [default: the model's own head of bases if it has one, else lm].
    #[arg(long, value_name = "NAME", help_heading = "Heads")]
    pub head: Option<String>,
    /// Write the genes that a gene head's probabilities give, as GFF3. Without -o no table is
    /// written then, nor with --bed and --bigwig.
    #[arg(long, value_name = "GFF3", help_heading = "Heads")]
    #[serde(skip)]
    pub genes: Option<PathBuf>,
    /// The genetic code of the genes: 11, or 4 for mycoplasmas, where TGA is no stop.
    #[arg(long, value_name = "CODE", default_value = "11", value_parser = code,
          requires = "genes", help_heading = "Heads")]
    #[serde(skip)]
    pub genetic_code: GeneticCode,
    /// Write runs of bases of a class, as BED.
    #[arg(long, value_name = "BED", help_heading = "Heads")]
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
    /// Write a bigWig for each class, PREFIX.<class>.bw.
    #[arg(long, value_name = "PREFIX", help_heading = "Heads")]
    #[serde(skip)]
    pub bigwig: Option<PathBuf>,
}

fn code(text: &str) -> Result<GeneticCode, String> {
    let code = text.parse().ok().and_then(GeneticCode::new);
    code.ok_or_else(|| format!("{text}: expected 11 or 4"))
}

impl Heads {
    /// Whether anything is written beside the table.
    pub fn writes(&self) -> bool {
        self.genes.is_some() || self.bed.is_some() || self.bigwig.is_some()
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
        let own = Task::list(&checkpoint.config)?.into_iter();
        let own: Vec<Task> = own.filter(|task| task.unit == Unit::Base).collect();
        let task = match self.head.as_deref() {
            Some(LANGUAGE_MODEL) => None,
            Some(name) => {
                let found = own.into_iter().find(|task| task.name == name);
                Some(found.ok_or_else(|| {
                    Error::usage(format!("the model has no head of bases \"{name}\""))
                        .todo("see crocuta models show, or train one with crocuta fit")
                })?)
            }
            None if self.genes.is_some() && own.len() > 1 => own.into_iter().find(is_of_genes),
            None if own.len() > 1 => {
                let what = format!("the model has several heads, such as \"{}\"", own[0].name);
                return Err(Error::usage(what).todo("choose with --head"));
            }
            None => own.into_iter().next(),
        };
        if self.genes.is_some() && !task.as_ref().is_some_and(is_of_genes) {
            let what = "--genes needs a model with a gene head";
            return Err(Error::usage(what)
                .todo("leave -m out for the bundled one, or train one with crocuta fit --genes"));
        }
        if self.writes() && task.is_none() {
            let what = "--bed and --bigwig are for heads of tasks";
            return Err(Error::usage(what).todo("train one with crocuta fit --objective tracks"));
        }
        Ok(task)
    }

    /// Opens the files; scratch files lie in `scratch`.
    ///
    /// # Errors
    /// As [`Outputs::create`].
    pub fn open(
        &self,
        task: &Task,
        session: &Session,
        outputs: &mut Outputs,
        scratch: &Path,
    ) -> Result<Tracks> {
        let mut tracks = Tracks::default();
        let source = provenance::line(session);
        if let Some(path) = &self.genes {
            let file = outputs.create(path, Format::Gff3)?;
            tracks.genes = Some(Genes::create(file, self.genetic_code, &source)?);
        }
        if let Some(path) = &self.bed {
            let file = outputs.create(path, Format::Bed)?;
            let regions = Regions::create(file, &task.outputs, self.threshold, &source);
            tracks.regions = Some(regions?);
        }
        if let Some(prefix) = &self.bigwig {
            for name in &task.outputs {
                let mut path = prefix.clone().into_os_string();
                path.push(format!(".{}.bw", name.replace(['/', '\0'], "_")));
                let file = outputs.create(Path::new(&path), Format::BigWig)?;
                tracks.values.push(bigwig::Writer::create(file, scratch)?);
            }
        }
        Ok(tracks)
    }
}

fn is_of_genes(task: &Task) -> bool {
    task.link == Link::Softmax && task.outputs == CLASSES
}
