//! A chart of the report: lines or points of several candidates, each named where it ends.

use crate::error::{Error, Kind, Result};
use crate::io::picture::{self, Canvas};
use crate::run::units::{readable, seconds};
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fmt::Display;
use std::ops::Range;

const SIZE: (u32, u32) = (760, 420);
/// The plot itself.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 620.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 366.0;
/// Height of a name.
const LINE: f64 = 15.0;
/// Of Okabe and Ito, which colour-blind readers can tell apart; the last one is grey.
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(148, 138, 32),
    RGBColor(130, 130, 130),
];
/// Round times, in seconds, where decades are not: from a minute to a hundred hours.
const LONG: [f64; 5] = [60.0, 600.0, 3600.0, 36e3, 360e3];
const GRID: RGBColor = RGBColor(226, 226, 226);

/// What an axis shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Counts: 1k, 1M.
    Count,
    /// Bytes: MB, GB.
    Bytes,
    /// Times: µs, ms, s.
    Seconds,
    /// A number with so many decimals.
    Plain(usize),
}

/// An axis: its name, what it shows, and whether equal distances are equal factors.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// What stands beside it.
    pub name: &'static str,
    /// What its ticks say.
    pub unit: Unit,
    /// Logarithmic.
    pub log: bool,
}

/// What is shown of a candidate.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Which of all candidates it is: its colour.
    pub number: usize,
    /// Measured points, joined.
    pub points: Vec<(f64, f64)>,
    /// Points that were not measured, joined to the last measured one by a broken line.
    pub beyond: Vec<(f64, f64)>,
    /// Ends of intervals: where, from, to.
    pub whiskers: Vec<(f64, [f64; 2])>,
}

/// A chart.
pub struct Chart {
    /// The axis below.
    pub x: Axis,
    /// The axis to the left.
    pub y: Axis,
    /// The candidates.
    pub series: Vec<Series>,
    /// Points that are joined in grey behind all others.
    pub front: Vec<(f64, f64)>,
    /// Only points, no lines between them.
    pub scattered: bool,
}

/// An axis with its ends, in pixels and in the axis' own scale.
struct Scale {
    axis: Axis,
    ends: Range<f64>,
    pixels: Range<f64>,
}

impl Scale {
    fn new(axis: Axis, values: impl Iterator<Item = f64>, pixels: Range<f64>) -> Self {
        let shown = values.filter(|value| value.is_finite() && (!axis.log || *value > 0.0));
        let scaled = shown.map(|value| if axis.log { value.log10() } else { value });
        let (low, high) = scaled.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let least = if axis.log {
            0.3
        } else {
            1e-3 * high.abs().max(1e-3)
        };
        let room = ((high - low) * 0.04).max(least);
        Self {
            axis,
            ends: low - room..high + room,
            pixels,
        }
    }

    /// Whether a value has a place: a logarithmic axis has none for zero.
    fn has(&self, value: f64) -> bool {
        value.is_finite() && (!self.axis.log || value > 0.0)
    }

    fn at(&self, value: f64) -> f64 {
        let scaled = if self.axis.log {
            value.max(1e-300).log10()
        } else {
            value
        };
        let part = (scaled - self.ends.start) / (self.ends.end - self.ends.start);
        self.pixels.start + part * (self.pixels.end - self.pixels.start)
    }

    /// Values with a tick.
    fn ticks(&self) -> Vec<f64> {
        let Range { start, end } = self.ends;
        if !self.axis.log {
            let rough = (end - start) / 7.0;
            let power = 10f64.powf(rough.log10().floor());
            let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
            let step = step
                .into_iter()
                .find(|step| *step >= rough)
                .unwrap_or(power);
            let first = (start / step).ceil() as i64;
            let last = (end / step).floor() as i64;
            return (first..=last).map(|i| i as f64 * step).collect();
        }
        let decades = start.floor() as i32..=end.ceil() as i32;
        let wide = end - start > 2.2;
        let times: &[f64] = if wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut all: Vec<f64> = decades
            .flat_map(|power| times.iter().map(move |t| t * 10f64.powi(power)))
            .collect();
        if wide && self.axis.unit == Unit::Seconds {
            all.retain(|seconds| *seconds < LONG[0]);
            all.extend(LONG);
        }
        all.retain(|v| (start..=end).contains(&v.log10()));
        while all.len() > 9 {
            all = all.into_iter().step_by(2).collect();
        }
        all
    }

    fn named(&self, value: f64) -> String {
        match self.axis.unit {
            Unit::Plain(decimals) => format!("{value:.decimals$}"),
            Unit::Bytes => readable(value as u64),
            Unit::Seconds => seconds(value),
            Unit::Count => count(value),
        }
    }
}

/// `1.5M`.
fn count(value: f64) -> String {
    let units = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = value;
    let mut unit = 0;
    while value.abs() >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value.fract().abs() < 0.05 || value >= 100.0 {
        0
    } else {
        1
    };
    format!("{value:.digits$}{}", units[unit])
}

impl Chart {
    /// The chart as SVG.
    ///
    /// # Errors
    /// Internal.
    pub fn svg(&self) -> Result<String> {
        let bytes = picture::svg(SIZE, |canvas| self.paint(canvas))?;
        String::from_utf8(bytes).map_err(|error| Error::new(Kind::Internal, error))
    }

    fn paint<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Result<(), String> {
        let points = || {
            let measured = self
                .series
                .iter()
                .flat_map(|s| s.points.iter().chain(&s.beyond));
            measured.copied()
        };
        let whiskers = self.series.iter().flat_map(|s| &s.whiskers);
        let ends = whiskers.flat_map(|(_, ends)| *ends);
        let x = Scale::new(self.x, points().map(|(x, _)| x), LEFT..RIGHT);
        let y = Scale::new(self.y, points().map(|(_, y)| y).chain(ends), BOTTOM..TOP);
        axes(canvas, &x, &y)?;
        let at = |(a, b): &(f64, f64)| (x.at(*a), y.at(*b));
        line(
            canvas,
            &self.front.iter().map(at).collect::<Vec<_>>(),
            GRID,
            3,
        )?;
        let mut names = Vec::new();
        for series in &self.series {
            let colour = COLOURS[series.number % COLOURS.len()];
            let shown = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
                let there = points.iter().filter(|(a, b)| x.has(*a) && y.has(*b));
                there.map(at).collect()
            };
            let (measured, beyond) = (shown(&series.points), shown(&series.beyond));
            if !self.scattered {
                line(canvas, &measured, colour, 2)?;
                let from = measured.last().copied();
                broken(
                    canvas,
                    &from.into_iter().chain(beyond.clone()).collect::<Vec<_>>(),
                    colour,
                )?;
            }
            for (place, [low, high]) in &series.whiskers {
                let ends = [(*place, *low), (*place, *high)];
                line(canvas, &ends.each_ref().map(at), colour, 1)?;
            }
            for point in &measured {
                draw(canvas, Circle::new(pixel(*point), 3, colour.filled()))?;
            }
            if let Some((end_x, end_y)) = beyond.last().or(measured.last()) {
                names.push((*end_y, *end_x, &series.name, colour));
            }
        }
        apart(&mut names);
        for (at, from, name, colour) in names {
            write(canvas, name, (from + 8.0, at), HPos::Left, &colour)?;
        }
        Ok(())
    }
}

/// Moves names that would lie on each other.
fn apart<T, U>(names: &mut [(f64, f64, T, U)]) {
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    for i in 1..names.len() {
        // Only of those that stand side by side.
        let near = (0..i)
            .rev()
            .find(|&j| (names[j].1 - names[i].1).abs() < 90.0);
        if let Some(j) = near {
            names[i].0 = names[i].0.max(names[j].0 + LINE);
        }
    }
    // And back up, those that would lie below the plot, with those that they push.
    for i in (0..names.len()).rev() {
        let below = (i + 1..names.len()).find(|&j| (names[j].1 - names[i].1).abs() < 90.0);
        let least = below.map_or(BOTTOM, |j| names[j].0 - LINE);
        names[i].0 = names[i].0.min(least);
    }
}

fn axes<B: DrawingBackend>(canvas: &Canvas<B>, x: &Scale, y: &Scale) -> Result<(), String> {
    for value in x.ticks() {
        let at = x.at(value);
        line(canvas, &[(at, TOP), (at, BOTTOM)], GRID, 1)?;
        write(
            canvas,
            &x.named(value),
            (at, BOTTOM + 14.0),
            HPos::Center,
            &BLACK,
        )?;
    }
    for value in y.ticks() {
        let at = y.at(value);
        line(canvas, &[(LEFT, at), (RIGHT, at)], GRID, 1)?;
        write(
            canvas,
            &y.named(value),
            (LEFT - 8.0, at),
            HPos::Right,
            &BLACK,
        )?;
    }
    let middle = (LEFT + RIGHT) / 2.0;
    write(
        canvas,
        x.axis.name,
        (middle, BOTTOM + 36.0),
        HPos::Center,
        &BLACK,
    )?;
    write(canvas, y.axis.name, (8.0, 10.0), HPos::Left, &BLACK)
}

fn pixel((x, y): (f64, f64)) -> (i32, i32) {
    (x.round() as i32, y.round() as i32)
}

fn line<B: DrawingBackend>(
    canvas: &Canvas<B>,
    points: &[(f64, f64)],
    colour: RGBColor,
    width: u32,
) -> Result<(), String> {
    if points.len() < 2 {
        return Ok(());
    }
    let points: Vec<_> = points.iter().copied().map(pixel).collect();
    draw(canvas, PathElement::new(points, colour.stroke_width(width)))
}

/// A line of dashes.
fn broken<B: DrawingBackend>(
    canvas: &Canvas<B>,
    points: &[(f64, f64)],
    colour: RGBColor,
) -> Result<(), String> {
    for pair in points.windows(2) {
        let [(a, b), (c, d)] = [pair[0], pair[1]];
        let dashes = ((c - a).hypot(d - b) / 10.0).ceil();
        let on = |part: f64| (a + (c - a) * part, b + (d - b) * part);
        for dash in 0..dashes as usize {
            let from = dash as f64 / dashes;
            line(canvas, &[on(from), on(from + 0.5 / dashes)], colour, 1)?;
        }
    }
    Ok(())
}

fn write<B: DrawingBackend>(
    canvas: &Canvas<B>,
    text: &str,
    at: (f64, f64),
    across: HPos,
    colour: &RGBColor,
) -> Result<(), String> {
    let font = ("sans-serif", 12).into_font().color(colour);
    let style = font.pos(Pos::new(across, VPos::Center));
    draw(canvas, Text::new(text.to_string(), pixel(at), style))
}

fn draw<B, E>(canvas: &Canvas<B>, element: E) -> Result<(), String>
where
    B: DrawingBackend,
    E: Drawable<B>,
    for<'a> &'a E: PointCollection<'a, (i32, i32)>,
{
    canvas.draw(&element).map_err(failed)
}

fn failed(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(log: bool, unit: Unit) -> Axis {
        Axis {
            name: "bases",
            unit,
            log,
        }
    }

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let scale = |log, values: [f64; 2]| {
            let values = values.into_iter();
            Scale::new(axis(log, Unit::Count), values, 0.0..100.0).ticks()
        };
        assert_eq!(scale(true, [1e3, 1e6]), [1e3, 1e4, 1e5, 1e6]);
        let near = scale(false, [1.9, 2.0]);
        assert!(
            near.len() >= 4 && near.iter().all(|v| (1.88..2.02).contains(v)),
            "{near:?}"
        );
        assert!(scale(true, [7.0, 7.0]).len() < 10);
        let times = Scale::new(
            axis(true, Unit::Seconds),
            [0.5, 5e5].into_iter(),
            0.0..100.0,
        );
        assert_eq!(times.ticks(), [1.0, 10.0, 60.0, 600.0, 3600.0, 36e3, 360e3]);
        assert_eq!(
            (count(1024.0), count(2e6), count(950.0)),
            ("1k".into(), "2M".into(), "950".into())
        );
    }

    #[test]
    fn only_names_that_would_lie_on_each_other_are_moved_and_zero_has_no_place_on_a_log_axis() {
        let mut names = [
            (30.0, 600.0, "a", ()),
            (360.0, 600.0, "b", ()),
            (365.0, 600.0, "c", ()),
        ];
        apart(&mut names);
        assert_eq!(names.map(|name| name.0), [30.0, BOTTOM - LINE, BOTTOM]);
        let series = Series {
            name: "a".to_string(),
            points: vec![(0.0, 4.0), (1e3, 3.0), (1e4, 2.0)],
            ..Series::default()
        };
        let chart = Chart {
            x: axis(true, Unit::Count),
            y: axis(false, Unit::Plain(1)),
            series: vec![series],
            front: Vec::new(),
            scattered: false,
        };
        assert_eq!(chart.svg().unwrap().matches("<circle").count(), 2);
    }

    #[test]
    fn names_do_not_lie_on_each_other_and_nothing_is_drawn_beside_the_picture() {
        let series = (0..9).map(|number| Series {
            name: format!("candidate-{number}"),
            number,
            points: vec![(1e3, 1e6), (1e4, 1e6 + number as f64)],
            beyond: vec![(1e5, 1e7)],
            whiskers: vec![(1e4, [1e6, 2e6])],
        });
        let chart = Chart {
            x: axis(true, Unit::Count),
            y: axis(true, Unit::Bytes),
            series: series.collect(),
            front: Vec::new(),
            scattered: false,
        };
        let svg = chart.svg().unwrap();
        assert_eq!(svg.matches("candidate-").count(), 9);
        let heights: Vec<f64> = svg
            .lines()
            .zip(svg.lines().skip(1))
            .filter(|(_, text)| text.starts_with("candidate-"))
            .map(|(tag, _)| {
                let y = tag.split("y=\"").nth(1).unwrap();
                y.split('"').next().unwrap().parse().unwrap()
            })
            .collect();
        let mut sorted = heights.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(
            sorted
                .windows(2)
                .all(|pair| pair[1] - pair[0] >= LINE - 1.0),
            "{sorted:?}"
        );
        assert!(sorted.iter().all(|y| (0.0..420.0).contains(y)));
    }
}
