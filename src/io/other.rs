//! Files of another format than the one that is read, told by how they begin: which format it is,
//! and what to do with it.

use crate::error::Error;

/// A format: its name, how files of it begin, and where they go.
type Other = (&'static str, &'static [&'static [u8]], &'static str);

const READS: &str = "reads go to crocuta reads";
const UNPACK: &str = "unpack it, or compress it with bgzip, gzip or zstd instead";
const TO_FASTA: &str = "convert it to FASTA, as any2fasta and EMBOSS's seqret do";

const OTHERS: &[Other] = &[
    ("GenBank", &[b"LOCUS "], TO_FASTA),
    ("EMBL", &[b"ID   "], TO_FASTA),
    (
        "2bit",
        &[b"\x43\x27\x41\x1a", b"\x1a\x41\x27\x43"],
        "convert it to FASTA with UCSC's twoBitToFa",
    ),
    (
        "HTML",
        &[b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML", b"<?xml"],
        "a server sent a page in the place of the file: look into it, and fetch the file again",
    ),
    (
        "VCF",
        &[b"##fileformat=VCF", b"#CHROM\tPOS", b"BCF\x02"],
        "variants go to crocuta score; as regions, bcftools query -f '%CHROM\\t%POS0\\t%END\\n' \
         makes BED of them",
    ),
    (
        "GFF",
        &[b"##gff-version", b"#!genome-build", b"#!gtf-version"],
        "annotations go to --intervals of crocuta embed, or to --labels of crocuta fit",
    ),
    ("BAM", &[b"BAM\x01"], READS),
    ("CRAM", &[b"CRAM"], READS),
    ("SAM", &[b"@HD\t", b"@SQ\t"], READS),
    ("FASTQ", &[b"@"], READS),
    (
        "FASTA",
        &[b">"],
        "sequences go to crocuta embed and crocuta predict",
    ),
    ("Parquet", &[b"PAR1"], "tables go to crocuta table"),
    ("zip", &[b"PK\x03\x04"], UNPACK),
    ("bzip2", &[b"BZh"], UNPACK),
    ("xz", &[b"\xfd7zXZ"], UNPACK),
];

/// The error for a file that begins with `start` and should be of the format `wanted`, if it is of
/// another that is known.
pub fn other_format(start: &[u8], wanted: &str) -> Option<Error> {
    let (name, _, todo) = OTHERS
        .iter()
        .filter(|(name, ..)| *name != wanted)
        .find(|(_, starts, _)| starts.iter().any(|begins| start.starts_with(begins)))?;
    let what = format!("this is {name}, not {wanted}");
    Some(Error::input(what).todo(todo))
}
