//! `score`: variants of a VCF, or all single changes of a region, through a model into a table.

mod annotate;
mod background;
mod check;
mod options;
mod protocol;
mod report;
mod settings;
mod shards;
mod tables;

pub use options::Score;

use super::device::Load;
use super::layers;
use super::options::{Compute, Output, Sharding, indexed};
use super::outputs::{Format, Outputs};
use super::session::{Loaded, Session};
use super::summary::Summary;
use super::units::number;
use super::{Job, name_of};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::head::LanguageModel;
use crate::io::atomic::AtomicFile;
use crate::io::input::is_stdin;
use crate::io::source::shown;
use crate::io::variants::annotate::Annotator;
use crate::score::{
    self, Background, Carried, Checked, Chosen, Ledger, Mode, Reference, Scorer, Settings, Shares,
};
use crate::sequence::region::Span;
use crate::stream::{Engine, Journal, Progress, Strand, go_on};
use crate::table::{self, VariantColumns};
use options::ModeName;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};
use tables::Tables;

/// Bytes of memory for an allele.
const ALLELE: u64 = 80;
/// Tokens of a step on a GPU at most, of windows: all their vectors travel.
const GPU_WINDOWS: usize = 1 << 17;
/// The same of a stream: the reference and the alternates that branch off it.
const GPU_STREAM: usize = 1 << 21;

/// What stands open during a run.
pub struct OpenScore {
    session: Session,
    /// Of each of the devices.
    heads: Vec<LanguageModel>,
    settings: Settings,
    columns: VariantColumns,
    reference: Reference,
    ledger: RwLock<Ledger>,
    /// Where variants are scored, sorted and joined; none: everywhere.
    within: Option<Vec<Span>>,
    /// Regions without a base.
    left_out: u64,
    /// How the input's records are shared out, if there are shards.
    shares: Option<Shares>,
    checked: Checked,
    /// The same of each shard.
    of_shards: BTreeMap<u64, Checked>,
    /// Scores to compare with, when they are known.
    background: Option<Background>,
}

/// The files that a run writes.
pub struct ScoreTargets {
    tables: Tables,
    plot: Option<AtomicFile>,
    annotator: Option<Annotator>,
}

impl Job for Score {
    type Opened = OpenScore;
    type Targets = ScoreTargets;

    fn shared(&self) -> (&Compute, &Output) {
        (&self.compute, &self.output)
    }

    fn sharding(&self) -> &Sharding {
        &self.sharding
    }

    fn check_options(&self) -> Result<()> {
        self.check_shards()?;
        for (given, name) in [
            (self.compute.exact, "--exact"),
            (self.compute.overlap.is_some(), "--overlap"),
        ] {
            if given {
                let what = format!("{name} is not for scores of variants");
                return Err(Error::usage(what));
            }
        }
        if self.compute.strand == Strand::Own {
            return Err(Error::usage("--strand own is for --intervals"));
        }
        if self.compute.strand == Strand::Reverse {
            let error = Error::usage("the reverse strand alone is not scored");
            return Err(error.todo("--strand both gives its scores beside the forward strand's"));
        }
        if self.mode == Some(ModeName::Stream) && self.compute.window.is_some() {
            return Err(Error::usage("--window is for --mode window"));
        }
        if self.background.as_deref().is_some_and(is_stdin) {
            return Err(Error::usage("--background is a file, not stdin"));
        }
        if self.vcf_out.is_some() && self.variants.as_deref().is_some_and(is_stdin) {
            let error = Error::usage("--vcf-out reads the variants twice");
            return Err(error.todo("give a file, not stdin"));
        }
        Ok(())
    }

    fn inputs(&self) -> Vec<(&'static str, PathBuf)> {
        let mut files = vec![("reference", self.reference.clone())];
        files.extend(indexed(
            "reference index",
            &self.reference,
            &[".fai", ".gzi"],
        ));
        if let Some(variants) = &self.variants {
            files.push(("variants", variants.clone()));
            files.extend(indexed("index of variants", variants, &[".tbi", ".csi"]));
        }
        let background = self.background.iter();
        files.extend(background.map(|path| ("background", path.clone())));
        files.extend(self.regions.file());
        files
    }

    fn outputs(&self) -> Vec<(PathBuf, Format)> {
        let table = self.table().map(|path| (path, Format::Parquet));
        let mut outputs: Vec<_> = table.into_iter().collect();
        outputs.extend(self.tsv.iter().map(|path| (path.clone(), Format::Text)));
        outputs.extend(self.vcf_out.iter().map(|path| (path.clone(), Format::Vcf)));
        outputs.extend(self.plot.iter().map(|path| (path.clone(), Format::Picture)));
        outputs
    }

    fn open(&self) -> Result<OpenScore> {
        let mut loaded = Loaded::open(&self.compute, checkpoint::DEFAULT)?;
        if let Some(layer) = &self.layer {
            let layer = loaded.facts.find_layer(layer)?;
            let last = loaded.layers.len() - 1;
            loaded.layers.splice(..last, [layer]);
        }
        let mut settings = self.settings(&loaded.facts)?;
        let reference = Reference::open(&self.reference, self.allow_missing_eof)?;
        let asked = Compute {
            window: None,
            ..self.compute.clone()
        };
        let streams = settings.mode == Mode::Stream;
        let forks = "this model's alternates fork a stream on the CPU only";
        let on_cpu = (streams && !loaded.facts.branches_on_gpu).then_some(forks);
        let most = if streams { GPU_STREAM } else { GPU_WINDOWS };
        let load = Load {
            bases: Some(most as u64),
            vectors: false,
        };
        let mut session = Session::open(loaded, &asked, on_cpu, load)?;
        let heads = session
            .engines()
            .map(|engine| LanguageModel::load(&session.checkpoint, &engine.model, &engine.facts));
        let heads = heads.collect::<Result<_>>()?;
        // Windows are the variants' own.
        session.windows = None;
        session
            .notes
            .extend(self.context_note(&session.engine.facts, &settings));
        if session.device().1 == "cuda" {
            session.chunk = session.chunk.min(most);
        }
        settings.chunk = session.chunk;
        let strand = self.strand();
        let columns = VariantColumns {
            info: self.info.clone(),
            haplotypes: self.sample.is_some(),
            reverse: strand == Strand::Both,
            mean: strand != Strand::Forward,
            four: settings.four,
            quantiles: self.background.is_some(),
            embeddings: settings.embeddings.map(|_| {
                let Engine { facts, layers, .. } = &session.engine;
                (facts.width, facts.layer_name(layers[0]))
            }),
        };
        self.text_columns(&table::variants(&columns))?;
        session.estimate = check::estimate(&session, &settings, &columns);
        session.estimate.check_memory()?;
        let (within, left_out) = self.within(&reference)?;
        let mut opened = OpenScore {
            within,
            left_out,
            shares: self.shares(&reference)?,
            ledger: RwLock::new(Ledger::create(&settings.scratch)?),
            session,
            heads,
            settings,
            columns,
            reference,
            checked: Checked::default(),
            of_shards: BTreeMap::new(),
            background: None,
        };
        opened.background = self.earlier_background(&opened)?;
        self.prepare(&mut opened)?;
        Ok(opened)
    }

    fn session(opened: &OpenScore) -> &Session {
        &opened.session
    }

    fn options(&self) -> Result<Map<String, Value>> {
        super::identity::options(self)
    }

    fn declare(&self, opened: &OpenScore, outputs: &mut Outputs) -> Result<ScoreTargets> {
        let tables = self.tables(outputs)?;
        let plot = self.plot.as_deref();
        let plot = plot.map(|path| outputs.create(path, Format::Picture));
        let annotator = match (&self.variants, &self.vcf_out) {
            (Some(variants), Some(path)) => {
                let file = outputs.create(path, Format::Vcf)?;
                Some(annotate::open(self, opened, (variants, file), outputs)?)
            }
            _ => None,
        };
        Ok(ScoreTargets {
            tables,
            plot: plot.transpose()?,
            annotator,
        })
    }

    fn process(
        &self,
        opened: &mut OpenScore,
        targets: ScoreTargets,
        journal: Option<&mut Journal>,
        progress: &mut Progress,
    ) -> Result<Summary> {
        let OpenScore {
            session,
            heads,
            settings,
            reference,
            ledger,
            ..
        } = &*opened;
        tracing::info!(
            "{} alleles will be scored, about {} bases through the encoder",
            number(opened.checked.scored),
            number(opened.checked.bases()),
        );
        let scorers = session.engines().zip(heads);
        let scorers = scorers.map(|(engine, head)| Scorer { engine, head });
        let scorers: Vec<_> = scorers.collect();
        let (totals, known) =
            score::run((&scorers, settings), reference, ledger, journal, progress)?;
        if let Some(scored) = self.scored_background(opened)? {
            opened.background = Some(scored);
        }
        let receipt = self.write(opened, &known, targets.tables)?;
        if let (Some(variants), Some(annotator)) = (&self.variants, targets.annotator) {
            annotate::write(self, opened, variants, annotator)?;
        }
        let ledger = opened.ledger.read();
        let ledger = ledger.unwrap_or_else(PoisonError::into_inner);
        if let Some(plot) = targets.plot {
            score::draw(&ledger, plot)?;
        }
        let mut summary = report::counts(
            (&ledger, opened.background.as_ref()),
            opened.checked,
            &known,
            totals.bases,
        );
        summary.leave_out(opened.left_out, "regions");
        let seconds = progress.elapsed().as_secs_f64().max(1e-9);
        let speed = json!(opened.checked.scored as f64 / seconds);
        summary.own.insert("alleles_per_second".to_string(), speed);
        let layer = &opened.session.engine.layers[..1];
        let layers = layers::summary(&opened.session.engine.facts, layer);
        summary.own.extend([layers]);
        let strand = json!(name_of(self.strand()));
        summary.own.insert("strand".to_string(), strand);
        Ok(Summary {
            totals,
            rows: ledger.rows().count() as u64,
            receipt,
            ..summary
        })
    }

    fn describe(&self, opened: &mut OpenScore) -> Result<String> {
        check::describe(self, opened)
    }
}

impl Score {
    /// Fills the ledger, gives every allele its status, and completes the estimate.
    fn prepare(&self, opened: &mut OpenScore) -> Result<()> {
        let OpenScore {
            session,
            settings,
            reference,
            ledger,
            shares,
            within,
            checked,
            of_shards,
            ..
        } = opened;
        let ledger = ledger.get_mut().unwrap_or_else(PoisonError::into_inner);
        let chosen = Chosen {
            part: self.part(shares.as_ref()),
            within: within.clone(),
        };
        let carried = self.read(settings, reference, &chosen, ledger)?;
        self.read_background(reference, ledger)?;
        let causal = session.engine.facts.causal;
        let named = |error: Error| match &self.variants {
            Some(path) => error.file(shown(path)),
            None => error,
        };
        let shares = shares.as_ref();
        let prepare = |ledger: &mut Ledger| {
            let watch = &mut |_: u64, _: &str| go_on();
            score::prepare(settings, causal, reference, ledger, shares, watch).map_err(named)
        };
        *of_shards = prepare(ledger)?;
        if score::join(settings, reference, ledger, &carried)? > 0 {
            *of_shards = prepare(ledger)?;
        }
        *checked = of_shards.values().copied().sum();
        let alleles = ledger.len() as u64;
        let estimate = &mut session.estimate;
        estimate.rows = Some(ledger.rows().count() as u64);
        estimate.bases = Some(checked.bases());
        estimate.fixed += alleles * ALLELE;
        Ok(())
    }

    /// Fills the ledger.
    fn read(
        &self,
        settings: &Settings,
        reference: &Reference,
        chosen: &Chosen,
        ledger: &mut Ledger,
    ) -> Result<Vec<Carried>> {
        match (&self.saturate, &self.variants) {
            (Some(region), _) => {
                let region = (region.as_str(), self.output.force);
                score::saturate(region, reference, &settings.scratch, &chosen.part, ledger)?;
                Ok(Vec::new())
            }
            (None, Some(path)) => {
                let options = (&self.reading(), &self.info[..]);
                score::read_alleles(path, options, reference, chosen, ledger)
            }
            (None, None) => Err(Error::usage("no variants")),
        }
    }
}
