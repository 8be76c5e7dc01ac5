//! `score`: variants of a VCF, or all single changes of a region, through a model into a table.

mod annotate;
mod check;
mod preset;

use super::layers;
use super::options::{Compute, Output, indexed};
use super::outputs::{Format, Outputs};
use super::provenance::{self, About};
use super::session::{Loaded, Session};
use super::summary::Summary;
use super::units::number;
use super::{Job, name_of};
use crate::checkpoint;
use crate::encoder::Facts;
use crate::error::{Error, Result};
use crate::head::LanguageModel;
use crate::io::atomic::AtomicFile;
use crate::io::input::is_stdin;
use crate::io::table_writer::Receipt;
use crate::io::variants::annotate::Annotator;
use crate::score::{
    self, Carried, Checked, Embeddings, Ledger, Mode, Reference, Scorer, Settings, Window,
};
use crate::stream::{Engine, Journal, Progress, Strand, TableOutput, go_on};
use crate::table::{self, VariantColumns, VariantRow, VariantRows};
use preset::Preset;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

/// Bytes of memory for an allele.
const ALLELE: u64 = 80;
/// Rows of a batch; four are a row group.
const BATCH: usize = 1 << 13;
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
    checked: Checked,
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

    fn check_options(&self) -> Result<()> {
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
            ledger: RwLock::new(Ledger::create(&settings.scratch)?),
            session,
            head,
            settings,
            columns,
            reference,
            checked: Checked::default(),
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
        check::describe(opened)
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
            checked,
            ..
        } = opened;
        let ledger = ledger.get_mut().unwrap_or_else(PoisonError::into_inner);
        let carried = self.read(settings, reference, ledger)?;
        let causal = session.engine.facts.causal;
        let named = |error: Error| match &self.variants {
            Some(path) => error.file(path.display()),
            None => error,
        };
        let watch = &mut |_: u64, _: &str| go_on();
        *checked = score::prepare(settings, causal, reference, ledger, watch).map_err(named)?;
        if score::join(settings, reference, ledger, &carried)? > 0 {
            *checked = score::prepare(settings, causal, reference, ledger, watch).map_err(named)?;
        }
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
        ledger: &mut Ledger,
    ) -> Result<Vec<Carried>> {
        match (&self.saturate, &self.variants) {
            (Some(region), _) => {
                score::saturate(region, reference, &settings.scratch, ledger)?;
                Ok(Vec::new())
            }
            (None, Some(path)) => {
                let options = crate::io::variants::Options {
                    sample: self.sample.clone(),
                    allow_missing_eof: self.allow_missing_eof,
                };
                score::read_alleles(path, &options, reference, ledger)
            }
            (None, None) => Err(Error::usage("no variants")),
        }
    }

    fn settings(&self, facts: &Facts) -> Result<Settings> {
        let preset = self
            .preset
            .map(|preset| preset.options(facts))
            .transpose()?;
        let preset = preset.unwrap_or_default();
        let asked = self.compute.window.map(|size| size as usize);
        let windowed = match self.mode {
            Some(mode) => mode == ModeName::Window,
            None => !facts.causal || asked.or(preset.window).is_some(),
        };
        if !windowed && !facts.causal {
            let error = Error::usage("a bidirectional model has no stream to fork");
            return Err(error.todo("use --mode window"));
        }
        let mode = if windowed {
            let size = asked.or(preset.window).or(facts.context).unwrap_or(8192);
            let left = match asked {
                None => preset.left,
                Some(_) => None,
            };
            Mode::Window(Window {
                size,
                left: left.unwrap_or(size / 2),
            })
        } else {
            Mode::Stream
        };
        let around = self.around.map(|bases| bases as usize);
        Ok(Settings {
            mode,
            after: self.after as usize,
            context: self.context,
            around: around.or(preset.around).unwrap_or(768),
            longest: self.max_allele as usize,
            both_strands: self.strand() != Strand::Forward,
            embeddings: self.embeddings.or(preset.embeddings),
            chunk: 0,
            scratch: self.compute.scratch(&self.output.output),
        })
    }

    /// The strand asked for, or the preset's.
    fn strand(&self) -> Strand {
        match (self.compute.strand, self.preset) {
            (Strand::Forward, Some(preset)) => preset.strand(),
            (strand, _) => strand,
        }
    }

    /// Writes the table in the order of the input.
    fn write(&self, opened: &OpenScore, target: AtomicFile) -> Result<Receipt> {
        let columns = table::variants(&opened.columns);
        let footer = self.footer(opened, &columns)?;
        let ledger = opened.ledger.read().unwrap_or_else(PoisonError::into_inner);
        let row_bytes = opened.session.estimate.row_bytes;
        let mut table = TableOutput::create(target, columns, 4 * BATCH as u64)?
            .at_most(self.output.max_output, row_bytes);
        for first in (0..ledger.len()).step_by(BATCH) {
            let rows = first..ledger.len().min(first + BATCH);
            let rows: Vec<VariantRow> = rows.map(|i| ledger.row(i)).collect::<Result<_>>()?;
            table.write(VariantRows(rows))?;
        }
        table.finish(&footer)
    }

    fn footer(&self, opened: &OpenScore, columns: &[table::Column<VariantRows>]) -> Result<Value> {
        let settings = &opened.settings;
        let mut params = Vec::new();
        let window = match settings.mode {
            Mode::Stream => {
                params.push(("after", json!(settings.after)));
                if let Some(context) = settings.context {
                    params.push(("context", json!(context)));
                }
                None
            }
            Mode::Window(window) => {
                params.push(("window-left", json!(window.left)));
                Some(window.size as u64)
            }
        };
        params.push(("around", json!(settings.around)));
        params.push(("max-allele", json!(settings.longest)));
        if let Some(embeddings) = settings.embeddings {
            params.push(("embeddings", json!(name_of(embeddings))));
        }
        if let Some(layer) = &self.layer {
            params.push(("layer", json!([layer])));
        }
        if let Some(preset) = self.preset {
            params.push(("preset", json!(name_of(preset))));
        }
        if let Some(sample) = &self.sample {
            params.push(("sample", json!(sample)));
        }
        let about = About {
            table: "variants",
            reference: (Some(&self.reference), opened.reference.contigs()),
            mode: None,
            window,
            strand: self.strand(),
            regions: self.saturate.iter().cloned().collect(),
            params,
        };
        provenance::footer(&opened.session, &self.compute, about, columns)
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
