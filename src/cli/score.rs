//! `score`: variants of a VCF, or all single changes of a region, through a model into a table.

mod check;
mod haplotypes;
mod input;
mod plot;
mod preset;
mod table;

use super::device;
use super::estimate::Estimate;
use super::options::{Compute, Output, readable};
use super::process::{Logging, peak_memory};
use super::run::name_of;
use crate::checkpoint::{self, Checkpoint};
use crate::encoder::Facts;
use crate::error::{Error, Kind, Result};
use crate::head::LanguageModel;
use crate::io::atomic::{self, AtomicFile};
use crate::io::input as files;
use crate::io::schema::{self, VariantColumns};
use crate::score::{
    self, Checked, Embeddings, Ledger, Mode, NAMES, Reference, Scorer, Settings, Window,
};
use crate::stream::{Progress, SIGNAL, Strand, interrupted};
use preset::Preset;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// Bytes of memory for an allele.
const ALLELE: u64 = 80;

/// Options of `crocuta score`.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  crocuta score variants.vcf.gz -r genome.fa.gz -m MODEL -o scores.parquet --vcf-out scored.vcf.gz",
    mut_arg("overlap", |arg| arg.hide(true)),
    mut_arg("exact", |arg| arg.hide(true)),
    mut_arg("resume", |arg| arg.hide(true)),
    mut_arg("checkpoint_every", |arg| arg.hide(true))
)]
pub struct Score {
    /// Variants: VCF (plain, gzip, BGZF, zstd) or BCF; - is stdin. In any order.
    #[arg(required_unless_present = "saturate", conflicts_with = "saturate")]
    variants: Option<PathBuf>,
    /// The reference that the variants were called on: FASTA, plain, gzip, BGZF or zstd.
    #[arg(short, long, value_name = "FASTA", help_heading = "Input")]
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
    allow_missing_eof: bool,
    #[command(flatten)]
    compute: Compute,
    /// What the model has read before a variant: the contig from its start, or a window of
    /// --window bases [default: stream, or window with --window or a model that looks both ways].
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
    output: Output,
    /// Write the VCF too, with the scores in INFO; BGZF, with an index.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "saturate",
        help_heading = "Output"
    )]
    vcf_out: Option<PathBuf>,
    /// Keep vectors of both alleles: after the variant, or their means around it.
    #[arg(long, value_enum, help_heading = "Output")]
    embeddings: Option<Embeddings>,
    /// A picture of the region: log-likelihood differences as a heat map, SVG.
    #[arg(
        long,
        value_name = "FILE",
        requires = "saturate",
        help_heading = "Output"
    )]
    plot: Option<PathBuf>,
}

/// How the model comes to a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ModeName {
    /// The state is carried from the contig's start, and forked at each variant.
    Stream,
    /// Each allele's window is read with an empty state.
    Window,
}

/// What stands open during a run.
struct Opened {
    checkpoint: Checkpoint,
    scorer: Scorer,
    settings: Settings,
    columns: VariantColumns,
    estimate: Estimate,
    reference: Reference,
    ledger: Ledger,
}

/// What a run did.
struct Done {
    encoder_bases: u64,
    scored: u64,
    seconds: f64,
    statuses: BTreeMap<&'static str, u64>,
}

impl Score {
    /// Runs the command.
    pub fn run(&self, logging: &Logging) -> Result<()> {
        self.check_options()?;
        let inputs: Vec<_> = self.variants.iter().chain([&self.reference]).collect();
        let inputs: Vec<_> = inputs.iter().map(|path| path.as_path()).collect();
        let others = [&self.vcf_out, &self.plot, &self.output.summary];
        let others = others.into_iter().flatten().map(PathBuf::as_path);
        let outputs: Vec<_> = [&*self.output.output].into_iter().chain(others).collect();
        atomic::must_all_differ(&outputs, &inputs)?;
        // Before any work, so that a run does not end at a file that it may not write.
        let target = AtomicFile::create(&self.output.output, self.output.force)?;
        let plot = self.plot.as_deref();
        let plot = plot.map(|path| AtomicFile::create(path, self.output.force));
        let plot = plot.transpose()?;
        let summary = self.output.summary.as_deref();
        let summary = summary.map(|path| AtomicFile::create(path, true));
        let summary = summary.transpose()?;
        let mut opened = self.open()?;
        let annotator = match (&self.variants, &self.vcf_out) {
            (Some(variants), Some(path)) => {
                Some(table::annotator(self, variants, path, opened.columns)?)
            }
            _ => None,
        };
        let checked = self.prepare(&mut opened)?;
        opened.estimate.check_output(self.output.max_output)?;
        tracing::info!(
            "on the CPU, {} threads; {} of {} alleles will be scored, about {} bases through the encoder",
            rayon::current_num_threads(),
            checked.scored,
            opened.ledger.len(),
            checked.bases(),
        );
        let mut progress = Progress::new(logging.progress(), Some(checked.bases()));
        let mut encoder_bases = 0;
        let run = score::run(
            &opened.scorer,
            &opened.settings,
            &opened.reference,
            &mut opened.ledger,
            &mut |bases, contig| {
                encoder_bases += bases;
                progress.add(bases, contig);
                go_on()
            },
        );
        progress.finish();
        run?;
        let done = Done {
            encoder_bases,
            scored: checked.scored,
            seconds: progress.elapsed().as_secs_f64(),
            statuses: statuses(&opened.ledger),
        };
        let receipt = table::write(self, &opened, target)?;
        if let (Some(variants), Some(annotator)) = (&self.variants, annotator) {
            table::annotate(self, &opened, variants, annotator)?;
        }
        if let Some(plot) = plot {
            plot::draw(&opened, plot)?;
        }
        self.report(&opened, &done, &receipt, summary)
    }

    /// Opens everything and says what the run would take.
    pub fn check(&self) -> Result<()> {
        self.check_options()?;
        let mut opened = self.open()?;
        let checked = self.prepare(&mut opened)?;
        super::process::print(&check::describe(&opened, checked)?)?;
        opened.estimate.check_memory()?;
        opened.estimate.check_output(self.output.max_output)
    }

    fn check_options(&self) -> Result<()> {
        for (given, name) in [
            (self.compute.exact, "--exact"),
            (self.compute.overlap.is_some(), "--overlap"),
            (self.output.resume, "--resume"),
        ] {
            if given {
                return Err(Error::usage(format!(
                    "{name} is not for scores of variants"
                )));
            }
        }
        if self.compute.strand == Strand::Reverse {
            let error = Error::usage("the reverse strand alone is not scored");
            return Err(error.todo("--strand both gives its scores beside the forward strand's"));
        }
        if self.mode == Some(ModeName::Stream) && self.compute.window.is_some() {
            return Err(Error::usage("--window is for --mode window"));
        }
        if self.vcf_out.is_some() && self.variants.as_deref().is_some_and(files::is_stdin) {
            let error = Error::usage("--vcf-out reads the variants twice");
            return Err(error.todo("give a file, not stdin"));
        }
        Ok(())
    }

    fn open(&self) -> Result<Opened> {
        let (checkpoint, model, facts) = self.compute.load_or(checkpoint::DEFAULT)?;
        let head = LanguageModel::load(&checkpoint, &model, &facts)?;
        let settings = self.settings(&facts)?;
        let strand = self.strand();
        let columns = VariantColumns {
            haplotypes: self.sample.is_some(),
            reverse: strand == Strand::Both,
            mean: strand != Strand::Forward,
            embeddings: settings.embeddings.map(|_| facts.width),
        };
        if let Some(note) = &facts.note {
            tracing::warn!("{}: {note}", checkpoint.name);
        }
        let scorer = Scorer { model, facts, head };
        let estimate = estimate(&scorer, &settings, columns);
        estimate.check_memory()?;
        let reference = Reference::open(&self.reference, self.allow_missing_eof)?;
        Ok(Opened {
            ledger: Ledger::create(&settings.scratch)?,
            checkpoint,
            scorer,
            settings,
            columns,
            estimate,
            reference,
        })
    }

    /// Fills the ledger, gives every allele its status, and completes the estimate.
    fn prepare(&self, opened: &mut Opened) -> Result<Checked> {
        let carried = self.read(opened)?;
        let causal = opened.scorer.facts.causal;
        let prepare = |opened: &mut Opened| {
            let Opened {
                settings,
                reference,
                ledger,
                ..
            } = opened;
            score::prepare(settings, causal, reference, ledger, &mut |_, _| go_on())
                .map_err(|error| error.file(self.name()))
        };
        let mut checked = prepare(opened)?;
        if haplotypes::join(opened, &carried)? > 0 {
            checked = prepare(opened)?;
        }
        let (alleles, estimate) = (opened.ledger.len() as u64, &mut opened.estimate);
        estimate.rows = Some(alleles);
        estimate.bases = Some(checked.bases());
        estimate.memory += alleles * ALLELE;
        Ok(checked)
    }

    /// Fills the ledger.
    fn read(&self, opened: &mut Opened) -> Result<Vec<haplotypes::Carried>> {
        let Opened {
            reference, ledger, ..
        } = opened;
        match (&self.saturate, &self.variants) {
            (Some(region), _) => {
                input::saturate(region, reference, &opened.settings.scratch, ledger)?;
                Ok(Vec::new())
            }
            (None, Some(path)) => {
                let options = crate::io::variants::Options {
                    sample: self.sample.clone(),
                    allow_missing_eof: self.allow_missing_eof,
                };
                input::read(path, &options, reference, ledger)
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
        let mode = match windowed {
            false if !facts.causal => {
                let error = Error::usage("a model that looks both ways has no stream to fork");
                return Err(error.todo("use --mode window"));
            }
            false => Mode::Stream,
            true => {
                let size = asked.or(preset.window).or(facts.context).unwrap_or(8192);
                let left = match asked {
                    None => preset.left,
                    Some(_) => None,
                };
                Mode::Window(Window {
                    size,
                    left: left.unwrap_or(size / 2),
                })
            }
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
            chunk: device::cpu_chunk(&self.compute)?,
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

    fn name(&self) -> String {
        let path = self.variants.as_ref();
        path.map_or_else(String::new, |path| path.display().to_string())
    }

    /// Says what was done, on stderr and in the summary.
    fn report(
        &self,
        opened: &Opened,
        done: &Done,
        receipt: &crate::io::table::Receipt,
        summary: Option<AtomicFile>,
    ) -> Result<()> {
        let each = done.encoder_bases as f64 / (done.scored as f64).max(1.0);
        let statuses: Vec<_> = done
            .statuses
            .iter()
            .map(|(name, n)| format!("{name} {n}"))
            .collect();
        tracing::info!(
            "{} alleles ({}), {} in {:.1} s: {} bases through the encoder, {each:.0} an allele; peak memory {}",
            receipt.rows,
            statuses.join(", "),
            readable(receipt.bytes),
            done.seconds,
            done.encoder_bases,
            readable(peak_memory().unwrap_or_default()),
        );
        if let Some(mut file) = summary {
            let summary = serde_json::json!({
                "rows": receipt.rows,
                "scored": done.scored,
                "statuses": done.statuses,
                "encoder_bases": done.encoder_bases,
                "encoder_bases_per_allele": each,
                "seconds": done.seconds,
                "alleles_per_second": done.scored as f64 / done.seconds.max(1e-9),
                "peak_memory_bytes": peak_memory(),
                "output_bytes": receipt.bytes,
                "output_sha256": receipt.sha256,
                "model": opened.checkpoint.name,
                "model_sha256": opened.checkpoint.digest,
                "strand": name_of(self.strand()),
                "device": "cpu",
                "threads": rayon::current_num_threads(),
                "version": env!("CARGO_PKG_VERSION"),
            });
            let text = format!("{summary:#}\n");
            file.write_all(text.as_bytes())
                .map_err(|e| Error::io(file.name(), &e))?;
            file.finish()?;
        }
        let failed = opened.ledger.len() as u64 - done.scored;
        if failed > 0 {
            tracing::warn!("{failed} alleles have no scores: the column status says why");
        }
        match self.output.strict && failed > 0 {
            true => Err(Error::new(
                Kind::Strict,
                format!("{failed} alleles have no scores"),
            )),
            false => Ok(()),
        }
    }
}

/// Goes on unless a signal has come.
fn go_on() -> Result<()> {
    match SIGNAL.load(Ordering::Relaxed) {
        0 => Ok(()),
        _ => Err(interrupted()),
    }
}

/// How many alleles have each status.
fn statuses(ledger: &Ledger) -> BTreeMap<&'static str, u64> {
    let mut statuses = BTreeMap::new();
    for i in 0..ledger.len() {
        *statuses.entry(ledger.status(i).name()).or_default() += 1;
    }
    statuses
}

/// What a run takes, but for what its alleles take.
fn estimate(scorer: &Scorer, settings: &Settings, columns: VariantColumns) -> Estimate {
    let facts = &scorer.facts;
    let columns = schema::variants(&NAMES, columns);
    let chunk = match settings.mode {
        Mode::Stream => settings.chunk,
        Mode::Window(window) => settings.chunk.max(3 * window.size),
    } as u64;
    let width = facts.width as u64;
    let (after, longest) = (settings.after as u64, settings.longest as u64);
    // There are as many forks as a step holds, and one more of the longest allele; run side by
    // side they are copied once.
    let fork = |bases| facts.fork_bytes(bases);
    let forks = match settings.mode {
        Mode::Stream => 2 * (fork(after + 1) * (chunk / after + 1) + fork(after + longest)),
        Mode::Window(_) => 0,
    };
    // The bases that wait for comparison keep their vectors.
    let waiting = (after + settings.around as u64 + longest) * (width + 5) * 4;
    Estimate {
        bases: None,
        rows: None,
        row_bytes: Estimate::row_bytes(&columns),
        chunk,
        memory: Estimate::memory(facts, chunk, None, &columns) + forks + waiting,
        scratch: 0,
    }
}
