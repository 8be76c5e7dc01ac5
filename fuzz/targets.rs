//! What is fuzzed: each target takes any bytes for a file, and reads it as a command would. Nothing
//! may panic, hang, or take more memory than the file can ask for; errors are what they should be.
//!
//! `tests/fuzz.rs` runs these over the seeds; `fuzz/run` with libFuzzer.

#[path = "../src/io/testing/bytes.rs"]
mod bytes;

use crocuta::adapter;
use crocuta::checkpoint::{Checkpoint, Weights, convert};
use crocuta::error::{Kind, Result};
use crocuta::io::alignments::{self, Alignments};
use crocuta::io::genome::{self, Genome};
use crocuta::io::variants;
use crocuta::io::{bed, bedgraph, bigwig, gff};
use crocuta::sequence::region::Query;
use crocuta::stream::Journal;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A target: its name, what it does with bytes (whether they are accepted), and the files of the
/// repository that it begins with.
pub type Target = (&'static str, fn(&[u8]) -> bool, &'static [&'static str]);

/// All of them.
pub const TARGETS: [Target; 20] = [
    ("fasta", fasta, &["tests/data/reads/ref.fa"]),
    ("fai", fai, &["tests/data/reads/ref.fa.fai"]),
    ("gzi", gzi, &[]),
    (
        "vcf",
        vcf,
        &[
            "tests/data/variants/htslib_vcf_file.vcf",
            "tests/data/variants/ebi_passed_body_alt.vcf",
            "tests/data/variants/htslib_weird_chr_names.vcf",
        ],
    ),
    (
        "bcf",
        vcf,
        &[
            "tests/data/variants/htslib_vcf_file.bcf",
            "tests/data/variants/cyvcf2_multi_contig.bcf",
        ],
    ),
    (
        "sam",
        reads,
        &["tests/data/reads/pairs.sam", "tests/data/reads/small.sam"],
    ),
    (
        "bam",
        reads,
        &["tests/data/reads/small.bam", "tests/data/reads/badeof.bam"],
    ),
    ("bai", bai, &["tests/data/reads/small.bam.bai"]),
    (
        "cram",
        reads,
        &["tests/data/reads/pairs.cram", "tests/data/reads/small.cram"],
    ),
    ("crai", crai, &["tests/data/reads/small.cram.crai"]),
    ("fastq", reads, &[]),
    ("bed", bed_file, &[]),
    ("gff", gff_file, &[]),
    ("bedgraph", bedgraph_file, &[]),
    ("bigwig", bigwig_file, &[]),
    (
        "safetensors",
        safetensors,
        &["tests/goldens/hyenadna/model.safetensors"],
    ),
    (
        "config",
        config,
        &[
            "tests/goldens/hyenadna/config.json",
            "tests/goldens/evo2/config.json",
        ],
    ),
    ("torch", torch, &[]),
    ("adapter", adapter_config, &[]),
    ("journal", journal, &[]),
];

/// Seeds of formats of which the repository holds no file.
const TEXTS: [(&str, &[u8]); 9] = [
    ("fastq", b"@r1 x\nACGTN\n+\nIIIII\n@r2\nAC\nGT\n+r2\nII\nII\n"),
    ("bed", b"#c\ntrack x\na\t5\t9\tn\t1\t+\na\t0\t100\tt\t0\t+\t0\t100\t0\t2\t10,20,\t0,80,\n"),
    ("gff", b"##gff-version 3\nc\ts\tgene\t1\t9\t.\t-\t.\tID=a;Parent=b,c%20\n##FASTA\n>c\nA\n"),
    ("gff", b"c\ts\texon\t11\t20\t.\t+\t0\tgene_id \"g\"; transcript_id \"t\";\n"),
    ("bedgraph", b"track type=bedGraph\na\t0\t5\t1.5\nb\t3\t4\t-2e3\n"),
    ("fasta", b">a x\nACGT\nAC\n>b\n\n>c\r\nNNacgt\r\n"),
    ("config", b"{\"weight_map\": {\"a\": \"1.safetensors\"}, \"metadata\": {}}"),
    ("adapter", b"{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, \"rank_pattern\": {\"a.*b\": 3}}"),
    ("journal", b"{\"identity\": {}, \"checkpoints\": 1, \"position\": {\"sequences\": 1, \"bases\": 0}, \"parts\": {}, \"files\": {\"x-1\": \"00\"}}"),
];

/// What a target begins with: files of the repository, texts, both compressed where that is read,
/// and what fuzzing found once.
pub fn seeds((name, _, files): &Target) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = files.iter().map(|file| own(file)).collect();
    let texts = TEXTS.iter().filter(|(of, _)| of == name);
    seeds.extend(texts.map(|(_, text)| text.to_vec()));
    if ["fasta", "vcf", "fastq"].contains(name) {
        let packed = seeds.iter().flat_map(|text| {
            [
                bytes::gzip(text),
                bytes::bgzf(text, 3000),
                zstd::encode_all(&text[..], 1).unwrap(),
            ]
        });
        let packed: Vec<_> = packed.collect();
        seeds.extend(packed);
    }
    if *name == "gzi" {
        let size = own("tests/data/reads/ref.fa").len();
        seeds.push(bytes::words(&bytes::gzi(size, 2000, &packed())));
    }
    if *name == "torch" {
        let pickle = b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQK\0K\x06\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.";
        seeds.extend([pickle.to_vec(), zip(pickle)]);
    }
    let kept = std::fs::read_dir(root().join("tests/data/fuzz").join(name));
    let kept = kept.into_iter().flatten();
    seeds.extend(kept.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()));
    seeds
}

/// A directory in memory where there is one, for a process's files.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() {
            memory.to_path_buf()
        } else {
            std::env::temp_dir()
        };
        let thread = format!("{:?}", std::thread::current().id());
        let name = format!("crocuta-fuzz-{}-{thread}", std::process::id());
        let place = root.join(name.replace(['(', ')'], ""));
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir_all(&place).unwrap();
        Self(place)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A file of the repository.
    fn copy(&self, name: &str) -> PathBuf {
        self.file(
            Path::new(name).file_name().unwrap().to_str().unwrap(),
            &own(name),
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The repository.
fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    if package.ends_with("fuzz") {
        package.parent().unwrap()
    } else {
        package
    }
}

/// A file of the repository.
fn own(name: &str) -> Vec<u8> {
    std::fs::read(root().join(name)).unwrap()
}

/// Whether it is accepted; no input is a bug.
fn judge<T>(result: Result<T>) -> bool {
    if let Err(error) = &result {
        assert_ne!(error.kind(), Kind::Internal, "{error}");
    }
    result.is_ok()
}

fn bases(path: &Path, options: genome::Options) -> Result<()> {
    let mut genome = Genome::open(path, options)?;
    let mut codes = Vec::new();
    while genome.next_sequence()?.is_some() {
        while genome.read_bases(&mut codes, 1 << 12)? > 0 {
            codes.clear();
        }
    }
    Ok(())
}

fn fasta(data: &[u8]) -> bool {
    let place = Place::new();
    judge(bases(&place.file("a.fa", data), genome::Options::default()))
}

fn region(text: &str) -> Vec<Query> {
    vec![Query::parse(text).unwrap()]
}

fn of_region(text: &str) -> genome::Options {
    genome::Options {
        regions: region(text),
        context: 100,
        ..genome::Options::default()
    }
}

fn fai(data: &[u8]) -> bool {
    let place = Place::new();
    place.file("ref.fa.fai", data);
    judge(bases(
        &place.copy("tests/data/reads/ref.fa"),
        of_region("17:100-900"),
    ))
}

/// FASTA as BGZF, in blocks of 2,000 bytes.
fn packed() -> Vec<u8> {
    bytes::bgzf(&own("tests/data/reads/ref.fa"), 2000)
}

/// BGZF with its `.fai`, and any `.gzi`.
fn gzi(data: &[u8]) -> bool {
    let place = Place::new();
    let path = place.file("b.fa.gz", &packed());
    place.file("b.fa.gz.fai", &own("tests/data/reads/ref.fa.fai"));
    place.file("b.fa.gz.gzi", data);
    judge(bases(&path, of_region("17:100-900")))
}

fn vcf(data: &[u8]) -> bool {
    let place = Place::new();
    let path = place.file("a.vcf", data);
    let read = || {
        let mut variants = variants::Reader::open(&path, &variants::Options::default())?;
        while variants.next_record()?.is_some() {}
        Ok(())
    };
    judge(read())
}

fn aligned(path: &Path, regions: Vec<Query>) -> Result<()> {
    let reference = path.with_file_name("ref.fa");
    let options = alignments::Options {
        regions,
        reference: reference.is_file().then_some(reference),
        allow_missing_eof: true,
        allow_empty: true,
        ..alignments::Options::default()
    };
    let mut reads = Alignments::open(path, &options)?;
    while let Some(record) = reads.next_record()? {
        let _ = (record.span(), record.name().len());
    }
    Ok(())
}

/// SAM, BAM, CRAM or FASTQ.
fn reads(data: &[u8]) -> bool {
    let place = Place::new();
    place.copy("tests/data/reads/ref.fa");
    place.copy("tests/data/reads/ref.fa.fai");
    judge(aligned(&place.file("reads", data), Vec::new()))
}

fn bai(data: &[u8]) -> bool {
    let place = Place::new();
    place.file("small.bam.bai", data);
    judge(aligned(
        &place.copy("tests/data/reads/small.bam"),
        region("17:1-900"),
    ))
}

fn crai(data: &[u8]) -> bool {
    let place = Place::new();
    place.copy("tests/data/reads/ref.fa");
    place.copy("tests/data/reads/ref.fa.fai");
    place.file("small.cram.crai", data);
    judge(aligned(
        &place.copy("tests/data/reads/small.cram"),
        region("17:1-900"),
    ))
}

fn bed_file(data: &[u8]) -> bool {
    let place = Place::new();
    let path = place.file("a.bed", data);
    judge(bed::read(&path, false)) & judge(crocuta::io::intervals::read(&path, None, false))
}

fn gff_file(data: &[u8]) -> bool {
    let place = Place::new();
    let path = place.file("a.gff3", data);
    judge(gff::read(&path)) & judge(crocuta::io::intervals::read(&path, None, false))
}

fn bedgraph_file(data: &[u8]) -> bool {
    let place = Place::new();
    judge(bedgraph::read(&place.file("a.bedgraph", data)))
}

fn bigwig_file(data: &[u8]) -> bool {
    let place = Place::new();
    judge(bigwig::read(&place.file("a.bw", data)))
}

fn safetensors(data: &[u8]) -> bool {
    let place = Place::new();
    place.copy("tests/goldens/hyenadna/config.json");
    place.file("model.safetensors", data);
    judge(Checkpoint::open(&place.0))
}

/// Of the model, of its weights' files, of its tokenizer.
fn config(data: &[u8]) -> bool {
    let place = Place::new();
    place.file("config.json", data);
    place.file("model.safetensors.index.json", data);
    place.file("tokenizer_config.json", data);
    judge(Checkpoint::open(&place.0));
    let described = || {
        let config = crocuta::checkpoint::Config::read(&place.0.join("config.json"))?;
        let tokenizer = crocuta::checkpoint::Tokenizer::default();
        crocuta::encoder::Model::describe(&config, &tokenizer)
    };
    judge(described())
}

/// A pickle in a zip as it is, and any pickle in a zip that is sound.
fn torch(data: &[u8]) -> bool {
    let place = Place::new();
    let config = place.file("config.json", br#"{"model_type": "mamba"}"#);
    judge(convert(&place.file("a.pt", data), &place.0, &config))
        | judge(convert(&place.file("a.pt", &zip(data)), &place.0, &config))
}

/// A zip with this pickle, and a storage of six floats.
fn zip(pickle: &[u8]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let entries = [("w/data.pkl", pickle), ("w/data/0", &[0; 24][..])];
    for (name, data) in entries {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        let size = (data.len() as u32).to_le_bytes();
        // Of both headers: version, flags, method, time, date, checksum, sizes, length of the name.
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend(crc.sum().to_le_bytes());
        common.extend([size, size].concat());
        common.extend((name.len() as u16).to_le_bytes());
        let at = (out.len() as u32).to_le_bytes();
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend([0, 0]);
        out.extend(name.bytes());
        out.extend(data);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 12]);
        directory.extend(at);
        directory.extend(name.bytes());
    }
    let (at, size) = (out.len() as u32, directory.len() as u32);
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0\x02\0\x02\0");
    out.extend(size.to_le_bytes());
    out.extend(at.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn adapter_config(data: &[u8]) -> bool {
    let place = Place::new();
    place.file("adapter_config.json", data);
    place.file("adapter_model.safetensors", b"\x08\0\0\0\0\0\0\0{}      ");
    judge(adapter::read(
        &place.0,
        &Weights::new("base", BTreeMap::new()),
    ))
}

/// With the digest of its text, so that it is looked into; and as it is.
fn journal(data: &[u8]) -> bool {
    let digest = Sha256::digest(data);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let whole = [data, b"\n", digest.as_bytes(), b"\n"].concat();
    let opens = |text: &[u8]| {
        let place = Place::new();
        place.file(".out.parquet.journal/journal.json", text);
        let output = place.0.join("out.parquet");
        let nothing = serde_json::Map::new();
        judge(Journal::open(&output, None, nothing, Duration::ZERO))
    };
    opens(data) | opens(&whole)
}
