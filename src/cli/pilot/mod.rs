//! `pilot`: which architecture serves the user's own data.

mod options;

pub use options::Pilot;

use super::log::Logging;
use super::process::print;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::pilot;
use crate::run::options::Workers;
use crate::run::{command, device};
use crate::stream::Style;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

impl Pilot {
    /// Runs the command.
    pub fn run(&self, logging: &Logging) -> Result<()> {
        self.workers.start()?;
        checkpoint::must_be_free(&self.output, None)?;
        let open = |without: Option<&'static str>| {
            device::open_with_names(without, &self.device, self.precision)
        };
        let pilot = pilot::Pilot::prepare(self.request(), &open, &child)?;
        let told = Told::new(logging.progress(), self.budget);
        let verdict = pilot.run(&command(), &mut |what, clock| told.show(what, clock))?;
        told.bar.finish_and_clear();
        let report = self.output.join("report.html");
        print(&format!("{}\n{}\n", verdict.join("\n"), report.display()))
    }
}

/// The child process that measures a pass's memory, with as many threads.
fn child() -> Result<Command> {
    let own = std::env::current_exe().map_err(|e| Error::io(Path::new("crocuta"), &e))?;
    let mut child = Command::new(own);
    let threads = rayon::current_num_threads().to_string();
    child.args(["--quiet", "pilot-child", "--threads", &threads]);
    Ok(child)
}

/// The process that a pilot starts to measure the memory of a pass.
#[derive(clap::Args, Clone, Debug)]
pub struct Child {
    #[command(flatten)]
    workers: Workers,
}

impl Child {
    /// Reads what is asked for from standard input, and prints what it took.
    pub fn run(&self) -> Result<()> {
        self.workers.start()?;
        print(&pilot::child(std::io::stdin().lock())?)
    }
}

/// What the pilot is at: a bar of its budget on a terminal, log lines elsewhere.
struct Told {
    style: Style,
    bar: ProgressBar,
    budget: f64,
}

impl Told {
    fn new(style: Style, budget: Duration) -> Self {
        let seconds = Some(budget.as_secs());
        let bar = match style {
            Style::Bar => {
                ProgressBar::with_draw_target(seconds, ProgressDrawTarget::stderr_with_hz(4))
            }
            _ => ProgressBar::hidden(),
        };
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} s, {msg}") {
            bar.set_style(style);
        }
        let budget = budget.as_secs_f64();
        Self { style, bar, budget }
    }

    fn show(&self, what: &str, clock: f64) {
        self.bar.set_position(clock as u64);
        self.bar.set_message(what.to_string());
        if self.style == Style::Lines {
            tracing::info!("{clock:.0} of {:.0} s: {what}", self.budget);
        }
    }
}
