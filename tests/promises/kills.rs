//! Runs that are killed and go on: in another directory, with another number of threads, under
//! another name, sharded, and always to the bytes of a run that nobody disturbed.

use crate::given;
use crate::harness::{Case, bases, record};
use std::fmt::Write;
use std::process::Stdio;
use std::time::Duration;

/// How often each command is stopped; CROCUTA_KILLS asks for more.
const KILLS: usize = 3;

/// Bases of the longest sequence.
const LENGTH: usize = 12_000;

/// A command, of which shards are run, and its inputs.
fn commands() -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let lengths = [LENGTH, 900, 8000, 700, 2500];
    let contigs = lengths.iter().zip(0..);
    let contigs = contigs.map(|(&length, i)| record(&format!("c{i}"), &bases(i, length), 60));
    let fasta: String = contigs.collect();
    let mut vcf =
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n".to_string();
    for (contig, step) in [(2, 11), (0, 9)] {
        let genome = bases(contig, lengths[contig as usize]);
        for at in (50..genome.len() - 50).step_by(step) {
            let letter = &genome[at..=at];
            let other = if letter == "A" { "C" } else { "A" };
            writeln!(vcf, "c{contig}\t{}\t.\t{letter}\t{other}\t.\t.\t.", at + 1).unwrap();
        }
    }
    let genome = vec![("a.fa", fasta.clone()), ("a.fa.fai", given::fai(&fasta))];
    let mut scored = genome.clone();
    scored.push(("v.vcf", vcf));
    vec![
        (
            "embed a.fa -m model --chunk 256 --bin 16 --shard 1/2",
            genome.clone(),
        ),
        (
            "embed a.fa -m model --chunk 256 --shard 2/3 --shard-by bases --context 99",
            genome.clone(),
        ),
        ("predict a.fa -m model --chunk 256 --shard 2-of-2", genome),
        (
            "reads a.fq -m model --chunk 256 --shard 1/2",
            vec![("a.fq", given::fastq(1500))],
        ),
        (
            "score v.vcf -r a.fa -m model --chunk 256 --after 40 --shard 1/2",
            scored.clone(),
        ),
        (
            "score v.vcf -r a.fa -m model --chunk 256 --after 40 --preset marin --shard 2/2",
            scored.clone(),
        ),
        (
            "score v.vcf -r a.fa -m model --chunk 256 --mode window --window 60 --shard 2/3 --shard-by site",
            scored,
        ),
    ]
}

fn case(args: &str, files: &[(&str, String)]) -> Case {
    let case = Case::new(args).seconds(300);
    files
        .iter()
        .fold(case, |case, (name, bytes)| case.file(name, bytes))
}

/// A number below `n`, from the clock.
fn random(n: u64) -> u64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    (u64::from(now.subsec_nanos()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % n
}

/// Runs the command in directories of its own, sharing checkpoints, stopped again and again.
fn disturbed(
    line: &str,
    files: &[(&str, String)],
    whole: (&[u8], Duration),
    kills: usize,
) -> usize {
    let shared = tempfile::tempdir().unwrap();
    let mut stopped = 0;
    for attempt in 0.. {
        let (threads, output) = (1 + attempt % 2, format!("out{attempt}.parquet"));
        let args = format!("{line} --resume --checkpoint-every 0 -t {threads} -o {output}");
        let case = case(&args, files).arg("--checkpoint-dir");
        let case = case.arg(&shared.path().display().to_string());
        let mut child = case.command().stderr(Stdio::null()).spawn().unwrap();
        let terminate = random(2) == 0;
        if stopped < kills {
            std::thread::sleep(whole.1.mul_f64(random(1000) as f64 / 1000.0));
            let signal = if terminate {
                libc::SIGTERM
            } else {
                libc::SIGKILL
            };
            // SAFETY: our own child, which was not waited for yet.
            assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        }
        let code = child.wait().unwrap().code();
        if code == Some(0) {
            let found = std::fs::read(case.path(&output)).unwrap();
            assert!(
                found == whole.0,
                "{line}: other bytes after {stopped} kills"
            );
            assert_eq!(shared.path().read_dir().unwrap().count(), 0, "{line}");
            if stopped >= kills {
                return stopped;
            }
        } else {
            assert!(code.is_none() || code == Some(143), "{line}: {code:?}");
            // Killed between its last two deeds, it stands complete.
            let left = std::fs::read(case.path(&output));
            assert!(
                left.is_err() || left.is_ok_and(|left| left == whole.0),
                "{line}"
            );
            stopped += 1;
        }
    }
    stopped
}

#[test]
fn a_run_that_is_killed_at_any_moment_ends_with_the_undisturbed_bytes() {
    let asked = std::env::var("CROCUTA_KILLS").ok();
    let kills = asked.map_or(KILLS, |kills| kills.parse().unwrap());
    let mut stopped = 0;
    for (line, files) in commands() {
        let mut once = case(&format!("{line} -t 2 -o out.parquet"), &files);
        let outcome = once.run().succeeds(&["out.parquet"]);
        let time = Duration::from_secs_f64(outcome.seconds);
        stopped += disturbed(line, &files, (outcome.file("out.parquet"), time), kills);
    }
    println!("{stopped} runs were stopped");
}

#[test]
fn a_terminated_run_makes_a_checkpoint_although_none_is_due() {
    for (line, files) in commands() {
        let args =
            format!("{line} --resume --checkpoint-every 9999 --checkpoint-dir k -o out.parquet");
        let once = case(&args, &files);
        let mut whole = case(&format!("{line} -o out.parquet"), &files);
        let whole = whole.run().succeeds(&["out.parquet"]);
        let mut stops = 0;
        loop {
            let mut child = once.command().stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_secs_f64(whole.seconds * 0.6));
            // SAFETY: our own child, which was not waited for yet.
            unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
            match child.wait().unwrap().code() {
                Some(0) => break,
                code => assert_eq!(code, Some(143), "{line}"),
            }
            stops += 1;
            assert!(stops < 40, "{line}: it does not come further");
        }
        let found = std::fs::read(once.path("out.parquet")).unwrap();
        assert!(found == whole.file("out.parquet"), "{line}");
    }
}

#[test]
fn a_run_ends_with_a_checkpoint_when_its_time_is_over() {
    let fasta = record("c", &bases(1, 50_000), 60);
    let line = "embed a.fa -m model --chunk 32 --bin 64 -t 1 -o out.parquet";
    let files = [("a.fa", fasta)];
    let mut whole = case(line, &files);
    let whole = whole.run().succeeds(&["out.parquet"]);
    let limited = "--resume --checkpoint-every 0 --checkpoint-dir k --time-limit";
    let mut once = case(&format!("{line} {limited} 2s"), &files);
    let ended = once.run();
    assert_eq!(ended.code, Some(143), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("the same command goes on"),
        "{}",
        ended.stderr
    );
    assert_eq!(once.path("k").read_dir().unwrap().count(), 1);
    let on = limited.replace("every 0", "every 600");
    once = once.args(&format!("{line} {on} 1h"));
    assert_eq!(once.run().code, Some(0));
    assert!(std::fs::read(once.path("out.parquet")).unwrap() == whole.file("out.parquet"));
    once = case(&format!("{line} {limited} 90"), &files);
    once.run().fails(2, &["90s, 3h50m"]);
    once = case(&format!("{line} --time-limit 1h"), &files);
    once.run().fails(2, &["--resume"]);
}

#[test]
fn two_runs_share_a_directory_of_checkpoints_but_not_a_run() {
    let (_, files) = commands().swap_remove(0);
    let line = "embed a.fa -m model --chunk 64 --checkpoint-every 0 --resume --checkpoint-dir k";
    let one = case(&format!("{line} -o a.parquet"), &files);
    let mut child = one.command().stderr(Stdio::null()).spawn().unwrap();
    let journals = || one.path("k").read_dir().map_or(0, |found| found.count());
    while journals() == 0 {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    let beside = |args: &str| {
        let line = line.replace("-dir k", &format!("-dir {}", one.path("k").display()));
        case(&format!("{line} {args}"), &files)
            .command()
            .output()
            .unwrap()
    };
    let refused = beside("-o b.parquet");
    let allowed = beside("-o b.parquet --bin 7");
    child.kill().unwrap();
    child.wait().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(2) && said.contains("another process"),
        "{said}"
    );
    assert!(allowed.status.success());
    assert_eq!(journals(), 1);
}
