//! Runs that are killed and go on: in another directory, with another number of threads, under
//! another name, sharded, and always to the bytes of a run that nobody disturbed.

use crate::given;
use crate::harness::{Case, bases, fai, record};
use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// How often each command is stopped; CROCUTA_KILLS asks for more.
const KILLS: usize = 3;

/// Bases of the longest sequence.
const LENGTH: usize = 12_000;

/// A command, of which shards are run, and its inputs.
fn commands() -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    commands_on([LENGTH, 900, 8000, 700, 2500], 1500)
}

/// The same on contigs of these lengths, and on so many reads.
pub fn commands_on(
    lengths: [usize; 5],
    reads: u64,
) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
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
    let genome = vec![("a.fa", fasta.clone()), ("a.fa.fai", fai(&fasta))];
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
            vec![("a.fq", given::fastq(reads))],
        ),
        (
            "score v.vcf -r a.fa -m model --chunk 256 --after 40 --shard 1/2",
            scored.clone(),
        ),
        (
            "score v.vcf -r a.fa -m model --chunk 256 --after 40 --protocol marin --shard 2/2",
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

/// The same, with the memory that CUDA takes.
pub fn gpu_case(args: &str, files: &[(&str, String)]) -> Case {
    case(args, files).memory(u64::MAX)
}

/// The program, which finds the GPU that the tests' own process would find, if it is asked to.
fn command(case: &Case) -> Command {
    let mut command = case.command();
    for name in ["PATH", "LD_LIBRARY_PATH", "CUDA_EMULATOR"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

/// Sends a signal to a child that was not waited for yet.
fn send(child: &Child, signal: i32) {
    // SAFETY: it is our own child.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// A run that tells what it is at.
pub struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Running {
    /// Starts a run, of which each step takes so many milliseconds more.
    pub fn start(case: &Case, pause: u64) -> Self {
        let mut command = command(case);
        command.env("CROCUTA_PAUSE", pause.to_string());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        Self {
            stderr: BufReader::new(child.stderr.take().unwrap()),
            said: String::new(),
            child,
        }
    }

    /// The same once it has opened its inputs: all that is left to do is its steps.
    pub fn at_work(case: &Case, pause: u64) -> Self {
        let mut run = Self::start(case, pause);
        while !run.said.contains("crocuta: on ") {
            let read = run.stderr.read_line(&mut run.said).unwrap();
            assert!(read > 0, "over before it was at work: {}", run.said);
        }
        run
    }

    /// Sends a signal after so many milliseconds.
    fn send_after(&self, milliseconds: u64, signal: i32) {
        std::thread::sleep(Duration::from_millis(milliseconds));
        send(&self.child, signal);
    }

    /// Whether it has ended.
    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended, and all that it said.
    pub fn end(mut self) -> (Option<i32>, String) {
        self.stderr.read_to_string(&mut self.said).unwrap();
        (self.child.wait().unwrap().code(), self.said)
    }
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
            send(&child, signal);
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

/// Checkpoints in `k` that only a run makes which is asked to stop.
const ASKED: &str = "--resume --checkpoint-every 9999 --checkpoint-dir k -o out.parquet";

#[test]
fn a_terminated_run_makes_a_checkpoint_although_none_is_due() {
    for (line, files) in commands() {
        let mut whole = case(&format!("{line} -o out.parquet"), &files);
        let whole = whole.run().succeeds(&["out.parquet"]);
        let mut once = case(&format!("{line} {ASKED}"), &files);
        for checkpoint in 1..3 {
            let run = Running::at_work(&once, 100);
            run.send_after(300, libc::SIGTERM);
            let (code, stderr) = run.end();
            let stands = format!("checkpoint {checkpoint} stands");
            assert!(
                code == Some(143) && stderr.contains(&stands),
                "{line}: {stderr}"
            );
        }
        let ended = once.run();
        assert!(ended.code == Some(0) && ended.stderr.contains("going on after checkpoint 2"));
        assert!(
            ended.file("out.parquet") == whole.file("out.parquet"),
            "{line}"
        );
    }
}

/// Many sites of which each is a step of the reference, and one behind a long stretch without any.
#[test]
fn scores_that_are_terminated_make_a_checkpoint_within_seconds() {
    let (line, files) = commands().swap_remove(4);
    let line = line.replace("--shard 1/2", "");
    let vcf = &files.last().unwrap().1;
    let header = vcf.lines().take_while(|line| line.starts_with('#'));
    let last = vcf.lines().last().into_iter();
    let lonely: String = header.chain(last).map(|line| format!("{line}\n")).collect();
    for variants in [vcf, &lonely] {
        let run = |args: &str| case(&format!("{line} {args}"), &files).file("v.vcf", variants);
        let whole = run("-o out.parquet").run().succeeds(&["out.parquet"]);
        let mut once = run(ASKED);
        let run = Running::at_work(&once, 500);
        run.send_after(700, libc::SIGTERM);
        let asked = Instant::now();
        let (code, stderr) = run.end();
        assert!(
            code == Some(143) && stderr.contains("checkpoint 1 stands"),
            "{stderr}"
        );
        assert!(
            asked.elapsed() < Duration::from_secs(6),
            "{:?}",
            asked.elapsed()
        );
        let ended = once.run();
        assert!(ended.code == Some(0) && ended.stderr.contains("going on"));
        assert!(ended.file("out.parquet") == whole.file("out.parquet"));
    }
}

#[test]
fn a_run_ends_with_a_checkpoint_when_its_time_is_over() {
    let fasta = record("c", &bases(1, 10_000), 60);
    let line = "embed a.fa -m model --chunk 32 --bin 64 -t 1";
    let files = [("a.fa", fasta)];
    let mut whole = case(&format!("{line} -o out.parquet"), &files);
    let whole = whole.run().succeeds(&["out.parquet"]);
    let limited = format!("{line} {ASKED} --time-limit");
    let mut once = case(&format!("{limited} 1s"), &files);
    let (code, stderr) = Running::at_work(&once, 100).end();
    assert!(
        code == Some(143) && stderr.contains("--time-limit is over"),
        "{stderr}"
    );
    assert!(stderr.contains("the same command goes on"), "{stderr}");
    assert_eq!(once.path("k").read_dir().unwrap().count(), 1);
    once = once.args(&format!("{limited} 1h"));
    let ended = once.run();
    assert!(ended.code == Some(0) && ended.stderr.contains("going on"));
    assert!(ended.file("out.parquet") == whole.file("out.parquet"));
    once = case(&format!("{limited} 90"), &files);
    once.run().fails(2, &["90s, 3h50m"]);
    once = case(&format!("{line} -o out.parquet --time-limit 1h"), &files);
    once.run().fails(2, &["--resume"]);
}

#[test]
fn a_signal_after_the_time_is_over_leaves_the_checkpoint_its_time() {
    let (line, files) = commands().swap_remove(0);
    let once = case(&format!("{line} {ASKED} --time-limit 1s"), &files);
    // The time is over in the first step.
    let run = Running::at_work(&once, 4000);
    run.send_after(2000, libc::SIGTERM);
    let (code, stderr) = run.end();
    assert!(
        code == Some(143) && stderr.contains("checkpoint 1 stands"),
        "{stderr}"
    );
}

#[test]
fn two_runs_share_a_directory_of_checkpoints_but_not_a_run() {
    let (_, files) = commands().swap_remove(0);
    let line = "embed a.fa -m model --chunk 64 --checkpoint-every 0 --resume --checkpoint-dir k";
    let one = case(&format!("{line} -o a.parquet"), &files);
    let mut run = Running::at_work(&one, 500);
    while one.path("k").read_dir().map_or(0, Iterator::count) == 0 {
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
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(2) && said.contains("another process"),
        "{said}"
    );
    assert!(allowed.status.success());
    assert_eq!(one.path("k").read_dir().unwrap().count(), 1);
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_terminated_run_on_a_gpu_goes_on_to_the_undisturbed_bytes() {
    let mut commands = commands();
    // A state on the device, and a pass over sites.
    for (line, files) in [commands.swap_remove(4), commands.swap_remove(0)] {
        let line = format!("{line} --device cuda");
        let run = |args: &str| gpu_case(&format!("{line} {args}"), &files);
        let (whole, once) = (run("-o out.parquet"), run(ASKED));
        let (code, stderr) = Running::start(&whole, 0).end();
        assert!(code == Some(0), "{line}: {stderr}");
        let run = Running::at_work(&once, 200);
        run.send_after(600, libc::SIGTERM);
        let (code, stderr) = run.end();
        assert!(
            code == Some(143) && stderr.contains("checkpoint 1 stands"),
            "{line}: {stderr}"
        );
        let (code, stderr) = Running::start(&once, 0).end();
        assert!(
            code == Some(0) && stderr.contains("going on"),
            "{line}: {stderr}"
        );
        let read = |case: &Case| std::fs::read(case.path("out.parquet")).unwrap();
        assert!(read(&once) == read(&whole), "{line}");
    }
}
