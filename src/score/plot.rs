//! A region's single changes as a picture: a column a base, a row a letter, colour for what each
//! change does; below, the mean of a position's changes and the reference's letters.

use super::Ledger;
use crate::error::{Error, Kind, Result};
use crate::io::atomic::AtomicFile;
use crate::sequence::LETTERS;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fmt::Display;
use std::io::Write;

/// Width that the columns share, in pixels, and the least and the greatest width of one.
const ACROSS: u32 = 1200;
const CELL: [u32; 2] = [2, 24];
/// Height of a row.
const ROW: u32 = 24;
/// From which width a column has room for its letter.
const LETTER: u32 = 8;
/// Space to the left, above, to the right and below.
const MARGINS: [u32; 4] = [56, 48, 130, 64];
/// Between the letters' rows and the mean's.
const GAP: u32 = 6;
/// Positions between two ticks.
const TICK: u64 = 10;
/// Steps between positions that are named, until names have room.
const STEPS: [u64; 10] = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];
/// Width of a position's name.
const NAME: u64 = 80;
/// From the most negative to the most positive: ColorBrewer's RdBu, which colour-blind readers can
/// tell apart.
const SCALE: [[u8; 3]; 7] = [
    [33, 102, 172],
    [103, 169, 207],
    [209, 229, 240],
    [247, 247, 247],
    [253, 219, 199],
    [239, 138, 98],
    [178, 24, 43],
];
/// A change without a score.
const NONE: RGBColor = RGBColor(190, 190, 190);

/// What is shown of one position, 1-based.
struct Column {
    position: u64,
    reference: String,
    /// Of A, C, G and T: the score, NaN if it has none; none of the reference's own letter.
    changes: [Option<f64>; 4],
}

/// Draws the scores of a saturated region as SVG.
///
/// # Errors
/// Io.
pub fn draw(ledger: &Ledger, mut target: AtomicFile) -> Result<()> {
    let (mut columns, mut contig): (Vec<Column>, _) = (Vec::new(), String::new());
    let mut likelihoods = false;
    for i in ledger.rows() {
        let allele = ledger.allele(i)?;
        let letter = LETTERS[..4].iter().position(|x| **x == allele.alternate);
        if columns
            .last()
            .is_none_or(|last| last.position != allele.pos)
        {
            columns.push(Column {
                position: allele.pos,
                reference: allele.reference,
                changes: [None; 4],
            });
        }
        // A bidirectional model has no likelihoods: delta_ll, else llr.
        let scores = ledger.scores(i, false)?;
        let [delta, ratio] = [0, 2].map(|at| scores.as_ref().map_or(f64::NAN, |s| s.values[at]));
        likelihoods |= !delta.is_nan();
        let shown = if delta.is_nan() { ratio } else { delta };
        if let (Some(letter), Some(column)) = (letter, columns.last_mut()) {
            column.changes[letter] = Some(shown);
        }
        contig = allele.chrom;
    }
    let name = if likelihoods { "delta_ll" } else { "llr" };
    let mut svg = String::new();
    let picture = Picture::new(&columns);
    let painted = picture.paint(&mut svg, (&contig, name), &columns);
    painted.map_err(|what| Error::new(Kind::Internal, what))?;
    target
        .write_all(svg.as_bytes())
        .map_err(|e| Error::io(target.name(), &e))?;
    target.finish().map(drop)
}

/// Where things lie.
struct Picture {
    first: u64,
    last: u64,
    cell: u32,
    largest: f64,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

impl Picture {
    fn new(columns: &[Column]) -> Self {
        let first = columns.first().map_or(1, |column| column.position);
        let last = columns.last().map_or(first, |column| column.position);
        let values = columns.iter().flat_map(|column| column.changes).flatten();
        let values = values.filter(|value| value.is_finite());
        let cell = u64::from(ACROSS) / (last - first + 1);
        Self {
            first,
            last,
            cell: (cell as u32).clamp(CELL[0], CELL[1]),
            largest: values.fold(0.0, |most, value| value.abs().max(most)),
        }
    }

    fn x(&self, position: u64) -> i32 {
        MARGINS[0] as i32 + (position - self.first) as i32 * self.cell as i32
    }

    /// The right edge of the columns.
    fn right(&self) -> i32 {
        self.x(self.last) + self.cell as i32
    }

    fn paint(
        &self,
        svg: &mut String,
        (contig, name): (&str, &str),
        columns: &[Column],
    ) -> Result<(), String> {
        let size = (
            self.right() as u32 + MARGINS[2],
            y(5) as u32 + ROW + MARGINS[3],
        );
        let area = SVGBackend::with_string(svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        for column in columns {
            self.column(&area, column)?;
        }
        for (row, label) in (0..).zip(LETTERS[..4].iter().copied().chain(["mean"])) {
            let at = (MARGINS[0] as i32 - 8, y(row) + ROW as i32 / 2);
            write(&area, label, at, (HPos::Right, VPos::Center))?;
        }
        self.axis(&area, contig)?;
        self.bar(&area, name)?;
        let (first, last) = (self.first, self.last);
        let title = format!("{contig}:{first}-{last}, what each change does to the likelihood");
        write(
            &area,
            &title,
            (MARGINS[0] as i32, 24),
            (HPos::Left, VPos::Center),
        )?;
        area.present().map_err(failed)
    }

    fn column(&self, area: &Area, column: &Column) -> Result<(), String> {
        let left = self.x(column.position);
        let cell = |row: u32, value: f64| {
            let corners = [
                (left, y(row)),
                (left + self.cell as i32, y(row) + ROW as i32),
            ];
            let cell = Rectangle::new(corners, self.colour(value).filled());
            area.draw(&cell).map_err(failed)
        };
        for (row, change) in (0..).zip(column.changes) {
            // The reference's own letter is a gap.
            if let Some(value) = change {
                cell(row, value)?;
            }
        }
        let known = column.changes.iter().flatten().filter(|x| !x.is_nan());
        let (sum, count) = known.fold((0.0, 0u32), |(sum, n), x| (sum + x, n + 1));
        cell(4, sum / f64::from(count))?;
        if self.cell < LETTER {
            return Ok(());
        }
        let at = (left + self.cell as i32 / 2, y(4) + ROW as i32 + 9);
        write(area, &column.reference, at, (HPos::Center, VPos::Center))
    }

    /// Ticks every ten bases, and the positions of some.
    fn axis(&self, area: &Area, contig: &str) -> Result<(), String> {
        let top = y(4) + ROW as i32 + 18;
        let line = PathElement::new([(self.x(self.first), top), (self.right(), top)], BLACK);
        area.draw(&line).map_err(failed)?;
        let fits = |step: &&u64| **step * u64::from(self.cell) >= NAME;
        let step = STEPS.iter().find(fits).copied().unwrap_or(STEPS[9]);
        let ticks = (self.first.next_multiple_of(TICK)..=self.last).step_by(TICK as usize);
        for position in ticks {
            let at = self.x(position) + self.cell as i32 / 2;
            let length = if position % step == 0 { 7 } else { 4 };
            let tick = PathElement::new([(at, top), (at, top + length)], BLACK);
            area.draw(&tick).map_err(failed)?;
            if position % step == 0 {
                let name = position.to_string();
                write(area, &name, (at, top + 16), (HPos::Center, VPos::Center))?;
            }
        }
        let middle = i32::midpoint(self.x(self.first), self.right());
        let name = format!("position on {contig}");
        write(
            area,
            &name,
            (middle, top + 36),
            (HPos::Center, VPos::Center),
        )
    }

    /// The scale of colours, its ends and its unit.
    fn bar(&self, area: &Area, name: &str) -> Result<(), String> {
        let (left, top, height) = (self.right() + 24, y(0), 4 * ROW as i32);
        for row in 0..height {
            let value = self.largest * (1.0 - 2.0 * f64::from(row) / f64::from(height - 1));
            let corners = [(left, top + row), (left + 14, top + row + 1)];
            let part = Rectangle::new(corners, self.colour(value).filled());
            area.draw(&part).map_err(failed)?;
        }
        for (part, value) in [
            (0, self.largest),
            (height / 2, 0.0),
            (height, -self.largest),
        ] {
            let at = (left + 20, top + part);
            write(area, &format!("{value:.3}"), at, (HPos::Left, VPos::Center))?;
        }
        let unit = format!("{name}, nats");
        write(
            area,
            &unit,
            (left, top + height + 18),
            (HPos::Left, VPos::Center),
        )
    }

    fn colour(&self, value: f64) -> RGBColor {
        if value.is_nan() {
            return NONE;
        }
        let most = self.largest.max(f64::MIN_POSITIVE);
        let place = ((value / most).clamp(-1.0, 1.0) + 1.0) / 2.0 * (SCALE.len() - 1) as f64;
        let from = (place as usize).min(SCALE.len() - 2);
        let part = place - from as f64;
        let mixed = |at: usize| {
            let [a, b] = [from, from + 1].map(|i| f64::from(SCALE[i][at]));
            (a + part * (b - a)).round() as u8
        };
        RGBColor(mixed(0), mixed(1), mixed(2))
    }
}

/// The top of a row: those of the four letters, then the mean's.
fn y(row: u32) -> i32 {
    let gap = if row > 3 { GAP } else { 0 };
    (MARGINS[1] + row * ROW + gap) as i32
}

fn write(area: &Area, text: &str, at: (i32, i32), (h, v): (HPos, VPos)) -> Result<(), String> {
    let font = ("sans-serif", 13).into_font().color(&BLACK);
    let style = font.pos(Pos::new(h, v));
    let text = Text::new(text.to_string(), at, style);
    area.draw(&text).map_err(failed)
}

fn failed(error: impl Display) -> String {
    format!("picture: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_has_its_changes_their_mean_and_its_letter_and_the_reference_is_a_gap() {
        let column = |position: u64| Column {
            position,
            reference: "C".to_string(),
            changes: [Some(-1.0), None, Some(0.5), Some(f64::NAN)],
        };
        let columns: Vec<Column> = (995..1025).map(column).collect();
        let picture = Picture::new(&columns);
        assert_eq!((picture.largest, picture.cell), (1.0, 24));
        assert_eq!(picture.colour(f64::NAN), NONE);
        let ends = [-1.0, 1.0].map(|value| picture.colour(value));
        assert_eq!(ends, [RGBColor(33, 102, 172), RGBColor(178, 24, 43)]);
        let mut svg = String::new();
        picture.paint(&mut svg, ("chr", "llr"), &columns).unwrap();
        // Background, three changes and a mean each, and the bar.
        let bar = 4 * ROW as usize;
        assert_eq!(svg.matches("<rect").count(), 1 + 4 * columns.len() + bar);
        for text in [
            "\nC\n",
            "\n1000\n",
            "\n1020\n",
            "position on chr",
            "llr, nats",
            "\nmean\n",
        ] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn a_long_region_names_as_many_positions_as_have_room() {
        let column = |position: u64| Column {
            position,
            reference: "A".to_string(),
            changes: [None, Some(0.0), Some(0.0), Some(0.0)],
        };
        let columns: Vec<Column> = (1..=2000).map(column).collect();
        let mut svg = String::new();
        let picture = Picture::new(&columns);
        picture
            .paint(&mut svg, ("chr", "delta_ll"), &columns)
            .unwrap();
        assert!(svg.contains("\n1950\n") && !svg.contains("\n1960\n"));
    }
}
