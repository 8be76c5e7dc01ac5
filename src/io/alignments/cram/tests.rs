use super::super::tests::{data, read};
use super::blocks::Container;
use crate::error::Kind;
use flate2::Crc;

fn crc(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// ITF8 at the start of `bytes`: its value and its length.
fn itf8(bytes: &[u8]) -> Option<(usize, usize)> {
    let more = bytes.first()?.leading_ones().min(4) as usize;
    let mut value = usize::from(bytes[0] & (0x7f >> more));
    for &byte in bytes.get(1..=more)? {
        value = value << 8 | usize::from(byte);
    }
    (more < 4).then_some((value, more + 1))
}

/// Gives the blocks of a container checksums that fit, as far as the blocks can be found.
fn mend(container: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while at < container.len() {
        let mut head = 2;
        let (_, id) = itf8(container.get(at + head..)?)?;
        head += id;
        let (size, n) = itf8(container.get(at + head..)?)?;
        head += n;
        head += itf8(container.get(at + head..)?)?.1;
        let end = at + head + size;
        let sum = crc(container.get(at..end)?);
        container.get_mut(end..end + 4)?.copy_from_slice(&sum);
        at = end + 4;
    }
    Some(())
}

#[test]
fn a_cram_changed_anywhere_is_an_error_or_other_records() {
    let good = std::fs::read(data("small.cram")).unwrap();
    let whole = read(&good).unwrap();
    // A byte changed, and with checksums made to fit.
    let (mut places, mut rest) = (Vec::new(), &good[26..]);
    while let Some(container) = Container::read(&mut rest).unwrap() {
        let end = good.len() - rest.len();
        places.push(end - container.bytes.len() + container.blocks..end);
    }
    let (mut errors, mut others) = (0, 0);
    for place in &places {
        for at in place.clone().step_by(2) {
            for flip in [0xff, 1 << (at % 8)] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                assert!(
                    read(&bad).is_err() || place.len() == 15 || place.start < 1300,
                    "{at}"
                );
                mend(&mut bad[place.clone()]);
                match read(&bad) {
                    Ok(found) => others += usize::from(found != whole),
                    Err(error) => {
                        assert_eq!(error.kind(), Kind::Input, "{error}");
                        errors += 1;
                    }
                }
            }
        }
    }
    assert!(
        errors > 500 && others > 100,
        "{errors} errors, {others} other records"
    );
    for cut in (0..good.len()).step_by(61) {
        assert_eq!(read(&good[..cut]).unwrap_err().kind(), Kind::Input, "{cut}");
    }
}
