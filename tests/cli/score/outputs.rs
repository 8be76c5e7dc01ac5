//! Tables as text, and variants as VCF and BCF.

use super::{case, fasta, genome, mixed, snv, table, vcf};
use crate::harness::table::Table;
use crate::harness::{Case, Outcome, skipped};
use std::collections::BTreeSet;
use std::io::Read;
use std::process::Command;

/// The lines of a table as text, cut into columns.
fn text(outcome: &Outcome, name: &str) -> Vec<Vec<String>> {
    let bytes = outcome.file(name);
    let mut text = String::new();
    if name.ends_with(".gz") {
        let mut reader = flate2::read::MultiGzDecoder::new(bytes);
        reader.read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes.to_vec()).unwrap();
    }
    let columns = |line: &str| line.split('\t').map(str::to_string).collect();
    text.lines().map(columns).collect()
}

fn column<'a>(rows: &'a [Vec<String>], name: &str) -> Vec<&'a str> {
    let place = rows[0].iter().position(|known| known == name).unwrap();
    rows[1..].iter().map(|row| row[place].as_str()).collect()
}

#[test]
fn the_text_has_the_rows_of_the_table() {
    let args = "--tsv out.tsv --strand both --embeddings site";
    let files = ["out.parquet", "out.tsv"];
    let outcome = case(&mixed(), args).run().succeeds(&files);
    let (table, rows) = (outcome.table(), text(&outcome, "out.tsv"));
    assert_eq!(rows.len(), 1 + table.rows());
    let of_vectors = |name: &&String| !name.contains("_emb");
    let names: Vec<_> = table.columns.iter().filter(of_vectors).collect();
    assert_eq!(rows[0].iter().collect::<Vec<_>>(), names);
    assert_eq!(column(&rows, "status"), table.words("status"));
    let ids = table.texts("variant_id");
    let ids: Vec<_> = ids.iter().map(|id| id.as_deref().unwrap_or("")).collect();
    assert_eq!(column(&rows, "variant_id"), ids);
    for name in ["delta_ll", "jsd_max_rc", "cos_dist_avg"] {
        let read = column(&rows, name).into_iter();
        let read: Vec<Option<f32>> = read.map(|text| text.parse().ok()).collect();
        assert_eq!(read, table.numbers(name), "{name}");
    }
    let read = column(&rows, "ll_ref").into_iter();
    let read: Vec<Option<f64>> = read.map(|text| text.parse().ok()).collect();
    assert_eq!(read, table.doubles("ll_ref"));
}

#[test]
fn columns_of_the_text_are_chosen_and_it_may_be_all_that_is_written() {
    let line = "score v.vcf -r a.fa -m model --after 50";
    let run = |args: &str| {
        let case = Case::new(&format!("{line} {args}"));
        { case.file("a.fa", fasta()).file("v.vcf", vcf(&mixed())) }.run()
    };
    let outcome = run("--tsv o.tsv.gz --tsv-columns pos,alt,llr").succeeds(&["o.tsv.gz"]);
    assert_eq!(outcome.stdout, b"", "no Parquet on stdout");
    assert_eq!(text(&outcome, "o.tsv.gz")[0], ["pos", "alt", "llr"]);
    let printed = run("--tsv - --tsv-columns pos,llr").succeeds(&[]).stdout;
    let printed = String::from_utf8(printed).unwrap();
    assert!(printed.starts_with("pos\tllr\n100\t"), "{printed}");
    for (args, said) in [
        (
            "--tsv o.tsv --tsv-columns pos,delta",
            "no column of text is delta",
        ),
        (
            "--tsv o.tsv --tsv-columns ref_emb --embeddings site",
            "no column of text is ref_emb",
        ),
        ("--tsv-columns pos", "--tsv"),
        ("--tsv o.csv", "its name says .csv"),
        ("--tsv o.tsv --resume", "--resume needs -o"),
    ] {
        run(args).fails(2, &[said]);
    }
}

#[test]
fn fields_of_info_are_carried_along() {
    let genome = genome();
    let mut text = "##fileformat=VCFv4.2\n".to_string();
    for (id, number) in [("CLNSIG", "."), ("AF", "A"), ("DB", "0")] {
        text += &format!("##INFO=<ID={id},Number={number},Type=String,Description=\"d\">\n");
    }
    text += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
    let site = snv("chr1", &genome, 100);
    text += &format!("{site},N\t.\t.\tCLNSIG=Benign;AF=0.25,.;DB\n");
    text += &format!("{}\t.\t.\t.\n", snv("chr1", &genome, 200));
    let line = "score v.vcf -r a.fa -m model --after 50 -o out.parquet --tsv o.tsv";
    let run = |args: &str| {
        let case = Case::new(&format!("{line} {args}"));
        { case.file("a.fa", fasta()).file("v.vcf", &text) }.run()
    };
    let outcome = run("--info CLNSIG --info AF --info DB").succeeds(&["out.parquet", "o.tsv"]);
    let (table, rows) = (outcome.table(), self::text(&outcome, "o.tsv"));
    for (name, expected) in [
        ("info_CLNSIG", ["Benign", "Benign", "NA"]),
        ("info_AF", ["0.25", "NA", "NA"]),
        ("info_DB", ["1", "1", "NA"]),
    ] {
        assert_eq!(column(&rows, name), expected);
        let found = table.texts(name);
        let found: Vec<_> = found.iter().map(|x| x.as_deref().unwrap_or("NA")).collect();
        assert_eq!(found, expected);
    }
    run("--info CLN").fails(2, &["v.vcf", "no INFO field CLN", "CLNSIG"]);
}

#[test]
fn a_whole_contig_is_saturated_if_forced_only() {
    let run = |args: &str| {
        let line = format!("score --saturate {args} -r a.fa -m model -o out.parquet --after 9");
        { Case::new(&line).file("a.fa", fasta()) }.run()
    };
    run("chr2").fails(2, &["all 300 bases of chr2", "--force"]);
    run("chr2:1-300").fails(2, &["--force"]);
    let table = run("chr2 --force").succeeds(&["out.parquet"]).table();
    assert_eq!(table.rows(), 900);
}

#[test]
fn without_an_output_no_table_is_written_beside_other_files() {
    let line = "score v.vcf -r a.fa -m model --after 50";
    let beside = case(&mixed(), "--vcf-out s.vcf").run();
    let records = |text: &[u8]| {
        let text = String::from_utf8(text.to_vec()).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("##"));
        lines.map(str::to_string).collect::<Vec<_>>()
    };
    let mut next = case(&mixed(), "").args(&format!("{line} --vcf-out s.vcf"));
    let alone = next.run().succeeds(&["s.vcf"]);
    assert!(alone.stdout.is_empty());
    assert_eq!(records(alone.file("s.vcf")), records(beside.file("s.vcf")));
    let mut next = case(&mixed(), "").args(&format!("{line} --vcf-out -"));
    let streamed = next.run().succeeds(&[]);
    assert!(streamed.stdout.starts_with(&[0x1f, 0x8b]));
    let line = "score --saturate chr1:690-694 -r a.fa -m model --after 50 --plot p.svg";
    let picture = case(&mixed(), "").args(line).run().succeeds(&["p.svg"]);
    assert!(picture.stdout.is_empty());
}

#[test]
fn text_and_bcf_have_the_records_of_the_compressed_vcf() {
    let records = mixed();
    let unpacked = |bytes: &[u8]| {
        let mut out = Vec::new();
        let mut reader = flate2::read::MultiGzDecoder::new(bytes);
        reader.read_to_end(&mut out).unwrap();
        out
    };
    let records_of = |text: &[u8]| {
        let text = String::from_utf8(text.to_vec()).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("##"));
        lines.map(str::to_string).collect::<Vec<_>>()
    };
    let run = |name: &str| {
        let outcome = case(&records, &format!("--vcf-out {name}")).run();
        outcome.succeeds(&["out.parquet", name]).file(name).to_vec()
    };
    let expected = records_of(&unpacked(&run("s.vcf.gz")));
    assert_eq!(records_of(&run("s.vcf")), expected);
    let bcf = run("s.bcf");
    assert!(unpacked(&bcf).starts_with(b"BCF\x02\x02"));
    let path = tempfile::tempdir().unwrap();
    let file = path.path().join("s.bcf");
    std::fs::write(&file, bcf).unwrap();
    let options = crocuta::io::variants::Options::default();
    let mut reader = crocuta::io::variants::Reader::open(&file, &options).unwrap();
    let mut found = records_of(&reader.header().columns);
    while reader.next_record().unwrap().is_some() {
        found.extend(records_of(reader.line()));
    }
    assert_eq!(found, expected);
}

#[test]
fn polars_pandas_and_duckdb_read_the_text_alike() {
    let Some(python) = std::env::var_os("CROCUTA_PYTHON") else {
        return skipped("set CROCUTA_PYTHON to a Python with pyarrow, polars, pandas and duckdb");
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/read_text.py");
    let mut case = case(&mixed(), "--tsv o.tsv --strand both");
    case.run().succeeds(&["out.parquet", "o.tsv"]);
    let out = Command::new(python)
        .arg(script)
        .args([case.path("o.tsv"), case.path("out.parquet")])
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// The table of `records` without the text's options is the same.
#[test]
fn other_outputs_change_no_score() {
    let outcome = case(&mixed(), "--tsv o.tsv --vcf-out s.vcf").run();
    let outcome = outcome.succeeds(&["out.parquet", "o.tsv", "s.vcf"]);
    let alone: Table = table(&mixed(), "");
    assert_eq!(
        outcome.table().numbers("delta_ll"),
        alone.numbers("delta_ll")
    );
    assert_eq!(outcome.table().columns, alone.columns);
}

#[test]
fn variants_of_regions_alone_are_scored_and_written() {
    let whole = table(&mixed(), "");
    // The first begins within a REF of four bases at 200.
    let regions = [("chr1", 201, 210), ("chr1", 205, 520), ("chr2", 50, 120)];
    let bed = regions.map(|(name, start, end)| format!("{name}\t{start}\t{end}\n"));
    let options = regions.map(|(name, start, end)| format!("--region {name}:{}-{end} ", start + 1));
    let (chroms, places) = (whole.words("chrom"), whole.integers("pos"));
    let inside = |i: &usize| match chroms[*i].as_str() {
        "chr1" => [200, 500].contains(&places[*i]),
        name => name == "chr2" && places[*i] == 100,
    };
    let expected: Vec<usize> = (0..whole.rows()).filter(inside).collect();
    let ids = whole.texts("variant_id");
    let ids: Vec<_> = expected.iter().map(|&i| ids[i].clone()).collect();
    for args in [options.concat(), "--regions-file r.bed".to_string()] {
        let run = case(&mixed(), &format!("{args} --vcf-out out.vcf"));
        let outcome = { run.file("r.bed", bed.concat()) }.run();
        let outcome = outcome.succeeds(&["out.parquet", "out.vcf"]);
        let found = outcome.table();
        assert_eq!(found.texts("variant_id"), ids, "{args}");
        for name in ["delta_ll", "llr"] {
            let of = whole.numbers(name);
            let of: Vec<_> = expected.iter().map(|&i| of[i]).collect();
            assert_eq!(found.numbers(name).len(), of.len());
            for (found, expected) in found.numbers(name).into_iter().zip(of) {
                let [found, expected] = [found, expected].map(|x| x.unwrap_or(f32::MAX));
                // Other steps: 1e-5 of log-likelihoods of about a hundred.
                assert!(
                    (found - expected).abs() < 1e-3,
                    "{name}: {found} {expected}"
                );
            }
        }
        let records: BTreeSet<i64> = found.integers("record_index").into_iter().collect();
        let vcf = String::from_utf8(outcome.file("out.vcf").to_vec()).unwrap();
        let lines = vcf.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(lines.count(), records.len());
        let listed = &found.footer["selection"]["regions"];
        assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    }
    let missing = case(&mixed(), "--region chr9").run();
    missing.fails(2, &["chr9"]);
}
