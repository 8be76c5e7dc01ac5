//! Presets are the published protocols, as a script of their own computes them; and all four bases
//! at a site.

use super::{case, genome, letters, snv, table, vcf};
use crate::harness::{Case, PROGRAM, bases, record, skipped};
use std::path::Path;
use std::process::Command;

const PROTOCOLS: [&str; 6] = [
    "evo2-brca1",
    "hyenadna-llr",
    "gpn",
    "bend",
    "lrb-embed",
    "marin",
];

#[test]
fn protocols_equal_a_plain_script_s_numbers() {
    let Some(python) = std::env::var_os("CROCUTA_PYTHON") else {
        return skipped("set CROCUTA_PYTHON to a Python with numpy and pyarrow");
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/protocols.py");
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/caduceus-ph");
    for protocol in PROTOCOLS {
        // In the middle, and where windows are cut at either end; masks are many runs each.
        let (length, places): (_, &[usize]) = match protocol {
            "gpn" => (300, &[21, 281]),
            _ => (12_000, &[5000, 6001, 100, 11_900]),
        };
        let genome = bases(7, length);
        let records: Vec<_> = places
            .iter()
            .map(|&pos| snv("chr1", &genome, pos))
            .collect();
        let (model, options) = match protocol {
            "gpn" => ("cph", ""),
            "marin" => ("model", "--after 50 --context all"),
            _ => ("model", ""),
        };
        let line = format!("score v.vcf -r a.fa -m {model} -o out.parquet --protocol {protocol}");
        let mut case = Case::new(&format!("{line} {options}"))
            .file("a.fa", record("chr1", &genome, 60))
            .file("v.vcf", vcf(&records))
            .seconds(120);
        for name in ["config.json", "model.safetensors"] {
            let bytes = std::fs::read(goldens.join(name)).unwrap();
            case = case.file(&format!("cph/{name}"), bytes);
        }
        case.run().succeeds(&["out.parquet"]);
        let out = Command::new(&python)
            .args([script, protocol])
            .args([
                case.path("out.parquet"),
                case.path("a.fa"),
                case.path(model),
            ])
            .arg(PROGRAM)
            .arg(case.path("."))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{protocol}\n{said}");
    }
}

/// The other bases of a site are scored for their own sake, and have no rows.
#[test]
fn four_bases_of_a_site_are_scored_whichever_alleles_there_are() {
    let genome = genome();
    let (letter, _) = letters(&genome, 300);
    let others: Vec<char> = "ACGT".chars().filter(|&x| x != letter).collect();
    let one = format!("chr1\t300\t.\t{letter}\t{}", others[1]);
    let deletion = format!("chr1\t299\t.\t{}\t{}", &genome[298..300], &genome[298..299]);
    let all: Vec<String> = others
        .iter()
        .map(|other| format!("chr1\t300\t.\t{letter}\t{other}"))
        .collect();
    let options = "--protocol marin --context all";
    let alone = table(&[one, deletion], options);
    let whole = table(&all, options);
    assert_eq!((alone.rows(), whole.rows()), (2, 3));
    for suffix in ["", "_rc", "_avg"] {
        let mut sum = 0.0;
        for base in ["A", "C", "G", "T"] {
            let name = format!("site_logp_{base}{suffix}");
            let (one, three) = (alone.numbers(&name), whole.numbers(&name));
            assert!((one[0].unwrap() - three[1].unwrap()).abs() < 1e-4, "{name}");
            assert_eq!(three[0], three[2], "{name}: the same site");
            assert_eq!(one[1], None, "a deletion has no base there");
            sum += f64::from(one[0].unwrap()).exp();
        }
        assert!(suffix == "_avg" || (sum - 1.0).abs() < 1e-5, "{sum}");
        let of = |base: char| whole.numbers(&format!("site_logp_{base}{suffix}"));
        for (row, &other) in others.iter().enumerate() {
            let ratio = of(other)[row].unwrap() - of(letter)[row].unwrap();
            let delta = whole.numbers(&format!("delta_ll{suffix}"))[row].unwrap();
            assert!((ratio - delta).abs() < 1e-4, "{ratio} {delta}");
        }
    }
}

#[test]
fn check_announces_the_alternates_of_all_four_bases() {
    let records = [300, 301, 500].map(|pos| snv("chr1", &genome(), pos));
    let outcome = case(&records, "--protocol marin --summary s.json").run();
    let outcome = outcome.succeeds(&["out.parquet", "s.json"]);
    let summary: serde_json::Value = serde_json::from_slice(outcome.file("s.json")).unwrap();
    let line = "check score v.vcf -r a.fa -m model --after 50 --protocol marin";
    let case = Case::new(line)
        .file("a.fa", super::fasta())
        .file("v.vcf", vcf(&records));
    let said = String::from_utf8({ case }.run().succeeds(&[]).stdout).unwrap();
    let expected = format!("bases through the encoder: {}\n", summary["encoder_bases"]);
    assert!(said.contains(&expected), "{said}\n{expected}");
    assert!(said.contains("bases of alternates: 900\n"), "{said}");
}
