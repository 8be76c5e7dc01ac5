//! `models pull`: a model from Hugging Face's hub into its cache.

use std::path::PathBuf;

/// Options of `crocuta models pull`.
#[derive(clap::Args, Clone, Debug)]
pub struct Pull {
    /// The model: owner/name, and @revision (a branch, a tag or a commit) if not main.
    model: String,
    /// Convert weights that are published as PyTorch pickles alone: they are read by a child
    /// process with limits, and nothing in them is run.
    #[arg(long)]
    convert: bool,
    /// The model's config.json, if it does not lie beside the checkpoint.
    #[arg(long, value_name = "FILE", requires = "convert")]
    config: Option<PathBuf>,
}

#[cfg(not(feature = "hub"))]
impl Pull {
    /// Says which build has the command.
    ///
    /// # Errors
    /// Usage.
    pub fn run(&self, _progress: crate::stream::Style) -> crate::error::Result<()> {
        let name = crate::checkpoint::Name::parse(&self.model)?;
        let error = crate::error::Error::usage("this build has no client of Hugging Face's hub");
        Err(error.todo(format!(
            "use the released program, build with --features hub, or run {}",
            name.commands()
        )))
    }
}

#[cfg(feature = "hub")]
mod client {
    use super::Pull;
    use crate::checkpoint;
    use crate::cli::process::print;
    use crate::error::{Error, Result};
    use crate::io::source;
    use crate::run::units::{number, readable};
    use crate::stream::Style;
    use indicatif::{ProgressBar, ProgressStyle};
    use std::path::Path;
    use std::time::{Duration, Instant};

    /// Between two lines of progress.
    const PAUSE: Duration = Duration::from_secs(30);

    impl Pull {
        /// Runs the command.
        ///
        /// # Errors
        /// Usage: connections are forbidden, or the weights are pickles; Model: no such model, or
        /// damaged on its way; Io: the hub cannot be reached, or the disk lacks room.
        pub fn run(&self, style: Style) -> Result<()> {
            let plan = checkpoint::plan(&self.model, self.convert)?;
            let licence = plan.licence.as_deref().unwrap_or("not stated");
            let (named, page) = (plan.named(), plan.page());
            tracing::info!("{named}: licence {licence}, see {page}");
            let (files, size) = (number(plan.files() as u64), readable(plan.size));
            tracing::info!("{files} files, {size}");
            let progress = Progress::new(style, plan.size);
            let mut arrived = |bytes| progress.arrived(bytes);
            let fetched = plan.fetch(&mut arrived, |pickle, snapshot, output| {
                self.made(pickle, snapshot, output)
            });
            progress.0.finish_and_clear();
            let directory = fetched?;
            tracing::info!("use it with -m hf:{}", self.model.trim_start_matches("hf:"));
            print(&format!("{}\n", directory.display()))
        }

        /// Makes a model of a pickle.
        fn made(&self, pickle: &Path, snapshot: &Path, output: &Path) -> Result<()> {
            let beside = snapshot.join("config.json");
            let config = self.config.as_deref().unwrap_or(&beside);
            if !source::is_file(config)? {
                let error = Error::usage("no config.json that says the architecture");
                return Err(error.file(config.display()).todo("give --config FILE"));
            }
            tracing::info!("converting {}", pickle.display());
            checkpoint::convert_in_child(super::super::child()?, pickle, output, Some(config))?;
            Ok(())
        }
    }

    /// How far the bytes are, as a bar or in lines.
    struct Progress(ProgressBar, Style, std::cell::Cell<Instant>);

    impl Progress {
        fn new(style: Style, size: u64) -> Self {
            let bar = match style {
                Style::Bar => ProgressBar::new(size),
                _ => ProgressBar::with_draw_target(
                    Some(size),
                    indicatif::ProgressDrawTarget::hidden(),
                ),
            };
            let template = "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            Self(bar, style, std::cell::Cell::new(Instant::now()))
        }

        fn arrived(&self, bytes: u64) {
            let Self(bar, style, said) = self;
            bar.inc(bytes);
            if matches!(style, Style::Lines) && said.get().elapsed() > PAUSE {
                let (done, all) = (bar.position(), bar.length().unwrap_or(0));
                tracing::info!("{} of {}", readable(done), readable(all));
                said.set(Instant::now());
            }
        }
    }
}
