//! Small inputs of every kind, and the commands that read them.

use crate::harness::{Case, GENE_CLASSES, bases, fai, model_file, record};
use std::fmt::Write;
use std::path::Path;
use std::sync::LazyLock;

/// Two sequences, 300 and 90 bases.
pub fn fasta() -> String {
    record("c", &bases(1, 300), 60) + &record("d", &bases(2, 90), 60)
}

/// Changes of single bases of `c`, sorted: `n` of them.
pub fn vcf(n: usize) -> String {
    let genome = bases(1, 300);
    let mut text = "##fileformat=VCFv4.2\n##contig=<ID=c,length=300>\n".to_string();
    text += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
    for i in 0..n {
        let letter = &genome[100 + i..=100 + i];
        let other = if letter == "A" { "C" } else { "A" };
        writeln!(text, "c\t{}\t.\t{letter}\t{other}\t.\t.\t.", 101 + i).unwrap();
    }
    text
}

/// `n` reads of 60 bases.
pub fn fastq(n: u64) -> String {
    let read = |i| format!("@r{i}\n{}\n+\n{}\n", bases(10 + i, 60), "I".repeat(60));
    (0..n).map(read).collect()
}

/// A file of tests/data/reads.
pub fn aligned(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read(dir.join("tests/data/reads").join(name)).unwrap()
}

/// The small model's directory with a head of genes, and an adapter of it with a head of classes.
static TRAINED: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let fixed = "fit a.fa -m model --steps 1 --batch 1 --length 90 --chunk 90 -t 1";
    let gff = "##gff-version 3\nc\tx\tCDS\t31\t120\t.\t+\t0\tID=g\n";
    let mut case = Case::new(&format!(
        "{fixed} --objective genes --labels a.gff3 --head-only -o genes"
    ))
    .file("a.fa", fasta())
    .file("a.gff3", gff)
    .file("l.bed", "c\t0\t40\tx\nc\t40\t90\ty\n")
    .seconds(60);
    assert_eq!(case.run().code, Some(0));
    case = case.args(&format!(
        "{fixed} --objective tracks --labels l.bed --lora 2 -o adapter"
    ));
    assert_eq!(case.run().code, Some(0));
    let files = crate::harness::listing(&case.path("")).into_iter();
    let files = files.filter_map(|(name, content)| Some((name, content?.0)));
    files.filter(|(name, _)| name.contains('/')).collect()
});

/// A directory with every input: `model`, `genes` and `adapter`, `a.fa` and its index, `r.bed`,
/// `v.vcf`, `a.fq`, and `small.bam` with its index and reference.
pub fn case(args: &str) -> Case {
    let mut case = Case::new(args)
        .file("a.fa", fasta())
        .file("a.fa.fai", fai(&fasta()))
        .file("r.bed", "c\t10\t200\nd\t0\t50\n")
        .file("17.bed", "17\t0\t300\n")
        .file("v.vcf", vcf(4))
        .file("a.fq", fastq(3))
        .seconds(60);
    for name in ["small.bam", "small.bam.bai", "ref.fa", "ref.fa.fai"] {
        case = case.file(name, aligned(name));
    }
    for (name, bytes) in TRAINED.iter() {
        case = case.file(name, bytes);
    }
    case
}

/// A command without its outputs, and its outputs.
pub struct Command {
    pub line: &'static str,
    pub outputs: Vec<Output>,
}

/// An option and its path, and the files that it makes.
pub struct Output {
    pub option: &'static str,
    pub path: &'static str,
    pub files: Vec<String>,
}

impl Output {
    pub fn new(option: &'static str, path: &'static str) -> Self {
        let files = match option {
            "--bam-out" => vec![path.to_string(), format!("{path}.bai")],
            "--vcf-out" => vec![path.to_string(), format!("{path}.tbi")],
            "--bigwig" => GENE_CLASSES
                .map(|class| format!("{path}.{class}.bw"))
                .to_vec(),
            _ => vec![path.to_string()],
        };
        Self {
            option,
            path,
            files,
        }
    }

    pub fn args(&self) -> String {
        format!(" {} {}", self.option, self.path)
    }
}

/// Every command that computes, with all its outputs.
pub fn commands() -> Vec<Command> {
    let table = ("-o", "out.parquet");
    let summary = ("--summary", "s.json");
    let tracks = [("--genes", "g.gff3"), ("--bed", "b.bed"), ("--bigwig", "w")];
    let reads = [("--per-base", "bases.parquet"), ("--bam-out", "t.bam")];
    let command = |line, others: &[(&'static str, &'static str)]| Command {
        line,
        outputs: [table, summary]
            .iter()
            .chain(others)
            .copied()
            .map(|(option, path)| Output::new(option, path))
            .collect(),
    };
    vec![
        command("embed a.fa -m model -t 1", &[]),
        command("predict a.fa -m model -t 1", &[]),
        command("predict a.fa -m genes -t 1", &tracks),
        command("reads small.bam -m model -t 1", &reads),
        command(
            "score v.vcf -r a.fa -m model --after 20 --context 64 -t 1",
            &[("--vcf-out", "s.vcf.gz"), ("--tsv", "s.tsv")],
        ),
        command(
            "score --saturate c:101-104 -r a.fa -m model --after 20 --context 64 -t 1",
            &[("--plot", "p.svg")],
        ),
    ]
}

impl Command {
    /// The command with all its outputs.
    pub fn whole(&self) -> String {
        let outputs = self.outputs.iter().map(Output::args);
        self.line.to_string() + &outputs.collect::<String>()
    }

    /// The files of all its outputs.
    pub fn files(&self) -> Vec<&str> {
        let files = self.outputs.iter().flat_map(|output| &output.files);
        files.map(String::as_str).collect()
    }
}

/// A safetensors file with the first value of a tensor, named by its end, replaced.
pub fn patched(model: &[u8], tensor: &str, value: f32) -> Vec<u8> {
    let (text, data) = crate::harness::bytes::header(model);
    let header: serde_json::Value = serde_json::from_str(&text).unwrap();
    let tensors = header.as_object().unwrap();
    let mut found = tensors.iter().filter(|(name, _)| name.ends_with(tensor));
    let (_, described) = found.next().unwrap();
    assert_eq!(described["dtype"], "F32");
    let from = described["data_offsets"][0].as_u64().unwrap() as usize;
    let mut data = data.to_vec();
    data[from..from + 4].copy_from_slice(&value.to_le_bytes());
    crate::harness::bytes::safetensors(&text, &data)
}

/// The small model's weights with the first value of a tensor replaced.
pub fn broken(tensor: &str, value: f32) -> Vec<u8> {
    patched(&model_file("model.safetensors"), tensor, value)
}
