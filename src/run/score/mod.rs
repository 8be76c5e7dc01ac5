//! `score`: variants of a VCF, or all single changes of a region, through a model into a table.

mod annotate;
mod check;
mod preset;
mod settings;
mod shards;
mod table;

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
use crate::io::variants::Options as ReadOptions;
use crate::io::variants::annotate::Annotator;
use crate::score::{
    self, Carried, Checked, Embeddings, Ledger, Mode, Part, Reference, Scorer, Settings, Shares,
};
use crate::stream::{Engine, Journal, Progress, Strand, go_on};
use crate::table::VariantColumns;
use preset::Preset;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

/// Bytes of memory for an allele.
const ALLELE: u64 = 80;
/// Tokens of a step on a GPU at most, of windows: all their vectors travel.
const GPU_WINDOWS: usize = 1 << 17;
/// The same of a stream: the reference and the alternates that branch off it.
const GPU_STREAM: usize = 1 << 21;

/// Options of `crocuta score`.
#[derive(clap::Args, Clone, Debug, Serialize)]
#[command(
    after_help = "Example:\n  crocuta score variants.vcf.gz -r genome.fa.gz -m MODEL -o scores.parquet --vcf-out scored.vcf.gz",
    mut_arg("overlap", |arg| arg.hide(true)),
    mut_arg("exact", |arg| arg.hide(true))
)]
pub struct Score {
    /// Variants: VCF (plain, gzip, BGZF, zstd) or BCF; - is stdin. In any order.
    #[arg(required_unless_present = "saturate", conflicts_with = "saturate")]
    #[serde(skip)]
    variants: Option<PathBuf>,
    /// The reference that the variants were called on: FASTA, plain, gzip, BGZF or zstd.
    #[arg(short, long, value_name = "FASTA", help_heading = "Input")]
    #[serde(skip)]
    reference: PathBuf,
    /// Instead of a VCF: every single-base change of this region, chr:beg-end, 1-based, end
    /// included.
    #[arg(long, value_name = "REGION", help_heading = "Input")]
    saturate: Option<String>,
    /// Score also, as rows of their own, the variants that this sample carries together: phased, on
    /// one haplotype, at most --after bases apart.
    #[arg(
        long,
        visible_alias = "samples",
        value_name = "NAME",
        conflicts_with = "saturate",
        help_heading = "Input"
    )]
    sample: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    sharding: Sharding,
    /// What shards are made of; with `site`, --context bounds what each reads before its first.
    #[arg(
        long,
        value_enum,
        default_value = "contig",
        requires = "shard",
        help_heading = "Input"
    )]
    shard_by: shards::By,
    /// Read BGZF files without their end marker.
    #[arg(long, help_heading = "Input")]
    #[serde(skip)]
    allow_missing_eof: bool,
    #[command(flatten)]
    #[serde(flatten)]
    compute: Compute,
    /// What the model has read before a variant: the contig from its start, or a window of
    /// --window bases [default: stream, or window with --window or a bidirectional model].
    #[arg(long, value_enum, help_heading = "Run")]
    mode: Option<ModeName>,
    /// Bases after a variant that are scored, in a stream.
    #[arg(long, value_name = "BASES", default_value_t = 1024, help_heading = "Run",
          value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    after: u32,
    /// Read no more than so many bases before a variant, in a stream [default: all].
    #[arg(long, value_name = "BASES", help_heading = "Run")]
    context: Option<u64>,
    /// The longest REF or ALT that is scored.
    #[arg(long, value_name = "BASES", default_value_t = 1024, help_heading = "Run",
          value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    max_allele: u32,
    /// Bases on either side of a variant in the mean vectors of the columns _win [default: 768].
    #[arg(long, value_name = "BASES", help_heading = "Run")]
    around: Option<u32>,
    /// Options of a published protocol; those given beside it win.
    #[arg(long, value_enum, help_heading = "Run")]
    preset: Option<Preset>,
    #[command(flatten)]
    #[serde(flatten)]
    output: Output,
    /// Write the VCF too, with the scores in INFO; BGZF, with an index.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "saturate",
        help_heading = "Output"
    )]
    #[serde(skip)]
    vcf_out: Option<PathBuf>,
    /// Keep vectors of both alleles: after the variant, or their means around it.
    #[arg(long, value_enum, help_heading = "Output")]
    embeddings: Option<Embeddings>,
    /// The layer whose vectors are compared and kept: 0 the embedding, i the residual stream after
    /// block i, -1 that after the last block; or the name of a published module, as crocuta models
    /// show lists them [default: the last norm's output].
    #[arg(
        long,
        value_name = "LAYER",
        allow_negative_numbers = true,
        help_heading = "Output"
    )]
    layer: Option<String>,
    /// A picture of the region: log-likelihood differences as a heat map, SVG.
    #[arg(
        long,
        value_name = "FILE",
        requires = "saturate",
        help_heading = "Output"
    )]
    #[serde(skip)]
    plot: Option<PathBuf>,
}

/// How the model comes to a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
enum ModeName {
    /// The state is carried from the contig's start, and forked at each variant.
    Stream,
    /// Each allele's window is read with an empty state.
    Window,
}

/// What stands open during a run.
pub struct OpenScore {
    session: Session,
    head: LanguageModel,
    settings: Settings,
    columns: VariantColumns,
    reference: Reference,
    ledger: RwLock<Ledger>,
    /// How the input's records are shared out, if there are shards.
    shares: Option<Shares>,
    checked: Checked,
    /// The same of each shard.
    of_shards: BTreeMap<u64, Checked>,
}

/// The files that a run writes.
pub struct ScoreTargets {
    table: AtomicFile,
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
        files
    }

    fn outputs(&self) -> Vec<(PathBuf, Format)> {
        let mut outputs = vec![(self.output.output.clone(), Format::Parquet)];
        outputs.extend(self.vcf_out.iter().map(|path| (path.clone(), Format::Vcf)));
        outputs.extend(self.plot.iter().map(|path| (path.clone(), Format::Svg)));
        outputs
    }

    fn open(&self) -> Result<OpenScore> {
        let mut loaded = Loaded::open(&self.compute, checkpoint::DEFAULT)?;
        if let Some(layer) = &self.layer {
            let layer = loaded.facts.find_layer(layer)?;
            loaded.layers.insert(0, layer);
        }
        let head = LanguageModel::load(&loaded.checkpoint, &loaded.model, &loaded.facts)?;
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
        let mut session = Session::open(loaded, &asked, on_cpu, Some(most as u64))?;
        // Windows are the variants' own.
        session.windows = None;
        if session.device().1 == "cuda" {
            session.chunk = session.chunk.min(most);
        }
        settings.chunk = session.chunk;
        let strand = self.strand();
        let columns = VariantColumns {
            haplotypes: self.sample.is_some(),
            reverse: strand == Strand::Both,
            mean: strand != Strand::Forward,
            embeddings: settings.embeddings.map(|_| {
                let Engine { facts, layers, .. } = &session.engine;
                (facts.width, facts.layer_name(layers[0]))
            }),
        };
        session.estimate = check::estimate(&session, &settings, &columns);
        session.estimate.check_memory()?;
        let mut opened = OpenScore {
            shares: self.shares(&reference)?,
            ledger: RwLock::new(Ledger::create(&settings.scratch)?),
            session,
            head,
            settings,
            columns,
            reference,
            checked: Checked::default(),
            of_shards: BTreeMap::new(),
        };
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
        let table = outputs.create(&self.output.output, Format::Parquet)?;
        let plot = self.plot.as_deref();
        let plot = plot.map(|path| outputs.create(path, Format::Svg));
        let annotator = match (&self.variants, &self.vcf_out) {
            (Some(variants), Some(path)) => {
                let file = outputs.create(path, Format::Vcf)?;
                Some(annotate::open(self, opened, (variants, file), outputs)?)
            }
            _ => None,
        };
        Ok(ScoreTargets {
            table,
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
            head,
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
        let engine = &session.engine;
        let scorer = Scorer { engine, head };
        let totals = score::run((scorer, settings), reference, ledger, journal, progress)?;
        let receipt = self.write(opened, targets.table)?;
        let ledger = ledger.read().unwrap_or_else(PoisonError::into_inner);
        if let (Some(variants), Some(annotator)) = (&self.variants, targets.annotator) {
            annotate::write(self, &ledger, variants, annotator)?;
        }
        if let Some(plot) = targets.plot {
            score::draw(&ledger, plot)?;
        }
        let mut summary = counts(&ledger, opened.checked, totals.bases);
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
            rows: receipt.rows,
            receipt: Some(receipt),
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
            checked,
            of_shards,
            ..
        } = opened;
        let ledger = ledger.get_mut().unwrap_or_else(PoisonError::into_inner);
        let part = self.part(shares.as_ref());
        let carried = self.read(settings, reference, &part, ledger)?;
        let causal = session.engine.facts.causal;
        let named = |error: Error| match &self.variants {
            Some(path) => error.file(path.display()),
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
        estimate.rows = Some(alleles);
        estimate.bases = Some(checked.bases());
        estimate.fixed += alleles * ALLELE;
        Ok(())
    }

    /// Fills the ledger.
    fn read(
        &self,
        settings: &Settings,
        reference: &Reference,
        part: &Part,
        ledger: &mut Ledger,
    ) -> Result<Vec<Carried>> {
        match (&self.saturate, &self.variants) {
            (Some(region), _) => {
                score::saturate(region, reference, &settings.scratch, part, ledger)?;
                Ok(Vec::new())
            }
            (None, Some(path)) => {
                score::read_alleles(path, &self.reading(), reference, part, ledger)
            }
            (None, None) => Err(Error::usage("no variants")),
        }
    }
}

/// What was scored, with so many bases through the encoder.
fn counts(ledger: &Ledger, checked: Checked, bases: u64) -> Summary {
    let statuses = ledger.statuses();
    let each = bases as f64 / (checked.scored as f64).max(1.0);
    let named = statuses.iter().map(|(name, n)| format!("{name} {n}"));
    let named: Vec<_> = named.collect();
    let mut summary = Summary {
        counted: format!(
            "{} alleles ({}), {each:.0} bases through the encoder an allele",
            ledger.len(),
            named.join(", ")
        ),
        ..Summary::default()
    };
    let own = json!({
        "scored": checked.scored,
        "statuses": statuses,
        "encoder_bases_per_allele": each,
    });
    if let Value::Object(own) = own {
        summary.own = own;
    }
    let failed = ledger.len() as u64 - checked.scored;
    if failed > 0 {
        let what = format!("{failed} alleles have no scores");
        let why = format!("{what}: the column status says why");
        summary.warnings.push(why);
        summary.failed = Some(what);
    }
    summary
}
