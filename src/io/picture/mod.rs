//! Pictures, as SVG or PNG.

use crate::error::{Error, Kind, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use std::fmt::Display;
use std::sync::Once;

/// The letters of PNGs; of SVG, how wide they are (LICENSE-sans).
static SANS: &[u8] = include_bytes!("sans.ttf");

/// What is drawn on.
pub type Canvas<B> = DrawingArea<B, Shift>;

/// A picture of so many pixels as SVG, painted on white by `paint`.
///
/// # Errors
/// Internal: those of `paint`.
pub fn svg(
    size: (u32, u32),
    paint: impl FnOnce(&Canvas<SVGBackend>) -> Result<(), String>,
) -> Result<Vec<u8>> {
    let mut text = String::new();
    paint_on(SVGBackend::with_string(&mut text, size), paint)?;
    Ok(text.into_bytes())
}

/// The same as PNG.
///
/// # Errors
/// Internal: those of `paint`.
pub fn png(
    size: (u32, u32),
    paint: impl FnOnce(&Canvas<BitMapBackend>) -> Result<(), String>,
) -> Result<Vec<u8>> {
    let mut pixels = vec![0; 3 * size.0 as usize * size.1 as usize];
    paint_on(BitMapBackend::with_buffer(&mut pixels, size), paint)?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.0, size.1);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

fn paint_on<B: DrawingBackend>(
    backend: B,
    paint: impl FnOnce(&Canvas<B>) -> Result<(), String>,
) -> Result<()> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // It is a font, as a test of PNGs shows.
        let _ = register_font("sans-serif", FontStyle::Normal, SANS);
    });
    let canvas = backend.into_drawing_area();
    canvas.fill(&WHITE).map_err(failed)?;
    paint(&canvas).map_err(failed)?;
    canvas.present().map_err(failed)
}

fn failed(error: impl Display) -> Error {
    Error::new(Kind::Internal, format!("picture: {error}"))
}
