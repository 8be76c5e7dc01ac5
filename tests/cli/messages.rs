//! The commonest slips: what is said of them, and that nothing is said before.

use crate::harness::{Case, bases, fai, record};

/// A slip: the command line, the exit code, and words of what is said.
type Slip = (&'static str, i32, &'static [&'static str]);

const SLIPS: &[Slip] = &[
    // Models.
    (
        "embed a.fa -m crocuta-bactria -o o.parquet",
        4,
        &["no such model", "did you mean crocuta-bacteria?"],
    ),
    (
        "embed a.fa -m hyenadna-smal-32k -o o.parquet",
        4,
        &["did you mean hyenadna-small-32k?"],
    ),
    (
        "embed a.fa -m LongSafari/hyenadna-small-32k-seqlen-hf -o o.parquet",
        4,
        &["write hf:LongSafari/hyenadna-small-32k-seqlen-hf"],
    ),
    (
        "embed a.fa -m hyenadna-tiny-1k -o o.parquet",
        4,
        &["a preset", "models new"],
    ),
    (
        "embed a.fa -m a.fa -o o.parquet",
        4,
        &["a.fa: is a file", "directory"],
    ),
    (
        "fit a.fa -m crocuta-humans -o new",
        4,
        &["did you mean crocuta-human?"],
    ),
    // What is no FASTA.
    (
        "embed genes.gbk -o o.parquet",
        3,
        &[
            "genes.gbk: this is GenBank, not FASTA",
            "convert it to FASTA",
        ],
    ),
    (
        "embed genome.2bit -o o.parquet",
        3,
        &["this is 2bit, not FASTA", "twoBitToFa"],
    ),
    (
        "predict page.fa.gz -o o.parquet",
        3,
        &[
            "page.fa.gz: this is HTML, not FASTA",
            "fetch the file again",
        ],
    ),
    (
        "embed protein.fa -o o.parquet",
        3,
        &["protein.fa: sp|P1:2: letters of a protein", "give the DNA"],
    ),
    (
        "embed mixed.fa -o o.parquet",
        3,
        &["mixed.fa: b:5000: letters of a protein"],
    ),
    (
        "embed v.vcf -o o.parquet",
        3,
        &["this is VCF, not FASTA", "crocuta score"],
    ),
    (
        "embed genes.gff3 -o o.parquet",
        3,
        &["this is GFF, not FASTA", "--intervals"],
    ),
    (
        "embed reads.fq -o o.parquet",
        2,
        &["reads.fq", "crocuta reads"],
    ),
    (
        "embed a.fa.zip -o o.parquet",
        3,
        &["this is zip, not FASTA", "unpack it"],
    ),
    (
        "score v.vcf -r genes.gbk -o o.parquet",
        3,
        &["this is GenBank, not FASTA"],
    ),
    (
        "fit genome.2bit -m model -o new",
        3,
        &["this is 2bit, not FASTA"],
    ),
    ("embed none.fa -o o.parquet", 5, &["none.fa: No such file"]),
    // Regions.
    (
        "embed a.fa -R genes.gff3 -o o.parquet",
        3,
        &["genes.gff3: this is GFF, not BED", "--intervals"],
    ),
    (
        "embed a.fa -R bare.gtf -o o.parquet",
        3,
        &["bare.gtf: line 1: a feature of GFF3 or GTF", "--intervals"],
    ),
    (
        "embed a.fa -R v.vcf -o o.parquet",
        3,
        &["v.vcf: this is VCF, not BED", "bcftools query"],
    ),
    (
        "embed a.fa -R wrong.bed -o o.parquet",
        3,
        &[
            "wrong.bed: line 2: region \"1:1-5\": no such contig",
            "did you mean \"chr1\"?",
        ],
    ),
    (
        "embed a.fa --intervals wrong.bed -o o.parquet",
        3,
        &["wrong.bed: line 2: region \"1:1-5\""],
    ),
    (
        "embed b.fa -R wrong.bed -o o.parquet",
        3,
        &[
            "wrong.bed: line 1: ",
            "of another assembly?",
            "\"scaffold_1\", \"scaffold_2\"",
        ],
    ),
    (
        "score v.vcf -r a.fa -R wrong.bed -o o.parquet",
        3,
        &["wrong.bed: line 2: "],
    ),
    (
        "embed a.fa --region chr2 -o o.parquet",
        2,
        &["no such contig", "did you mean \"chr1\"?"],
    ),
    (
        "embed a.fa --region NC_000001.11:1-9 -o o.parquet",
        2,
        &["did you mean \"chr1\"?"],
    ),
    (
        "embed a.fa -r chr1:1-100 -o o.parquet",
        2,
        &[
            "chr1:1-100: no such file, but a region",
            "write --region chr1:1-100",
        ],
    ),
    (
        "score v.vcf -r chr1:1-100 -o o.parquet",
        2,
        &["write --region chr1:1-100"],
    ),
    (
        "check embed a.fa -r chr1:1-100",
        2,
        &["write --region chr1:1-100"],
    ),
    // Variants.
    ("score -r a.fa -o o.parquet", 2, &["<VARIANTS>"]),
    (
        "score a.fa -r a.fa -o o.parquet",
        3,
        &["a.fa: line 1: this is FASTA, not VCF"],
    ),
    (
        "score ensembl.vcf -r b.fa -o o.parquet",
        3,
        &["contigs that the reference lacks: \"1\""],
    ),
    (
        "reads a.fa -o o.parquet",
        3,
        &["this is FASTA, not a file of reads", "crocuta embed"],
    ),
    // Directories.
    (
        "embed a.fa -o no/where/o.parquet",
        5,
        &["no/where: no such directory", "mkdir -p"],
    ),
    (
        "predict a.fa --genes no/g.gff3",
        5,
        &["no: no such directory"],
    ),
    (
        "models new --preset hyenadna-tiny-1k -o no/where/new",
        5,
        &["no/where: no such directory"],
    ),
    ("fit a.fa -m model -o no/new", 5, &["no: no such directory"]),
    // Options.
    (
        "embed a.fa --binn 128 -o o.parquet",
        2,
        &["--binn", "--bin"],
    ),
    ("embed a.fa --strand revers -o o.parquet", 2, &["reverse"]),
    ("emebd a.fa", 2, &["embed"]),
    ("embed a.fa --device gpu -o o.parquet", 2, &["cuda"]),
];

fn case(line: &str) -> Case {
    let long = record("b", &(bases(2, 4999) + "Q" + &bases(3, 100)), 60);
    let vcf = |contig: &str| {
        format!(
            "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n{contig}\t7\t.\tA\tG\t.\t.\t.\n"
        )
    };
    let chr1 = record("chr1", &bases(1, 300), 60);
    let scaffolds = record("scaffold_1", &bases(1, 90), 60) + &record("scaffold_2", "ACGT", 60);
    Case::new(line)
        .file("a.fa.fai", fai(&chr1))
        .file("a.fa", chr1)
        .file("b.fa.fai", fai(&scaffolds))
        .file("b.fa", scaffolds)
        .file("genes.gbk", "LOCUS       NC_000913  4641652 bp    DNA     circular\nORIGIN\n        1 agctttt\n//\n")
        .file("genome.2bit", b"\x43\x27\x41\x1a\0\0\0\0\x01\0\0\0\0\0\0\0")
        .file("page.fa.gz", "\n<!DOCTYPE html>\n<html><body>Sign in</body></html>\n")
        .file("protein.fa", ">sp|P1 a protein\nMLKVGE\n")
        .file("mixed.fa", record("a", &bases(1, 300), 60) + &long)
        .file("genes.gff3", "##gff-version 3\nchr1\tx\tgene\t1\t9\t.\t+\t.\tID=g\n")
        .file("bare.gtf", "chr1\tx\tgene\t1\t9\t.\t+\t.\tgene_id \"g\";\n")
        .file("reads.fq", "@r\nACGT\n+\nIIII\n")
        .file("a.fa.zip", b"PK\x03\x04\x14\0\0\0")
        .file("wrong.bed", "chr1\t0\t9\n1\t0\t5\n")
        .file("v.vcf", vcf("chr1"))
        .file("ensembl.vcf", vcf("1"))
}

#[test]
fn the_commonest_slips_are_told_what_to_do() {
    for (line, code, words) in SLIPS {
        case(line).run().fails(*code, words);
    }
}

#[test]
fn nothing_is_announced_before_the_input_is_known_to_be_what_it_should() {
    for (line, code, _) in SLIPS {
        // That is wrong far behind its start.
        if line.contains("mixed.fa") {
            continue;
        }
        let outcome = case(line).run();
        assert_eq!(outcome.code, Some(*code));
        assert!(
            !outcome.stderr.contains("crocuta: model"),
            "{line}\n{}",
            outcome.stderr
        );
    }
}
