//! Sizes, times and numbers as people write and read them.

use std::time::Duration;

/// `500`, `10k`, `5M`, `1.5G`, `2T`: bytes, powers of ten.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text}: expected a number of bytes, such as 500M or 1.5G");
    let text = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let (number, unit) = match text.chars().last().ok_or_else(wrong)?.to_ascii_uppercase() {
        'K' => (&text[..text.len() - 1], 1e3),
        'M' => (&text[..text.len() - 1], 1e6),
        'G' => (&text[..text.len() - 1], 1e9),
        'T' => (&text[..text.len() - 1], 1e12),
        _ => (text, 1.0),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    if (number * unit).is_finite() && number >= 0.0 {
        Ok((number * unit) as u64)
    } else {
        Err(wrong())
    }
}

/// `90s`, `3h50m`, `2d`, `3:50:00`: a time, of whole seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let seconds = if text.contains(':') {
        of_clock(text)
    } else {
        of_units(text)
    };
    let seconds = seconds.filter(|&seconds| seconds > 0);
    let wrong = || format!("{text}: expected a time, such as 90s, 3h50m or 3:50:00");
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

/// Seconds of `H:M:S`.
fn of_clock(text: &str) -> Option<u64> {
    let parts: Vec<u64> = text
        .split(':')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    match parts[..] {
        [hours, minutes @ 0..60, seconds @ 0..60] => {
            hours.checked_mul(3600)?.checked_add(minutes * 60 + seconds)
        }
        _ => None,
    }
}

/// Seconds of numbers with the units d, h, m and s, each once, in this order.
fn of_units(text: &str) -> Option<u64> {
    let mut units = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)].into_iter();
    let (mut rest, mut sum) = (text, 0u64);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, unit) = rest.split_at(end);
        let letter = unit.chars().next()?;
        let (_, seconds) = units.find(|(name, _)| *name == letter)?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(seconds)?)?;
        rest = &unit[1..];
    }
    Some(sum)
}

/// `1,234,567`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1.5 GB`: bytes, powers of ten.
pub fn readable(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", units[unit]),
    }
}

/// `25 µs`, `3 ms`, `12 s`, `5 min`, `63 h`: a time as measured.
pub fn seconds(value: f64) -> String {
    let (factor, unit) = match value {
        ..1e-3 => (1e6, "µs"),
        ..1.0 => (1e3, "ms"),
        ..180.0 => (1.0, "s"),
        ..7200.0 => (1.0 / 60.0, "min"),
        _ => (1.0 / 3600.0, "h"),
    };
    let shown = value * factor;
    let digits = usize::from(shown < 10.0 && shown.fract() > 0.05);
    format!("{shown:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_times_have_the_unit_that_fits_them() {
        let shown = [2.5e-5, 3e-3, 1.25, 12.0, 300.0, 227_867.0].map(seconds);
        assert_eq!(shown, ["25 µs", "3 ms", "1.2 s", "12 s", "5 min", "63 h"]);
    }

    #[test]
    fn times_are_written_with_units_or_as_a_clock_shows_them() {
        for (text, seconds) in [
            ("90s", 90),
            ("3h50m", 13_800),
            ("1h", 3600),
            ("1d2h3m4s", 93_784),
            ("3:50:00", 13_800),
            ("00:00:01", 1),
            ("100:00:00", 360_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in [
            "",
            "90",
            "h",
            "1m1h",
            "1h1h",
            "0s",
            "1:00",
            "1:60:00",
            "1:0:0:0",
            "-1s",
            "1é",
            "99999999999999999999s",
            "9999999999999999999d",
            ":",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
