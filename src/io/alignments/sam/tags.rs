//! Optional fields of a line, `TAG:TYPE:VALUE` (SAM specification, section 1.5), as BAM has them.

use super::invalid;
use crate::error::Result;

/// Appends a field.
///
/// # Errors
/// Input, naming the tag.
pub fn push_tag(bytes: &mut Vec<u8>, field: &[u8]) -> Result<()> {
    let [first, second, b':', kind, b':', value @ ..] = field else {
        let shown = String::from_utf8_lossy(&field[..field.len().min(12)]).into_owned();
        return Err(invalid("tag", format!("\"{shown}\" is not TAG:TYPE:VALUE")));
    };
    let tag = String::from_utf8_lossy(&[*first, *second]).into_owned();
    // The second is a letter or a digit, says the specification; htslib takes other marks too.
    let named = first.is_ascii_alphabetic() && second.is_ascii_graphic();
    bytes.extend([*first, *second]);
    let pushed = match kind {
        _ if !named => false,
        b'A' => push_letter(bytes, value),
        b'i' => push_integer(bytes, value),
        b'f' => push_float(bytes, value),
        b'Z' => push_text(bytes, b'Z', value, |byte| (b' '..=b'~').contains(&byte)),
        b'H' => value.len() % 2 == 0 && push_text(bytes, b'H', value, |b| b.is_ascii_hexdigit()),
        b'B' => push_array(bytes, value).is_some(),
        _ => false,
    };
    if pushed {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(&value[..value.len().min(20)]).into_owned();
    let kind = char::from(*kind);
    let what = format!("\"{shown}\" is no value of type {kind}");
    Err(invalid(&format!("tag {tag}"), what))
}

fn push_letter(bytes: &mut Vec<u8>, value: &[u8]) -> bool {
    bytes.push(b'A');
    bytes.extend(value);
    value.len() == 1 && (b'!'..=b'~').contains(&value[0])
}

fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).unwrap_or_default()
}

/// The smallest type that holds the number.
fn push_integer(bytes: &mut Vec<u8>, value: &[u8]) -> bool {
    let Ok(number) = text(value).parse::<i64>() else {
        return false;
    };
    let (kind, size) = match number {
        0x00..=0xff => (b'C', 1),
        0x100..=0xffff => (b'S', 2),
        0x1_0000..=0xffff_ffff => (b'I', 4),
        -0x80..0 => (b'c', 1),
        -0x8000..-0x80 => (b's', 2),
        -0x8000_0000..-0x8000 => (b'i', 4),
        _ => return false,
    };
    bytes.push(kind);
    bytes.extend(&number.to_le_bytes()[..size]);
    true
}

fn push_float(bytes: &mut Vec<u8>, value: &[u8]) -> bool {
    let Ok(number) = text(value).parse::<f32>() else {
        return false;
    };
    bytes.push(b'f');
    bytes.extend(number.to_le_bytes());
    true
}

fn push_text(bytes: &mut Vec<u8>, kind: u8, value: &[u8], allowed: impl Fn(u8) -> bool) -> bool {
    bytes.push(kind);
    bytes.extend(value);
    bytes.push(0);
    value.iter().all(|&byte| allowed(byte))
}

fn push_array(bytes: &mut Vec<u8>, value: &[u8]) -> Option<()> {
    let mut parts = text(value).split(',');
    let &[kind] = parts.next()?.as_bytes() else {
        return None;
    };
    bytes.extend([b'B', kind]);
    let at = bytes.len();
    bytes.extend([0; 4]);
    let mut count = 0u32;
    for part in parts {
        match kind {
            b'c' => bytes.extend(part.parse::<i8>().ok()?.to_le_bytes()),
            b'C' => bytes.extend(part.parse::<u8>().ok()?.to_le_bytes()),
            b's' => bytes.extend(part.parse::<i16>().ok()?.to_le_bytes()),
            b'S' => bytes.extend(part.parse::<u16>().ok()?.to_le_bytes()),
            b'i' => bytes.extend(part.parse::<i32>().ok()?.to_le_bytes()),
            b'I' => bytes.extend(part.parse::<u32>().ok()?.to_le_bytes()),
            b'f' => bytes.extend(part.parse::<f32>().ok()?.to_le_bytes()),
            _ => return None,
        }
        count += 1;
    }
    bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
    b"cCsSiIf".contains(&kind).then_some(())
}
