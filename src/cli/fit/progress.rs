//! How far training has come: a bar on a terminal, a log line now and then elsewhere.

use crate::stream::Style;
use crate::train::Report;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// Steps, loss and speed: a bar on a terminal, a log line now and then elsewhere.
pub struct Progress {
    style: Style,
    bar: ProgressBar,
    unit: &'static str,
    started: Option<(Instant, u64, u64)>,
    said: Instant,
}

impl Progress {
    /// For so many steps; `unit` is the loss's.
    pub fn new(style: Style, steps: u64, unit: &'static str) -> Self {
        let bar = match style {
            Style::Bar => {
                ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(4))
            }
            _ => ProgressBar::hidden(),
        };
        let template = "{wide_bar} step {human_pos}/{human_len}, {eta} left, {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            style,
            bar,
            unit,
            started: None,
            said: Instant::now(),
        }
    }

    /// Tells of a step.
    pub fn show(&mut self, report: &Report) {
        let now = Instant::now();
        let (start, step, bases) = *self.started.get_or_insert((now, report.step, report.bases));
        let seconds = (now - start).as_secs_f64().max(1e-9);
        let rate = (report.bases - bases) as f64 / seconds;
        let (unit, loss) = (self.unit, report.loss);
        self.bar.set_position(report.step);
        self.bar
            .set_message(format!("{loss:.4} {unit}, {rate:.0} bases a second"));
        if let Some(evaluation) = report.evaluation {
            let score = evaluation.score;
            self.bar.suspend(|| {
                tracing::info!(
                    "step {}: {loss:.4}, held out {score:.4} {unit}",
                    report.step
                );
            });
        } else if self.style == Style::Lines && self.said.elapsed() > Duration::from_secs(30) {
            self.said = now;
            let pace = seconds / (report.step - step).max(1) as f64;
            let left = pace * (report.steps - report.step) as f64;
            tracing::info!(
                "step {} of {}: {loss:.4} {unit}, {rate:.0} bases a second, about {left:.0} s left",
                report.step,
                report.steps
            );
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
