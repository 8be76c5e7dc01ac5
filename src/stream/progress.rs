//! How far a run has come: a bar on a terminal, a log line now and then elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A bar on stderr.
    Bar,
    /// A log line every half minute.
    Lines,
    /// Not at all.
    None,
}

/// Shows bases, bases a second and the time left.
pub struct Progress {
    style: Style,
    bar: ProgressBar,
    total: Option<u64>,
    done: u64,
    started: Instant,
    said: Instant,
}

const INTERVAL: Duration = Duration::from_secs(30);

impl Progress {
    /// `total`: bases to be read, if known.
    pub fn new(style: Style, total: Option<u64>) -> Self {
        let bar = match style {
            Style::Bar => {
                ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(4))
            }
            _ => ProgressBar::hidden(),
        };
        let template = match total {
            Some(_) => "{wide_bar} {human_pos}/{human_len} bases, {per_sec}, {eta} left, {msg}",
            None => "{spinner} {human_pos} bases, {per_sec}, {elapsed}, {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let now = Instant::now();
        Self {
            style,
            bar,
            total,
            done: 0,
            started: now,
            said: now,
        }
    }

    /// So many bases more, of the sequence `name`.
    pub fn add(&mut self, bases: u64, name: &str) {
        self.done += bases;
        self.bar.set_position(self.done);
        self.bar.set_message(crate::error::printable(name));
        if self.style == Style::Lines && self.said.elapsed() > INTERVAL {
            self.said = Instant::now();
            let rate = self.done as f64 / self.started.elapsed().as_secs_f64();
            let left = self
                .total
                .filter(|total| *total > self.done)
                .map(|total| format!(", about {:.0} s left", (total - self.done) as f64 / rate));
            let left = left.unwrap_or_default();
            tracing::info!("{} bases, {rate:.0} a second, at {name}{left}", self.done);
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
