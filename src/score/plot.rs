//! A region's single changes as a picture: a column a base, a row a letter, colour for
//! `delta_ll`.

use super::Ledger;
use crate::error::{Error, Kind, Result};
use crate::io::atomic::AtomicFile;
use crate::sequence::LETTERS;
use plotters::prelude::*;
use std::io::Write;

/// Width and height of the picture, without margins, in pixels.
const SIZE: (u32, u32) = (1200, 160);
/// Space for letters, positions and the title.
const MARGIN: (u32, u32) = (40, 60);

/// Draws the scores of a saturated region as SVG.
///
/// # Errors
/// Io.
pub fn draw(ledger: &Ledger, mut target: AtomicFile) -> Result<()> {
    let (mut cells, mut chrom) = (Vec::new(), String::new());
    for i in ledger.rows() {
        let allele = ledger.allele(i)?;
        let row = LETTERS
            .iter()
            .position(|letter| **letter == allele.alternate);
        if let (Some(row), Some(scores)) = (row, ledger.scores(i, false)?) {
            // A bidirectional model has no likelihoods: delta_ll, else llr.
            let shown = [scores.values[0], scores.values[2]];
            let shown = shown.into_iter().find(|value| !value.is_nan());
            cells.push((allele.pos, row as u32, shown.unwrap_or_default()));
        }
        chrom = allele.chrom;
    }
    let mut svg = String::new();
    paint(&mut svg, &chrom, &cells).map_err(|what| Error::new(Kind::Internal, what))?;
    target
        .write_all(svg.as_bytes())
        .map_err(|e| Error::io(target.name(), &e))?;
    target.finish().map(drop)
}

fn paint(svg: &mut String, chrom: &str, cells: &[(u64, u32, f64)]) -> Result<(), String> {
    let first = cells.iter().map(|cell| cell.0).min().unwrap_or(1);
    let last = cells.iter().map(|cell| cell.0).max().unwrap_or(1);
    let largest = cells.iter().fold(0.0f64, |max, cell| max.max(cell.2.abs()));
    let size = (SIZE.0 + 2 * MARGIN.0, SIZE.1 + 2 * MARGIN.1);
    let area = SVGBackend::with_string(svg, size).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| format!("picture: {error}");
    let white = area.fill(&WHITE);
    white.map_err(|e| failed(&e))?;
    let across = f64::from(SIZE.0) / (last - first + 1) as f64;
    let x = |pos: u64| (f64::from(MARGIN.0) + (pos - first) as f64 * across) as i32;
    let height = SIZE.1 / 4;
    let y = |row: u32| (MARGIN.1 + row * height) as i32;
    for &(pos, row, value) in cells {
        let corners = [(x(pos), y(row)), (x(pos + 1).max(x(pos) + 1), y(row + 1))];
        let cell = Rectangle::new(corners, colour(value / largest).filled());
        area.draw(&cell).map_err(|e| failed(&e))?;
    }
    let font = ("sans-serif", 14).into_font();
    let write = |text: String, at: (i32, i32)| {
        let text = Text::new(text, at, font.clone());
        area.draw(&text).map_err(|e| failed(&e))
    };
    for (row, letter) in (0..4).zip(LETTERS) {
        write(letter.to_string(), (20, y(row) + height as i32 / 2 - 7))?;
    }
    let bottom = y(4) + 8;
    write(first.to_string(), (x(first), bottom))?;
    write(last.to_string(), (x(last).max(x(first) + 80) - 70, bottom))?;
    let title = format!(
        "{chrom}: log-likelihood of each change less the reference's; blue -{largest:.3}, white 0, red +{largest:.3}"
    );
    write(title, (MARGIN.0 as i32, 24))?;
    area.present().map_err(|e| failed(&e))
}

/// From blue for -1 over white for 0 to red for 1.
fn colour(value: f64) -> RGBColor {
    let value = if value.is_finite() {
        value.clamp(-1.0, 1.0)
    } else {
        0.0
    };
    let faded = (255.0 * (1.0 - value.abs())) as u8;
    if value < 0.0 {
        RGBColor(faded, faded, 255)
    } else {
        RGBColor(255, faded, faded)
    }
}
