//! Runs that are killed.

use crate::harness::bases;
use crate::run::{RUNS, Small, WORK};
use std::process::Stdio;

/// Kills a run at `moments` random moments: its outputs are those of a run that was not killed, or
/// are not there, and the same command gives them. Returns how many runs were killed before their
/// end.
fn kill(line: &str, moments: u64) -> usize {
    let small = Small::new(line);
    let mut killed = 0;
    for i in 0..moments {
        small.clean();
        let mut child = small
            .command(&[], &[])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A number from 0 to 4095 out of random bases.
        let letters = bases(i + 1, 6);
        let random = letters.bytes();
        let random = random.fold(0, |sum, base| sum * 4 + u32::from(base >> 1 & 3));
        std::thread::sleep(small.time * random / 4000);
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        let what = format!("{line}: kill {i}");
        let left = small.left();
        for (name, bytes) in &left {
            assert!(small.whole.get(name) == Some(bytes), "{what}: {name}");
        }
        if !left.is_empty() {
            small.clean();
        }
        small.again(&what);
    }
    killed
}

#[test]
fn killed_runs_leave_whole_outputs_or_none() {
    let lines = RUNS.iter().chain(&WORK);
    let killed: usize = lines.map(|line| kill(line, 1)).sum();
    assert!(killed > 0);
}

/// A quarter of an hour. Prints how many of 870 runs were killed.
#[test]
#[ignore = "takes long: run it after changes to io"]
fn runs_that_are_killed_at_any_moment_leave_whole_outputs_or_none() {
    for line in RUNS.iter().chain(&WORK) {
        println!("{line}: {} of 30 killed", kill(line, 30));
    }
}
