//! Text to base codes: the only place where the letters of DNA are read.

use crate::sequence::{A, C, G, N, SOFT_MASKED, T, base};
use std::collections::BTreeMap;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sequences begun, empty ones too.
    pub sequences: u64,
    /// Sequences without a base.
    pub empty: u64,
    /// Bases of any kind.
    pub bases: u64,
    /// The letter N.
    pub n: u64,
    /// Bases in lower case.
    pub soft_masked: u64,
    /// Other ambiguity codes, `-` and `*`, which all read as N: how many of each, by upper-case
    /// letter.
    pub ambiguous: BTreeMap<char, u64>,
}

impl Counts {
    /// Letters other than N that were read as N.
    pub fn ambiguous_total(&self) -> u64 {
        self.ambiguous.values().sum()
    }
}

const AMBIGUOUS: u8 = 0x10;
const NOT_A_BASE: u8 = 0xff;

/// A byte's base code; with [`AMBIGUOUS`] when it is one of several that read as N.
const CODES: [u8; 256] = {
    let mut codes = [NOT_A_BASE; 256];
    let plain = [
        (b'A', A),
        (b'C', C),
        (b'G', G),
        (b'T', T),
        (b'U', T),
        (b'N', N),
    ];
    let mut i = 0;
    while i < plain.len() {
        let (letter, code) = plain[i];
        codes[letter as usize] = code;
        codes[letter.to_ascii_lowercase() as usize] = code | SOFT_MASKED;
        i += 1;
    }
    let others = b"RYSWKMBDHV";
    let mut i = 0;
    while i < others.len() {
        codes[others[i] as usize] = N | AMBIGUOUS;
        codes[others[i].to_ascii_lowercase() as usize] = N | AMBIGUOUS | SOFT_MASKED;
        i += 1;
    }
    codes[b'-' as usize] = N | AMBIGUOUS;
    codes[b'*' as usize] = N | AMBIGUOUS;
    codes
};

/// Appends the codes of `text` up to the first byte that is not a base; returns how many.
pub fn decode(text: &[u8], codes: &mut Vec<u8>, counts: &mut Counts) -> usize {
    let before = codes.len();
    let mut others = 0;
    let mut rest = text;
    loop {
        let plain = rest
            .iter()
            .position(|&byte| CODES[byte as usize] >= AMBIGUOUS)
            .unwrap_or(rest.len());
        codes.extend(rest[..plain].iter().map(|&byte| CODES[byte as usize]));
        let Some(&byte) = rest.get(plain) else {
            break;
        };
        let code = CODES[byte as usize];
        if code == NOT_A_BASE {
            break;
        }
        codes.push(code & !AMBIGUOUS);
        others += 1;
        let letter = char::from(byte.to_ascii_uppercase());
        *counts.ambiguous.entry(letter).or_default() += 1;
        rest = &rest[plain + 1..];
    }
    let new = &codes[before..];
    let (mut n, mut soft_masked) = (0, 0);
    for &code in new {
        n += u64::from(base(code) == N);
        soft_masked += u64::from(code & SOFT_MASKED != 0);
    }
    counts.bases += new.len() as u64;
    counts.n += n - others;
    counts.soft_masked += soft_masked;
    new.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_become_codes_and_are_counted() {
        let (mut codes, mut counts) = (vec![], Counts::default());
        let read = decode(b"ACGTUNacgtunRy-*R.A", &mut codes, &mut counts);
        assert_eq!(read, 17);
        let soft = [A, C, G, T, T, N].map(|code| code | SOFT_MASKED);
        let expected = [&[A, C, G, T, T, N][..], &soft, &[N, N | 8, N, N, N]].concat();
        assert_eq!(codes, expected);
        assert_eq!((counts.bases, counts.n, counts.soft_masked), (17, 2, 7));
        let each: Vec<_> = counts.ambiguous.clone().into_iter().collect();
        assert_eq!(each, [('*', 1), ('-', 1), ('R', 2), ('Y', 1)]);
        assert_eq!(counts.ambiguous_total(), 5);
    }

    #[test]
    fn nothing_but_bases_is_a_base() {
        for byte in 0..=255u8 {
            let read = decode(&[byte], &mut vec![], &mut Counts::default());
            let is = b"ACGTUNRYSWKMBDHVacgtunryswkmbdhv-*".contains(&byte);
            assert_eq!(read == 1, is, "byte {byte:#04x}");
        }
    }
}
