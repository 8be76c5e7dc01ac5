//! Alignments by both readers, as lines of SAM.

use super::Outcome;
use super::judge::{self, Refused};
use crocuta::io::alignments::{Alignments, Options};
use std::fs;
use std::path::{Path, PathBuf};

/// A file by both readers. `scratch` is a directory for what stands between them.
pub fn compare(path: &Path, reference: Option<&Path>, scratch: &Path) -> Outcome {
    let text = scratch.join("theirs.sam");
    let theirs = judge::copy_alignments(path, reference, &text, c"w", &[]);
    let theirs = theirs.map(|_| lines(&text));
    let ours = read(path, reference, &scratch.join("ours.bam"));
    let ours = ours.map(|()| {
        let (bam, text) = (scratch.join("ours.bam"), scratch.join("ours.sam"));
        let copied = judge::copy_alignments(&bam, None, &text, c"w", &[]);
        copied.map(|_| lines(&text))
    });
    match (ours, theirs) {
        (Err(_), Err(_)) => Outcome::RefusedByBoth,
        (Err(why), Ok(_)) => Outcome::RefusedByOurs(why),
        (Ok(_), Err(why)) => Outcome::ReadByOurs(why),
        (Ok(Err(why)), Ok(_)) => Outcome::Differs(format!("htslib refuses what we read: {why}")),
        (Ok(Ok(ours)), Ok(theirs)) => Outcome::of(&ours, &theirs, |ours, theirs| {
            let columns = [
                "QNAME", "FLAG", "RNAME", "POS", "MAPQ", "CIGAR", "RNEXT", "PNEXT", "TLEN", "SEQ",
                "QUAL",
            ];
            let pairs = ours.split('\t').zip(theirs.split('\t')).enumerate();
            let differing = pairs.filter(|(_, (ours, theirs))| ours != theirs);
            let mut names: Vec<&str> = differing
                .map(|(column, _)| columns.get(column).copied().unwrap_or("tags"))
                .collect();
            if ours.split('\t').count() != theirs.split('\t').count() {
                names.push("tags");
            }
            names.dedup();
            names.join(", ")
        }),
    }
}

/// What we read, as BAM without compression: what the commands see, with its header.
fn read(path: &Path, reference: Option<&Path>, bam: &Path) -> Result<(), Refused> {
    let options = Options {
        reference: reference.map(Path::to_path_buf),
        allow_empty: true,
        ..Options::default()
    };
    let read = || {
        let mut alignments = Alignments::open(path, &options)?;
        let header = alignments.header();
        let mut bytes = header.to_bam(&header.text);
        while let Some(record) = alignments.next_record()? {
            bytes.extend((record.bytes().len() as u32).to_le_bytes());
            bytes.extend(record.bytes());
        }
        Ok(bytes)
    };
    let bytes = read().map_err(|error: crocuta::Error| error.to_string())?;
    fs::write(bam, bytes).unwrap();
    Ok(())
}

/// The contigs and the records of a SAM. Of the header's lines it is contigs alone that the
/// records speak of; the rest is text that both hand on.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&text);
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('@') || line.starts_with("@SQ\t"));
    lines.map(str::to_string).collect()
}

/// The FASTA that a file's bases are left to: `x.fa` for `x#y.sam` and `x.cram`, or the one that
/// htslib's tests have for those that are called otherwise.
pub fn reference(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let stem = name.split(['#', '.', '_', '-']).next()?;
    let beside = |name: &str| path.with_file_name(format!("{name}.fa"));
    [stem, "ref", "ce"]
        .map(beside)
        .into_iter()
        .find(|path| path.is_file())
}

/// What htslib writes a SAM as: a name's end, the mode, and options.
pub const WRITTEN: [(&str, &std::ffi::CStr, &[&str]); 4] = [
    ("bam", c"wb", &[]),
    ("3.0.cram", c"wc", &["version=3.0"]),
    ("3.1.cram", c"wc", &["version=3.1"]),
    ("bare.cram", c"wc", &["version=3.0", "no_ref=1"]),
];
