//! How the loss fell, as a picture.

use super::saved::Point;
use crate::error::{Error, Kind, Result};
use crate::io::picture::{self, Canvas};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fmt::Display;

const SIZE: (u32, u32) = (800, 480);
/// Height of the title and the legend.
const HEAD: u32 = 56;
/// Left of the plot.
const LEFT: u32 = 80;
/// Of the colours of Okabe and Ito, which colour-blind readers can tell apart.
const TRAINING: RGBColor = RGBColor(0, 114, 178);
const HELD_OUT: RGBColor = RGBColor(213, 94, 0);
/// The part of all values that the vertical axis has room for, whatever the others are: the first
/// ones of a model that began at random would else leave the rest a flat line.
const SHOWN: f64 = 0.95;

/// Draws training loss and held-out score over the bases read, as SVG; `kept` is the step whose
/// weights were.
///
/// # Errors
/// Internal.
pub fn draw(history: &[Point], kept: u64, score: &str) -> Result<String> {
    let curve = Curve::new(history, kept);
    let bytes = picture::svg(SIZE, |canvas| curve.paint(canvas, score))?;
    String::from_utf8(bytes).map_err(|error| Error::new(Kind::Internal, error))
}

/// What is shown.
struct Curve {
    /// Bases read, and the value.
    losses: Vec<(f64, f64)>,
    scores: Vec<(f64, f64)>,
    /// The point whose weights were kept, if it has a score.
    kept: Option<(u64, (f64, f64))>,
    bottom: f64,
    top: f64,
    /// Whether values lie above the top.
    cut: bool,
}

impl Curve {
    fn new(history: &[Point], kept: u64) -> Self {
        let losses = history.iter();
        let losses = losses.filter_map(|point| Some((point.bases as f64, point.loss?)));
        let scored = |point: &Point| Some((point.bases as f64, point.score?));
        let losses: Vec<_> = losses.filter(|(_, y)| y.is_finite()).collect();
        let scores = history.iter().filter_map(scored);
        let scores: Vec<_> = scores.filter(|(_, y)| y.is_finite()).collect();
        let of_kept = history.iter().find(|point| point.step == kept);
        let of_kept = of_kept.and_then(scored).filter(|(_, y)| y.is_finite());
        let mut all: Vec<f64> = losses.iter().chain(&scores).map(|(_, y)| *y).collect();
        all.sort_by(f64::total_cmp);
        let (low, high) = match all.as_slice() {
            [] => (0.0, 1.0),
            all => {
                let most = ((all.len() - 1) as f64 * SHOWN) as usize;
                let kept = of_kept.map_or(all[0], |(_, y)| y);
                (all[0], all[most].max(kept))
            }
        };
        let room = ((high - low) * 0.05).max(1e-3);
        let (bottom, top) = (low - room, high + room);
        Self {
            cut: all.last().is_some_and(|most| *most > top),
            kept: of_kept.map(|point| (kept, point)),
            losses,
            scores,
            bottom,
            top,
        }
    }

    fn paint<B: DrawingBackend>(&self, canvas: &Canvas<B>, score: &str) -> Result<(), String> {
        self.head(canvas, score)?;
        let points = self.losses.iter().chain(&self.scores);
        let bases = points.map(|(x, _)| *x).fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(canvas)
            .margin(16)
            .margin_top(HEAD)
            .x_label_area_size(40)
            .y_label_area_size(LEFT - 16)
            .build_cartesian_2d(0.0..bases, self.bottom..self.top)
            .map_err(failed)?;
        let (unit, of_unit) = match bases {
            2e6.. => ("Mb", 1e6),
            2e3.. => ("kb", 1e3),
            _ => ("bases", 1.0),
        };
        let decimals = usize::from(bases / of_unit < 100.0);
        let of_bases = |x: &f64| format!("{:.decimals$}", x / of_unit);
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(format!("bases read ({unit})")).y_desc(score);
        mesh.light_line_style(TRANSPARENT);
        mesh.x_label_formatter(&of_bases);
        mesh.draw().map_err(failed)?;
        for (points, colour) in [(&self.losses, TRAINING), (&self.scores, HELD_OUT)] {
            let shown = points.iter().map(|(x, y)| (*x, y.min(self.top)));
            let line = LineSeries::new(shown, colour.stroke_width(2));
            chart.draw_series(line).map_err(failed)?;
        }
        let marks = self.kept.iter();
        let marks = marks.map(|(_, at)| Circle::new(*at, 5, HELD_OUT.filled()));
        chart.draw_series(marks).map_err(failed)?;
        Ok(())
    }

    /// The title, and what the lines are.
    fn head<B: DrawingBackend>(&self, canvas: &Canvas<B>, score: &str) -> Result<(), String> {
        let cut = if self.cut {
            ", the highest cut off"
        } else {
            ""
        };
        let title = format!("Training: {score}{cut}");
        write(canvas, &title, (LEFT as i32, 20), 16)?;
        let mut names = vec![("training", TRAINING)];
        if !self.scores.is_empty() {
            names.push(("held out", HELD_OUT));
        }
        let mut left = LEFT as i32;
        for (name, colour) in names {
            let line = PathElement::new([(left, 42), (left + 20, 42)], colour.stroke_width(2));
            canvas.draw(&line).map_err(failed)?;
            write(canvas, name, (left + 26, 42), 13)?;
            left += 120;
        }
        if let Some((step, _)) = self.kept {
            let mark = Circle::new((left + 10, 42), 5, HELD_OUT.filled());
            canvas.draw(&mark).map_err(failed)?;
            write(canvas, &format!("kept, step {step}"), (left + 26, 42), 13)?;
        }
        Ok(())
    }
}

fn write<B: DrawingBackend>(
    canvas: &Canvas<B>,
    text: &str,
    at: (i32, i32),
    size: i32,
) -> Result<(), String> {
    let font = ("sans-serif", size).into_font().color(&BLACK);
    let style = font.pos(Pos::new(HPos::Left, VPos::Center));
    let text = Text::new(text.to_string(), at, style);
    canvas.draw(&text).map_err(failed)
}

fn failed(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(scores: &[(f64, Option<f64>)], every: u64) -> Vec<Point> {
        let points = (1u64..).zip(scores);
        let point = |(step, (loss, score)): (u64, &(f64, Option<f64>))| Point {
            step,
            bases: step * every,
            loss: Some(*loss),
            score: *score,
        };
        points.map(point).collect()
    }

    #[test]
    fn the_first_point_does_not_rule_the_axis_and_the_kept_step_is_marked() {
        let mut scores = vec![(40.0, Some(1.99))];
        scores.extend((0..39).map(|i| (1.95 - f64::from(i) * 1e-3, Some(1.96))));
        let history = history(&scores, 1_000_000);
        let curve = Curve::new(&history, 30);
        assert!(curve.top < 2.1 && curve.bottom > 1.8 && curve.cut);
        let svg = draw(&history, 30, "bits a base").unwrap();
        for text in ["kept, step 30", "the highest cut off", "held out", "(Mb)"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        // A kept step is shown, however high its score is.
        let curve = Curve::new(&history, 1);
        assert!(curve.top > 1.99);
    }

    #[test]
    fn names_of_ticks_differ_and_odd_runs_are_drawn() {
        for (scores, every) in [
            (vec![(1.0, None); 3], 50),
            (vec![(1.0, Some(f64::NAN)); 2], 700),
            (vec![(f64::NAN, None)], 1_000_000),
            (vec![], 1),
            (vec![(2.0, Some(1.0)); 50], 64_000),
        ] {
            let svg = draw(&history(&scores, every), 1, "loss").unwrap();
            // Below an axis, or to its left, texts share an attribute.
            for axis in ["text-anchor=\"middle\"", "text-anchor=\"end\""] {
                let lines: Vec<&str> = svg.lines().collect();
                let of_axis = lines.windows(2).filter(|pair| pair[0].contains(axis));
                let mut names: Vec<&str> = of_axis.map(|pair| pair[1]).collect();
                let count = names.len();
                names.sort_unstable();
                names.dedup();
                assert!(names.len() == count && count > 1, "{names:?}: {svg}");
            }
        }
    }
}
