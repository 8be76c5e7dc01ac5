//! Opens an input by its content, never by its name: plain text, gzip of any number of members,
//! BGZF, or zstd of any number of frames; from a file, a FIFO, standard input or a URL.
//!
//! A damaged file never comes to a clean end. What cannot be seen: gzip or zstd cut exactly
//! between two members, and a changed byte in zstd written without checksums.

use super::bgzf;
use super::read;
use super::source::{Source, shown};
use crate::error::{Error, Result};
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

const BUFFER: usize = 1 << 18;

/// What is read to know a format, and is seen of a text before any of it is used.
const START: usize = 1 << 12;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// How an input is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Not at all.
    Plain,
    /// Gzip, one or more members.
    Gzip,
    /// Blocked gzip (bgzip): can be read at random with a `.gzi` index.
    Bgzf,
    /// Zstandard, one or more frames.
    Zstd,
}

impl Format {
    /// The format of a file that starts with `start` (18 bytes or more, or the whole file).
    fn of(start: &[u8]) -> Self {
        let begins = |magic: &[u8]| start.starts_with(magic);
        // Skippable frames, which pzstd puts first: 0x184D2A50 to 0x184D2A5F.
        let skippable = start.len() >= 4 && start[0] >> 4 == 5 && start[1..4] == [0x2a, 0x4d, 0x18];
        if bgzf::is_header(start) {
            Self::Bgzf
        } else if begins(&GZIP) || start == &GZIP[..1] {
            Self::Gzip
        } else if begins(&ZSTD) || skippable {
            Self::Zstd
        } else {
            Self::Plain
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "uncompressed",
            Self::Gzip => "gzip",
            Self::Bgzf => "BGZF",
            Self::Zstd => "zstd",
        }
    }

    /// Whether a file of this format is usually called `path`.
    fn fits(self, path: &Path) -> bool {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        match extension.to_ascii_lowercase().as_str() {
            "gz" | "bgz" | "bgzf" => matches!(self, Self::Gzip | Self::Bgzf),
            "zst" | "zstd" => self == Self::Zstd,
            "fa" | "fasta" | "fna" | "fas" | "ffn" | "bed" | "gff" | "gff3" | "gtf" | "txt" => {
                self == Self::Plain
            }
            _ => true,
        }
    }
}

/// An open input, as the text that it holds.
///
/// Reads fail with an [`io::Error`] that wraps a [`crate::Error`]; [`read::error`] takes it out again.
/// After a failure every read fails. Memory: under 1 MiB, for zstd up to 128 MiB if the file
/// asks for such a window; more is an error.
pub struct Input {
    name: String,
    format: Format,
    size: Option<u64>,
    text: Box<dyn BufRead + Send>,
    /// Nothing of the text was looked at.
    at_start: bool,
    failed: Option<Error>,
}

/// Whether `path` means standard input: `-` or the word `stdin`.
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-" || path.as_os_str() == "stdin"
}

impl Input {
    /// Opens a path or a URL; `-` and `stdin` are standard input. Warns when the name's extension and
    /// the content disagree.
    ///
    /// # Errors
    /// Io, when it is missing, unreadable or a directory. `allow_missing_eof` lets a
    /// BGZF file pass that lacks its closing block.
    pub fn open(path: &Path, allow_missing_eof: bool) -> Result<Self> {
        if is_stdin(path) {
            return Self::new("stdin", Box::new(io::stdin()), allow_missing_eof);
        }
        let source = Source::open(path)?;
        let size = source.size().map_err(|error| error.file(shown(path)))?;
        let mut input = Self::new(&shown(path), Box::new(source), allow_missing_eof)?;
        input.size = size;
        if !input.format.fits(path) {
            let content = input.format.name();
            tracing::warn!(
                "{}: named otherwise, but its content is {content}",
                input.name
            );
        }
        Ok(input)
    }

    /// Reads from `source`, called `name` in errors.
    pub fn new(
        name: &str,
        mut source: Box<dyn Read + Send>,
        allow_missing_eof: bool,
    ) -> Result<Self> {
        let mut start = vec![0; START];
        let got = read::at_least(&mut source, &mut start, bgzf::HEADER);
        let got = got.map_err(|error| error.file(name))?;
        start.truncate(got);
        let format = Format::of(&start);
        let source: Raw = Cursor::new(start).chain(source);
        let raw = BufReader::with_capacity(BUFFER, source);
        let text: Box<dyn BufRead + Send> = match format {
            Format::Plain => Box::new(raw),
            Format::Bgzf => Box::new(bgzf::Reader::new(raw, allow_missing_eof)),
            Format::Gzip | Format::Zstd => Box::new(BufReader::with_capacity(
                BUFFER,
                Members::new(format, Counted { raw, offset: 0 }),
            )),
        };
        Ok(Self {
            name: name.to_string(),
            format,
            size: None,
            text,
            at_start: true,
            failed: None,
        })
    }

    /// How the content is compressed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes of the file as it lies on the disk; `None` for pipes, see [`Source::size`].
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The name for errors.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Some(failed) = &self.failed {
            return Err(io::Error::other(failed.clone()));
        }
        if self.at_start {
            let begun = begin(&mut *self.text);
            begun.map_err(|error| fail(error, &self.name, &mut self.failed))?;
            self.at_start = false;
        }
        let text = self.text.fill_buf();
        text.map_err(|error| fail(error, &self.name, &mut self.failed))
    }

    fn consume(&mut self, n: usize) {
        self.text.consume(n);
    }
}

/// A text without the byte-order mark that some editors put before it.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Skips the byte-order mark before a text.
fn begin(text: &mut (dyn BufRead + Send)) -> io::Result<()> {
    if text.fill_buf()?.starts_with(&BYTE_ORDER_MARK) {
        text.consume(BYTE_ORDER_MARK.len());
    }
    Ok(())
}

/// Remembers an error, so that every read from now on fails.
fn fail(error: io::Error, name: &str, failed: &mut Option<Error>) -> io::Error {
    if error.kind() == io::ErrorKind::Interrupted {
        return error;
    }
    let error = read::error(error).file(name);
    *failed = Some(error.clone());
    io::Error::other(error)
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

type Raw = io::Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>;

/// The compressed bytes, and how many of them were used.
struct Counted {
    raw: BufReader<Raw>,
    offset: u64,
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.raw.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.offset += n as u64;
        self.raw.consume(n);
    }
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.raw.read(out)?;
        self.offset += n as u64;
        Ok(n)
    }
}

/// Gzip members or zstd frames, one after the other up to the end of the file.
struct Members {
    format: Format,
    member: Member,
}

enum Member {
    Next(Counted),
    Gzip(Box<GzDecoder<Counted>>),
    Zstd(zstd::Decoder<'static, Counted>),
    End,
}

impl Members {
    fn new(format: Format, raw: Counted) -> Self {
        Self {
            format,
            member: Member::Next(raw),
        }
    }

    /// Opens the member that starts here; false at the end of the file.
    fn open(&mut self, mut raw: Counted) -> io::Result<bool> {
        let offset = raw.offset;
        let Some(&first) = raw.fill_buf()?.first() else {
            return Ok(false);
        };
        let starts = match self.format {
            Format::Gzip => first == GZIP[0],
            _ => first == ZSTD[0] || first >> 4 == 5,
        };
        if !starts {
            let error = Error::input("bytes after end of data").place(format!("byte {offset}"));
            return Err(io::Error::other(error));
        }
        self.member = match self.format {
            Format::Gzip => Member::Gzip(Box::new(GzDecoder::new(raw))),
            _ => Member::Zstd(zstd::Decoder::with_buffer(raw)?.single_frame()),
        };
        Ok(true)
    }

    fn damage(&self, error: io::Error) -> io::Error {
        let offset = match &self.member {
            Member::Next(raw) => raw.offset,
            Member::Gzip(member) => member.get_ref().offset,
            Member::Zstd(member) => member.get_ref().offset,
            Member::End => 0,
        };
        if error.raw_os_error().is_some() || error.get_ref().is_some_and(|e| e.is::<Error>()) {
            return error;
        }
        let name = self.format.name();
        let what = match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("truncated {name} data"),
            _ => format!("invalid {name} data: {error}"),
        };
        let damaged = Error::input(what).place(format!("byte {offset}"));
        io::Error::other(damaged.caused_by(error))
    }
}

impl Read for Members {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !out.is_empty() {
            let got = match &mut self.member {
                Member::Gzip(member) => member.read(out),
                Member::Zstd(member) => member.read(out),
                Member::Next(_) => Ok(0),
                Member::End => return Ok(0),
            };
            match got {
                Ok(0) => {}
                Err(error) => return Err(self.damage(error)),
                Ok(n) => return Ok(n),
            }
            let raw = match std::mem::replace(&mut self.member, Member::End) {
                Member::Next(raw) => raw,
                Member::Gzip(member) => member.into_inner(),
                Member::Zstd(member) => member.finish(),
                Member::End => return Ok(0),
            };
            self.open(raw).map_err(|error| self.damage(error))?;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::io::testing::{bgzf, bgzf_without_eof, gzip, logged, zstd};

    const TEXT: &[u8] = b">a\nACGTACGTTTGACCA\nACGT\n>b\nGGGATTACA\n";

    fn read(bytes: &[u8]) -> Result<Vec<u8>> {
        let mut input = Input::new("x", Box::new(Cursor::new(bytes.to_vec())), false)?;
        let mut text = Vec::new();
        match input.read_to_end(&mut text) {
            Ok(_) => Ok(text),
            Err(first) => {
                let again = input.read(&mut [0; 8]);
                assert!(again.is_err(), "a failed input came to a clean end");
                Err(read::error(first))
            }
        }
    }

    #[test]
    fn every_format_is_known_by_its_content() {
        let cases = [
            (Format::Plain, TEXT.to_vec()),
            (Format::Gzip, gzip(TEXT)),
            (Format::Bgzf, bgzf(TEXT, 10)),
            (Format::Zstd, zstd(TEXT)),
        ];
        for (format, bytes) in cases {
            let input = Input::new("x", Box::new(Cursor::new(bytes.clone())), false).unwrap();
            assert_eq!(input.format(), format);
            assert_eq!(read(&bytes).unwrap(), TEXT);
        }
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let marked = [&BYTE_ORDER_MARK[..], TEXT].concat();
        for bytes in [
            marked.clone(),
            gzip(&marked),
            bgzf(&marked, 10),
            zstd(&marked),
        ] {
            assert_eq!(read(&bytes).unwrap(), TEXT);
        }
        assert_eq!(read(&BYTE_ORDER_MARK).unwrap(), b"");
        assert_eq!(read(&BYTE_ORDER_MARK[..2]).unwrap(), BYTE_ORDER_MARK[..2]);
        let within = [b"a", &BYTE_ORDER_MARK[..]].concat();
        assert_eq!(read(&within).unwrap(), within);
    }

    #[test]
    fn all_members_and_frames_are_read() {
        for pack in [gzip, zstd] {
            let joined = [pack(b">a\nAC\n"), pack(b""), pack(b"GT\n")].concat();
            assert_eq!(read(&joined).unwrap(), b">a\nAC\nGT\n");
        }
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9][..], &zstd(TEXT)].concat();
        assert_eq!(read(&skippable).unwrap(), TEXT);
    }

    #[test]
    fn truncation_is_an_error_at_every_byte() {
        for file in [gzip(TEXT), zstd(TEXT), bgzf(TEXT, 9)] {
            // Fewer bytes than zstd's magic are plain text that no parser accepts.
            for cut in 4..file.len() {
                let error = read(&file[..cut]).unwrap_err();
                assert_eq!(error.kind(), Kind::Input);
                let message = error.to_string();
                assert!(message.contains("truncated"), "cut {cut}: {message}");
                assert!(message.contains("byte "), "cut {cut}: {message}");
            }
        }
        for cut in 1..4 {
            assert!(read(&gzip(TEXT)[..cut]).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_changes_nothing() {
        for (magic, file) in [(2, gzip(TEXT)), (2, bgzf(TEXT, 9)), (4, zstd(TEXT))] {
            // With its magic damaged a file is plain text, refused by the parsers.
            for at in magic..file.len() {
                for bit in 0..8 {
                    let mut damaged = file.clone();
                    damaged[at] ^= 1 << bit;
                    if let Ok(text) = read(&damaged) {
                        assert_eq!(text, TEXT, "byte {at}, bit {bit}");
                    }
                }
            }
        }
    }

    #[test]
    fn bytes_after_the_end_are_an_error() {
        for file in [gzip(TEXT), zstd(TEXT), bgzf(TEXT, 9)] {
            for garbage in [&b"garbage"[..], &[0; 64]] {
                let error = read(&[&file[..], garbage].concat()).unwrap_err();
                assert!(error.to_string().contains("after end of data"), "{error}");
            }
        }
    }

    #[test]
    fn a_missing_eof_block_is_an_error_or_one_warning() {
        let file = bgzf_without_eof(TEXT, 9);
        let error = read(&file).unwrap_err().to_string();
        assert!(error.starts_with("x: byte "), "{error}");
        assert!(error.contains("missing BGZF EOF block"), "{error}");
        let (text, log) = logged(|| {
            let mut input = Input::new("x", Box::new(Cursor::new(file)), true).unwrap();
            let mut text = Vec::new();
            input.read_to_end(&mut text).unwrap();
            text
        });
        assert_eq!(text, TEXT);
        assert_eq!(log.matches("missing BGZF EOF block").count(), 1);
    }

    #[test]
    fn a_name_that_belies_the_content_is_warned_about() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes, warned) in [
            ("a.fa.gz", TEXT.to_vec(), true),
            ("a.fa", bgzf(TEXT, 9), true),
            ("a.zst", gzip(TEXT), true),
            ("a.fa", TEXT.to_vec(), false),
            ("b.gz", bgzf(TEXT, 9), false),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            let (input, log) = logged(|| Input::open(&path, false).unwrap());
            assert_eq!(log.contains("named otherwise"), warned, "{name}");
            assert_eq!(input.size(), Some(bytes.len() as u64));
        }
    }

    #[test]
    fn missing_files_and_directories_are_io_errors() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path(), &dir.path().join("missing")] {
            let error = Input::open(path, false).err().unwrap();
            assert_eq!(error.kind(), Kind::Io);
            assert!(error.to_string().starts_with(&path.display().to_string()));
        }
    }

    #[test]
    fn a_gzip_bomb_is_read_in_bounded_pieces() {
        let bomb = gzip(&vec![b'A'; 64 << 20]);
        let mut input = Input::new("x", Box::new(Cursor::new(bomb)), false).unwrap();
        let (mut total, mut largest) = (0, 0);
        loop {
            let n = input.fill_buf().unwrap().len();
            if n == 0 {
                break;
            }
            (total, largest) = (total + n, largest.max(n));
            input.consume(n);
        }
        assert_eq!(total, 64 << 20);
        assert!(largest <= BUFFER);
    }
}
