//! Two GPUs of one host: the bytes of one, killed and resumed too.

use crate::harness::Case;
use crate::kills::{Running, commands_on, gpu_case};

/// The commands without their shards, and with what differs on a GPU.
fn lines() -> Vec<(String, Vec<(&'static str, String)>)> {
    let commands = commands_on([1500, 90, 900, 300, 260], 60);
    let whole = commands.into_iter().map(|(line, files)| {
        let words: Vec<&str> = line.split(' ').collect();
        let shard = words.iter().position(|word| *word == "--shard").unwrap();
        (words[..shard].join(" "), files)
    });
    let mut lines: Vec<_> = whole.collect();
    let (line, files) = lines[0].clone();
    lines.push((format!("{line} --strand both"), files));
    lines
}

fn bytes(case: &Case, name: &str) -> Vec<u8> {
    std::fs::read(case.path(name)).unwrap()
}

fn finishes(case: &Case) {
    let (code, stderr) = Running::start(case, 0).end();
    assert!(code == Some(0), "{stderr}");
}

#[test]
#[ignore = "needs two CUDA devices"]
fn runs_on_two_gpus_give_the_bytes_of_runs_on_a_gpu() {
    for (line, files) in lines() {
        let run = |device: &str| {
            let line = format!("{line} -o out.parquet --device {device}");
            let case = gpu_case(&line, &files);
            finishes(&case);
            bytes(&case, "out.parquet")
        };
        let one = run("cuda:1");
        assert!(run("cuda:all") == one, "{line}");
    }
}

#[test]
#[ignore = "needs two CUDA devices"]
fn a_run_on_two_gpus_that_is_killed_goes_on_to_the_bytes_of_one_on_a_gpu() {
    // Of contigs, of reads, of sites.
    let lines = lines().into_iter().enumerate();
    let lines = lines.filter(|(i, _)| [0, 3, 4].contains(i));
    for (_, (line, files)) in lines {
        let case = |rest: &str| gpu_case(&format!("{line} -o out.parquet {rest}"), &files);
        let whole = case("--device cuda:0");
        finishes(&whole);
        let asked = "--resume --checkpoint-every 0 --device cuda:0,1";
        let once = case(asked);
        let mut run = Running::at_work(&once, 60);
        let journal = once.path(".out.parquet.journal/journal.json");
        while !journal.exists() && !run.is_over() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        run.kill();
        finishes(&once);
        assert!(
            bytes(&once, "out.parquet") == bytes(&whole, "out.parquet"),
            "{line}"
        );
    }
}

#[test]
#[ignore = "needs two CUDA devices"]
fn training_on_two_gpus_gives_the_weights_of_training_on_a_gpu() {
    let (_, files) = commands_on([1500, 90, 900, 300, 260], 1).swap_remove(0);
    let train = |rest: &str| {
        let line = format!("fit a.fa -m model -o out --steps 4 --batch 4 --length 64 {rest}");
        let case = gpu_case(&line, &files);
        finishes(&case);
        bytes(&case, "out/model.safetensors")
    };
    let one = train("--device cuda:0 --accumulate 2");
    assert!(train("--device cuda:0,1") == one);
    assert!(train("--device cuda:1,0 --accumulate 2") == one);
}
