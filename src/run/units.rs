//! Sizes and numbers as people write and read them.

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
