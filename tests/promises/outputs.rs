//! After a run that succeeded every output stands, and is what its name says.

use crate::given::{self, Command, Output};
use crate::harness::{GENE_CLASSES, Outcome};
use crate::kinds;

/// All choices of some of the outputs.
fn choices(command: &Command) -> Vec<Vec<&Output>> {
    let count = command.outputs.len();
    let chosen = |bits: usize| (0..count).filter(move |i| bits >> i & 1 == 1);
    (0..1 << count)
        .map(|bits| chosen(bits).map(|i| &command.outputs[i]).collect())
        .collect()
}

/// What two runs with different outputs must have alike: all but comments, which name the command,
/// and what is measured.
fn alike(name: &str, outcome: &Outcome) -> Option<Vec<u8>> {
    let bytes = outcome.file(name);
    match name.rsplit('.').next() {
        Some("parquet" | "bw" | "svg" | "tsv") => Some(bytes.to_vec()),
        Some("bed" | "gff3") => {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            Some(kinds::features(&text).join("\n").into_bytes())
        }
        _ => None,
    }
}

#[test]
fn any_choice_of_outputs_gives_those_and_nothing_else() {
    for command in given::commands() {
        let files = command.files();
        let whole = given::case(&command.whole()).run().succeeds(&files);
        assert_eq!(whole.stdout, b"", "{}", command.line);
        for chosen in choices(&command) {
            let args: String = chosen.iter().map(|output| output.args()).collect();
            let line = format!("{}{args}", command.line);
            let files = chosen.iter().flat_map(|output| &output.files);
            let files: Vec<&str> = files.map(String::as_str).collect();
            let outcome = given::case(&line).run().succeeds(&files);
            for name in files {
                kinds::check(name, outcome.file(name));
                assert!(
                    alike(name, &outcome) == alike(name, &whole),
                    "{line}: another {name}"
                );
            }
            // Without -o the table goes to stdout, but not where another output is asked for.
            if chosen.iter().all(|output| output.option == "--summary") {
                assert!(outcome.stdout == whole.file("out.parquet"), "{line}");
            } else {
                assert_eq!(outcome.stdout, b"", "{line}");
            }
        }
    }
}

#[test]
fn tracks_hold_the_table_s_columns() {
    let line = "predict a.fa -m genes -o out.parquet --genes g.gff3 --bed b.bed --bigwig w";
    let mut case = given::case(line);
    let mut files = Output::new("--bigwig", "w").files;
    files.extend(["out.parquet", "g.gff3", "b.bed"].map(str::to_string));
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let table = case.run().succeeds(&names).table();
    let (chroms, starts) = (table.words("chrom"), table.integers("start"));
    for class in GENE_CLASSES {
        let column = table.numbers(&format!("prob_{class}"));
        let track = crocuta::io::bigwig::read(&case.path(&format!("w.{class}.bw"))).unwrap();
        let mut found = Vec::new();
        for (region, value) in track {
            for position in region.start..region.end {
                found.push((region.contig.clone(), position as i64, value));
            }
        }
        let known = |i: usize| Some((chroms[i].clone(), starts[i], column[i]?));
        let expected: Vec<_> = (0..table.rows()).filter_map(known).collect();
        assert!(found == expected, "{class}");
    }
}

#[test]
fn a_bed_names_the_bases_whose_probability_reaches_the_threshold() {
    let line = "predict a.fa -m genes -o out.parquet --bed b.bed --threshold 0.0905";
    let outcome = given::case(line).run().succeeds(&["out.parquet", "b.bed"]);
    let table = outcome.table();
    let (chroms, starts) = (table.words("chrom"), table.integers("start"));
    let mut expected = Vec::new();
    for class in GENE_CLASSES {
        let column = table.numbers(&format!("prob_{class}"));
        let of = |i: &usize| column[*i].is_some_and(|p| p >= 0.0905);
        let bases = (0..table.rows()).filter(of);
        expected.extend(bases.map(|i| (chroms[i].clone(), starts[i], class.to_string())));
    }
    let text = String::from_utf8(outcome.file("b.bed").to_vec()).unwrap();
    let mut found = Vec::new();
    for line in kinds::features(&text) {
        let columns: Vec<&str> = line.split('\t').collect();
        let place = |i: usize| columns[i].parse::<i64>().unwrap();
        let bases = place(1)..place(2);
        found.extend(bases.map(|at| (columns[0].to_string(), at, columns[3].to_string())));
    }
    expected.sort();
    found.sort();
    assert!(!found.is_empty() && found == expected);
}
