//! Inputs from a server, by the program: the same tables as from files, whatever happens to the
//! connection, or an error that says what.

use crate::harness::Case;
use crate::server::{Server, Trouble};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Files of the tests, by their names alone.
fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for directory in ["tests/data/reads", "data"] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.file_name().unwrap().to_str().unwrap().to_string();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// What a command writes to `out.parquet`; `@name` in its arguments stands for a file.
fn table(args: &str, at: impl Fn(&str) -> String) -> Vec<u8> {
    let (code, said, table) = run(args, at, &[]);
    assert_eq!(code, Some(0), "{args}\n{said}");
    table.unwrap()
}

/// Exit code, stderr, and the table, if there is one.
fn run(
    args: &str,
    at: impl Fn(&str) -> String,
    variables: &[(&str, &str)],
) -> (Option<i32>, String, Option<Vec<u8>>) {
    let words = args.split(' ').map(|word| match word.strip_prefix('@') {
        Some(name) => at(name),
        None => word.to_string(),
    });
    let words: Vec<String> = words.collect();
    let case = Case::new(&format!("{} -m model -o out.parquet", words.join(" ")));
    let out = case
        .command()
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    (
        out.status.code(),
        said,
        fs::read(case.path("out.parquet")).ok(),
    )
}

fn local(name: &str) -> String {
    let here = fs::canonicalize(".").unwrap();
    let paths = ["tests/data/reads", "data"].map(|directory| here.join(directory).join(name));
    let path = paths
        .into_iter()
        .find(|path: &std::path::PathBuf| path.exists());
    path.unwrap_or_else(|| here.join(name))
        .display()
        .to_string()
}

const COMMANDS: [&str; 9] = [
    "reads @small.bam",
    "reads @small.bam --region 17:1000-1500",
    "reads @small.cram -r @ref.fa",
    "reads @small.cram -r @ref.fa --region 17:1000-1500",
    "reads @small.sam",
    "reads @small.sam --resume",
    "embed @ref.fa --bin 16",
    "embed @ref.fa --bin 16 --region 17:1000-1500",
    "predict @small.bam -r @ref.fa --region 17:1000-1500",
];

#[test]
fn a_url_gives_the_bytes_that_a_file_gives() {
    let server = Server::new(files(), Trouble::None);
    for command in COMMANDS {
        let here = table(command, local);
        assert!(table(command, |name| server.url(name)) == here, "{command}");
        assert!(
            table(command, |name| server.url(&format!("moved/{name}"))) == here,
            "{command}"
        );
    }
}

#[test]
fn variants_and_their_reference_come_from_a_server() {
    let server = Server::new(files(), Trouble::None);
    let command = "score @small.vcf -r @ref.fa --region 17:1-4000";
    let vcf = "##fileformat=VCFv4.2\n##contig=<ID=17,length=4200>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
    let reference = fs::read_to_string("tests/data/reads/ref.fa").unwrap();
    let bases: String = reference.lines().skip(1).collect();
    let base = &bases[999..1000];
    let other = if base.eq_ignore_ascii_case("A") {
        "C"
    } else {
        "A"
    };
    let vcf = format!("{vcf}17\t1000\t.\t{base}\t{other}\t.\t.\t.\n");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("small.vcf");
    fs::write(&path, &vcf).unwrap();
    let mut served = files();
    served.insert("small.vcf".to_string(), vcf.into_bytes());
    let with = Server::new(served, Trouble::None);
    drop(server);
    let command = command.replace(" --region 17:1-4000", "");
    let here = table(&command, |name| match name {
        "small.vcf" => path.display().to_string(),
        _ => local(name),
    });
    assert!(table(&command, |name| with.url(name)) == here);
}

#[test]
fn regions_take_a_part_of_a_file_by_ranges() {
    let mut files = files();
    // Sequences before and after the one that is asked for.
    let filler = format!(">x\n{}\n", "ACGT".repeat(1 << 20));
    let fasta = format!("{filler}>y\nACGTACGTAC\n{}", filler.replace(">x", ">z"));
    let (one, length) = (filler.len(), 4 << 20);
    let index = format!(
        "x\t{length}\t3\t{length}\t{}\ny\t10\t{}\t10\t11\nz\t{length}\t{}\t{length}\t{}\n",
        length + 1,
        one + 3,
        one + 14 + 3,
        length + 1
    );
    files.insert("big.fa".to_string(), fasta.into_bytes());
    files.insert("big.fa.fai".to_string(), index.into_bytes());
    let server = Server::new(files, Trouble::None);
    let embedded = table("embed @big.fa --region y:3-8", |name| server.url(name));
    assert!(!embedded.is_empty());
    let asked = server.asked();
    let middle = asked
        .iter()
        .filter_map(|line| line.strip_prefix("big.fa ")?.strip_suffix('-'));
    let within = middle.filter_map(|start| start.parse::<usize>().ok());
    assert!(
        within
            .into_iter()
            .any(|start| start >= one - (1 << 14) && start < one + 20),
        "{asked:?}"
    );
}

#[test]
fn a_connection_that_is_cut_is_made_anew_and_one_that_is_always_cut_ends_with_code_5() {
    let here = table("reads @small.bam", local);
    let server = Server::new(files(), Trouble::Cut(3));
    assert!(table("reads @small.bam", |name| server.url(name)) == here);
    let server = Server::new(files(), Trouble::Cut(usize::MAX));
    let (code, said, table) = run("reads @small.bam", |name| server.url(name), &[]);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("small.bam: ") && said.contains("was cut at byte"),
        "{said}"
    );
    assert!(table.is_none());
}

#[test]
fn what_is_not_there_or_not_reached_ends_with_code_5_and_shows_no_key() {
    let server = Server::new(files(), Trouble::None);
    let (code, said, _) = run("reads @none.bam?key=secret", |name| server.url(name), &[]);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("none.bam: No such file") && !said.contains("secret"),
        "{said}"
    );
    // No server listens on the port of one that is gone.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (code, said, _) = run(
        "reads @small.bam",
        |name| format!("http://{free}/{name}"),
        &[],
    );
    assert_eq!(code, Some(5), "{said}");
}

#[test]
fn without_ranges_a_file_is_read_from_its_start_and_regions_are_refused() {
    let server = Server::new(files(), Trouble::NoRanges);
    let command = "reads @small.bam";
    assert!(!table(command, |name| server.url(name)).is_empty());
    let command = "reads @small.bam --region 17:1000-1500";
    let (code, said, _) = run(command, |name| server.url(name), &[]);
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn a_remote_file_that_changes_during_a_run_is_noticed() {
    let server = Server::new(files(), Trouble::None);
    let command = "embed @ref.fa";
    table(command, |name| server.url(name));
    let requests = server.asked().len();
    let server = Server::new(files(), Trouble::Changes(requests - 3));
    let (code, said, table) = run(command, |name| server.url(name), &[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("it changed while it was read"), "{said}");
    assert!(table.is_none());
}

#[test]
fn s3_is_read_as_http_is() {
    let bucket = files()
        .into_iter()
        .map(|(name, bytes)| (format!("zoo/{name}"), bytes));
    let server = Server::new(bucket.collect(), Trouble::None);
    let host = server.address.to_string();
    let variables = [
        ("HTS_S3_HOST", host.as_str()),
        ("HTS_S3_ADDRESS_STYLE", "path"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "key"),
    ];
    let at = |name: &str| format!("s3+http://zoo/{name}");
    let (code, said, found) = run("reads @small.bam", at, &variables);
    assert_eq!(code, Some(0), "{said}");
    assert!(found.unwrap() == table("reads @small.bam", local));
}

#[test]
fn a_cram_finds_its_reference_by_the_environment_or_its_header() {
    let expected = table("reads @small.cram -r @ref.fa", local);
    let text = fs::read_to_string("tests/data/reads/ref.fa").unwrap();
    let letters: String = text.lines().skip(1).collect::<String>().to_uppercase();
    let sam = fs::read_to_string("tests/data/reads/small.sam").unwrap();
    let md5 = sam
        .split(['\t', '\n'])
        .find_map(|field| field.strip_prefix("M5:"))
        .unwrap();
    let cache = tempfile::tempdir().unwrap();
    let place = cache.path().join(&md5[..2]);
    fs::create_dir(&place).unwrap();
    fs::write(place.join(&md5[2..]), &letters).unwrap();
    let pattern = format!("{}/%2s/%s", cache.path().display());
    let served = BTreeMap::from([(format!("md5/{md5}"), letters.clone().into_bytes())]);
    let server = Server::new(served, Trouble::None);
    let remote = format!("/nowhere/%s:{}", server.url("md5/%s"));
    for (name, value) in [
        ("REF_CACHE", &pattern),
        ("REF_PATH", &pattern),
        ("REF_PATH", &remote),
    ] {
        let (code, said, found) = run("reads @small.cram", local, &[(name, value)]);
        assert_eq!(code, Some(0), "{name}={value}: {said}");
        assert!(rows(&found.unwrap()) == rows(&expected), "{name}={value}");
    }
    fs::write(place.join(&md5[2..]), letters.replace('A', "C")).unwrap();
    let (code, said, _) = run("reads @small.cram", local, &[("REF_PATH", &pattern)]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("should have the MD5"), "{said}");
}

/// A table without its footer, which names the reference that was given.
fn rows(parquet: &[u8]) -> Vec<u8> {
    let size = parquet.len() - 8;
    let footer = u32::from_le_bytes(parquet[size..size + 4].try_into().unwrap()) as usize;
    parquet[..size - footer].to_vec()
}

#[test]
fn cram_2_is_read_as_the_bam_of_the_same_reads() {
    let scratch = tempfile::tempdir().unwrap();
    let two = scratch.path().join("two.cram");
    let from = Path::new("tests/data/reads/small.bam");
    let reference = fs::canonicalize("tests/data/reads/ref.fa").unwrap();
    let options = ["version=2.1"];
    crate::judge::copy_alignments(from, Some(&reference), &two, c"wc", &options).unwrap();
    assert_eq!(fs::read(&two).unwrap()[4..6], [2, 1]);
    for region in ["", " --region 17:1000-1500"] {
        let command = |name: &str| format!("reads @{name}{region} -r @ref.fa");
        let at = |name: &str| match name {
            "two.cram" => two.display().to_string(),
            _ => local(name),
        };
        let found = rows(&table(&command("two.cram"), at));
        assert!(found == rows(&table(&command("small.bam"), at)), "{region}");
    }
}
