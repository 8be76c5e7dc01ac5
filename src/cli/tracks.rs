//! Options of `predict` about heads of tasks, and what is written of them beside the table.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::genes::{CLASSES, GeneticCode};
use crate::head::{Link, Task, Unit};
use crate::io::atomic::{self, AtomicFile};
use crate::io::bigwig;
use crate::stream::{Genes, Regions, Tracks};
use std::path::{Path, PathBuf};

/// The name of the language model among heads.
const LANGUAGE_MODEL: &str = "lm";

/// What is predicted, and where it goes.
#[derive(clap::Args, Clone, Debug)]
pub struct Heads {
    /// The head of the model that predicts: one of `crocuta models show`, or lm, the language model
    /// [default: the model's own head of bases if it has one, else lm].
    #[arg(long, value_name = "NAME", help_heading = "Heads")]
    pub head: Option<String>,
    /// Write the genes that a gene head's probabilities give, as GFF3. Without -o no table is
    /// written then, nor with --bed and --bigwig.
    #[arg(long, value_name = "GFF3", help_heading = "Heads")]
    pub genes: Option<PathBuf>,
    /// The genetic code of the genes: 11, or 4 for mycoplasmas, where TGA is no stop.
    #[arg(long, value_name = "CODE", default_value = "11", value_parser = code,
          requires = "genes", help_heading = "Heads")]
    pub genetic_code: GeneticCode,
    /// Write runs of bases of a class, as BED.
    #[arg(long, value_name = "BED", help_heading = "Heads")]
    pub bed: Option<PathBuf>,
    /// The probability from which on a base is of a class, or the value, for --bed.
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.5,
        requires = "bed",
        help_heading = "Heads"
    )]
    pub threshold: f32,
    /// Write a bigWig for each class, PREFIX.<class>.bw.
    #[arg(long, value_name = "PREFIX", help_heading = "Heads")]
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

    /// The head that predicts; none for the language model.
    ///
    /// # Errors
    /// Usage: no such head, or one that cannot do what is asked for.
    pub fn task(&self, checkpoint: &Checkpoint) -> Result<Option<Task>> {
        let own = Task::list(&checkpoint.config)?;
        let mut own = own.into_iter().filter(|task| task.unit == Unit::Base);
        let task = match self.head.as_deref() {
            Some(LANGUAGE_MODEL) => None,
            Some(name) => {
                let found = own.find(|task| task.name == name);
                Some(found.ok_or_else(|| {
                    Error::usage(format!("the model has no head of bases \"{name}\""))
                        .todo("see crocuta models show, or train one with crocuta fit")
                })?)
            }
            None => match (own.next(), own.next()) {
                (Some(first), Some(_)) if self.genes.is_none() => {
                    let what = format!("the model has several heads, such as \"{}\"", first.name);
                    return Err(Error::usage(what).todo("choose with --head"));
                }
                (Some(first), Some(second)) => Some([first, second])
                    .into_iter()
                    .flatten()
                    .chain(own)
                    .find(is_of_genes),
                (first, _) => first,
            },
        };
        let can_genes = task.as_ref().is_some_and(is_of_genes);
        if self.genes.is_some() && !can_genes {
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

    /// The files that a run writes.
    pub fn paths(&self, task: Option<&Task>) -> Vec<PathBuf> {
        let outputs = task.map_or(&[][..], |task| &task.outputs);
        let wigs = self.bigwig.iter().flat_map(|prefix| {
            outputs.iter().map(move |name| {
                let mut path = prefix.clone().into_os_string();
                path.push(format!(".{}.bw", name.replace(['/', '\0'], "_")));
                PathBuf::from(path)
            })
        });
        self.genes
            .iter()
            .chain(&self.bed)
            .cloned()
            .chain(wigs)
            .collect()
    }

    /// Opens the files; scratch files lie in `scratch`.
    pub fn open(
        &self,
        task: &Task,
        inputs: &[&Path],
        force: bool,
        scratch: &Path,
    ) -> Result<Tracks> {
        let paths = self.paths(Some(task));
        let outputs: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        atomic::must_all_differ(&outputs, inputs)?;
        let create = |path: &Path| AtomicFile::create(path, force);
        let mut tracks = Tracks::default();
        let mut paths = paths.iter();
        if let (true, Some(path)) = (self.genes.is_some(), paths.next()) {
            tracks.genes = Some(Genes::create(create(path)?, self.genetic_code)?);
        }
        if let (true, Some(path)) = (self.bed.is_some(), paths.next()) {
            tracks.regions = Some(Regions::create(
                create(path)?,
                &task.outputs,
                self.threshold,
            ));
        }
        for path in paths {
            tracks
                .values
                .push(bigwig::Writer::create(create(path)?, scratch)?);
        }
        Ok(tracks)
    }
}

fn is_of_genes(task: &Task) -> bool {
    task.link == Link::Softmax && task.outputs == CLASSES
}
