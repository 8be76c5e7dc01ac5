//! A region's single changes as a picture: a column a base, a row a letter, colour for what each
//! change does; below, the mean of a position's changes and the reference's letters.

use super::Ledger;
use crate::error::{Error, Result};
use crate::io::atomic::AtomicFile;
use crate::io::picture::{self, Canvas};
use crate::sequence::LETTERS;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::io::Write;

/// Pixels of a point in PNG: 300 or so an inch in print.
const FINE: i32 = 3;
/// Width that the columns share, in points, and the least and the greatest width of one.
const ACROSS: u64 = 1200;
const CELL: [i32; 2] = [2, 24];
/// Height of a row.
const ROW: i32 = 24;
/// From which width a column has room for its letter.
const LETTER: i32 = 8;
/// Space to the left, above, to the right and below.
const MARGINS: [i32; 4] = [56, 48, 130, 64];
/// Between the letters' rows and the mean's.
const GAP: i32 = 6;
/// Size of letters.
const FONT: i32 = 13;
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

/// Draws the scores of a saturated region: PNG if the file is called so, else SVG.
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
    let labels = (contig.as_str(), name);
    let ends = target.path().extension();
    let bytes = if ends.is_some_and(|ends| ends.eq_ignore_ascii_case("png")) {
        let map = HeatMap::new(&columns, FINE);
        picture::png(map.size(), |canvas| map.paint(canvas, labels, &columns))
    } else {
        let map = HeatMap::new(&columns, 1);
        picture::svg(map.size(), |canvas| map.paint(canvas, labels, &columns))
    };
    let written = target.write_all(&bytes?);
    written.map_err(|e| Error::io(target.name(), &e))?;
    target.finish().map(drop)
}

/// Where things lie.
struct HeatMap {
    first: u64,
    last: u64,
    /// Width of a column in points.
    cell: i32,
    largest: f64,
    /// Pixels of a point.
    fine: i32,
}

impl HeatMap {
    fn new(columns: &[Column], fine: i32) -> Self {
        let first = columns.first().map_or(1, |column| column.position);
        let last = columns.last().map_or(first, |column| column.position);
        let values = columns.iter().flat_map(|column| column.changes).flatten();
        let values = values.filter(|value| value.is_finite());
        let cell = ACROSS / (last - first + 1);
        Self {
            first,
            last,
            cell: (cell as i32).clamp(CELL[0], CELL[1]),
            largest: values.fold(0.0, |most, value| value.abs().max(most)),
            fine,
        }
    }

    /// In pixels.
    fn size(&self) -> (u32, u32) {
        let (x, y) = self.at((self.right() + MARGINS[2], y(4) + ROW + MARGINS[3]));
        (x.unsigned_abs(), y.unsigned_abs())
    }

    /// The pixel of a place in points.
    fn at(&self, (x, y): (i32, i32)) -> (i32, i32) {
        (x * self.fine, y * self.fine)
    }

    fn x(&self, position: u64) -> i32 {
        MARGINS[0] + (position - self.first) as i32 * self.cell
    }

    /// The right edge of the columns.
    fn right(&self) -> i32 {
        self.x(self.last) + self.cell
    }

    fn paint<B: DrawingBackend>(
        &self,
        canvas: &Canvas<B>,
        (contig, name): (&str, &str),
        columns: &[Column],
    ) -> Result<(), String> {
        for column in columns {
            self.column(canvas, column)?;
        }
        for (row, label) in (0..).zip(LETTERS[..4].iter().copied().chain(["mean"])) {
            let at = (MARGINS[0] - 8, y(row) + ROW / 2);
            self.write(canvas, label, at, HPos::Right)?;
        }
        self.axis(canvas, contig)?;
        self.bar(canvas, name)?;
        let (first, last) = (self.first, self.last);
        let title = format!("{contig}:{first}-{last}, what each change does to the likelihood");
        self.write(canvas, &title, (MARGINS[0], 24), HPos::Left)
    }

    fn column<B: DrawingBackend>(&self, canvas: &Canvas<B>, column: &Column) -> Result<(), String> {
        let left = self.x(column.position);
        let cell = |row, value| {
            let corners = [(left, y(row)), (left + self.cell, y(row) + ROW)];
            self.fill(canvas, corners, self.colour(value))
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
        let at = (left + self.cell / 2, y(4) + ROW + 9);
        self.write(canvas, &column.reference, at, HPos::Center)
    }

    /// Ticks every ten bases, and the positions of some.
    fn axis<B: DrawingBackend>(&self, canvas: &Canvas<B>, contig: &str) -> Result<(), String> {
        let top = y(4) + ROW + 18;
        self.line(canvas, [(self.x(self.first), top), (self.right(), top)])?;
        let fits = |step: &&u64| **step * u64::from(self.cell.unsigned_abs()) >= NAME;
        let step = STEPS.iter().find(fits).copied().unwrap_or(STEPS[9]);
        let ticks = (self.first.next_multiple_of(TICK)..=self.last).step_by(TICK as usize);
        for position in ticks {
            let at = self.x(position) + self.cell / 2;
            let length = if position % step == 0 { 7 } else { 4 };
            self.line(canvas, [(at, top), (at, top + length)])?;
            if position % step == 0 {
                let name = position.to_string();
                self.write(canvas, &name, (at, top + 16), HPos::Center)?;
            }
        }
        let middle = i32::midpoint(self.x(self.first), self.right());
        let name = format!("position on {contig}");
        self.write(canvas, &name, (middle, top + 36), HPos::Center)
    }

    /// The scale of colours, its ends and its unit.
    fn bar<B: DrawingBackend>(&self, canvas: &Canvas<B>, name: &str) -> Result<(), String> {
        let (left, top, height) = (self.right() + 24, y(0), 4 * ROW);
        for row in 0..height {
            let value = self.largest * (1.0 - 2.0 * f64::from(row) / f64::from(height - 1));
            let corners = [(left, top + row), (left + 14, top + row + 1)];
            self.fill(canvas, corners, self.colour(value))?;
        }
        for (part, value) in [
            (0, self.largest),
            (height / 2, 0.0),
            (height, -self.largest),
        ] {
            let at = (left + 20, top + part);
            self.write(canvas, &format!("{value:.3}"), at, HPos::Left)?;
        }
        let unit = format!("{name}, nats");
        self.write(canvas, &unit, (left, top + height + 18), HPos::Left)
    }

    /// A rectangle between two corners.
    fn fill<B: DrawingBackend>(
        &self,
        canvas: &Canvas<B>,
        corners: [(i32, i32); 2],
        colour: RGBColor,
    ) -> Result<(), String> {
        let rectangle = Rectangle::new(corners.map(|at| self.at(at)), colour.filled());
        canvas.draw(&rectangle).map_err(|e| e.to_string())
    }

    fn line<B: DrawingBackend>(
        &self,
        canvas: &Canvas<B>,
        ends: [(i32, i32); 2],
    ) -> Result<(), String> {
        let style = BLACK.stroke_width(self.fine.unsigned_abs());
        let line = PathElement::new(ends.map(|at| self.at(at)), style);
        canvas.draw(&line).map_err(|e| e.to_string())
    }

    /// Text whose middle is at this height.
    fn write<B: DrawingBackend>(
        &self,
        canvas: &Canvas<B>,
        text: &str,
        at: (i32, i32),
        across: HPos,
    ) -> Result<(), String> {
        let font = ("sans-serif", FONT * self.fine).into_font().color(&BLACK);
        let style = font.pos(Pos::new(across, VPos::Center));
        let text = Text::new(text.to_string(), self.at(at), style);
        canvas.draw(&text).map_err(|e| e.to_string())
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
fn y(row: i32) -> i32 {
    let gap = if row > 3 { GAP } else { 0 };
    MARGINS[1] + row * ROW + gap
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(map: &HeatMap, name: &str, columns: &[Column]) -> String {
        let labels = ("chr", name);
        let svg = picture::svg(map.size(), |canvas| map.paint(canvas, labels, columns));
        String::from_utf8(svg.unwrap()).unwrap()
    }

    #[test]
    fn a_position_has_its_changes_their_mean_and_its_letter_and_the_reference_is_a_gap() {
        let column = |position: u64| Column {
            position,
            reference: "C".to_string(),
            changes: [Some(-1.0), None, Some(0.5), Some(f64::NAN)],
        };
        let columns: Vec<Column> = (995..1025).map(column).collect();
        let map = HeatMap::new(&columns, 1);
        assert_eq!((map.largest, map.cell), (1.0, 24));
        assert_eq!(map.colour(f64::NAN), NONE);
        let ends = [-1.0, 1.0].map(|value| map.colour(value));
        assert_eq!(ends, [RGBColor(33, 102, 172), RGBColor(178, 24, 43)]);
        let svg = painted(&map, "llr", &columns);
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
        let svg = painted(&HeatMap::new(&columns, 1), "delta_ll", &columns);
        assert!(svg.contains("\n1950\n") && !svg.contains("\n1960\n"));
    }

    #[test]
    fn png_shows_what_svg_does_three_times_as_fine() {
        let column = |position: u64| Column {
            position,
            reference: "G".to_string(),
            changes: [Some(-1.0), Some(1.0), None, Some(0.0)],
        };
        let columns: Vec<Column> = (1..=30).map(column).collect();
        let [svg, fine] = [1, FINE].map(|fine| HeatMap::new(&columns, fine));
        let png = picture::png(fine.size(), |canvas| {
            fine.paint(canvas, ("chr", "llr"), &columns)
        });
        let reader = png::Decoder::new(std::io::Cursor::new(png.unwrap()));
        let mut reader = reader.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let (width, height) = svg.size();
        assert_eq!(fine.size(), (3 * width, 3 * height));
        let pixel = |(x, y): (i32, i32)| {
            let at = 3 * (y as usize * fine.size().0 as usize + x as usize);
            RGBColor(pixels[at], pixels[at + 1], pixels[at + 2])
        };
        let middle = |row| fine.at((svg.x(9) + svg.cell / 2, y(row) + ROW / 2));
        assert_eq!(pixel(middle(0)), fine.colour(-1.0));
        assert_eq!(pixel(middle(1)), fine.colour(1.0));
        assert_eq!(pixel(middle(2)), WHITE, "the reference is a gap");
        // The letter of the reference is written below.
        let (left, top) = fine.at((svg.x(9), y(4) + ROW + 2));
        let (right, bottom) = fine.at((svg.x(10), y(4) + ROW + 16));
        let dark = |x| (top..bottom).any(|y| pixel((x, y)).0 < 64);
        assert!((left..right).any(dark));
    }
}
