//! How far training has come: a bar on a terminal, a log line now and then elsewhere.

use crate::stream::Style;
use crate::train::{Evaluation, Report};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
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
        self.bar.set_position(report.step);
        let unit = self.unit;
        let mut parts = Vec::new();
        parts.extend(
            report
                .loss
                .map(|loss| format!("training loss {loss:.4} {unit}")),
        );
        self.bar
            .set_message(format!("{}, {rate:.0} bases a second", parts.concat()));
        let due = self.style == Style::Lines && self.said.elapsed() > Duration::from_secs(30);
        if report.evaluation.is_none() && !due {
            return;
        }
        self.said = now;
        parts.extend(
            report
                .evaluation
                .map(|evaluation| held_out(evaluation, unit)),
        );
        let done = report.step - step;
        if done > 0 {
            let left = seconds / done as f64 * (report.steps - report.step) as f64;
            parts.push(format!("{rate:.0} bases a second, about {left:.0} s left"));
        }
        let (step, steps) = (report.step, report.steps);
        self.bar
            .suspend(|| tracing::info!("step {step} of {steps}: {}", parts.join(", ")));
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The loss on held-out data, and the measure by its side that has a name of its own.
fn held_out(evaluation: &Evaluation, unit: &str) -> String {
    let score = evaluation.score;
    let number = |name: &str| evaluation.metrics.get(name).and_then(Value::as_f64);
    let more = [("mcc", "MCC"), ("spearman", "Spearman")];
    let more = more
        .iter()
        .find_map(|(key, name)| Some(format!(", {name} {:.3}", number(key)?)));
    format!(
        "held-out loss {score:.4} {unit}{}",
        more.unwrap_or_default()
    )
}
