//! Outputs and disks.

use crate::harness::{Case, PROGRAM, bases, listing, record};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn text(n: usize) -> String {
    record("a", &bases(1, n), 60)
}

#[test]
fn a_full_disk_is_an_io_error_that_leaves_nothing() {
    // A mount of its own needs a user namespace, which some systems do not give.
    let dir = tempfile::tempdir().unwrap();
    let case = Case::embed(text(40_000), "--dtype f32");
    let inside = "mount -t tmpfs -o size=1m none \"$1\" && cd \"$2\" && \
        { \"$3\" embed a.fa -m model --dtype f32 -o \"$1/out.parquet\"; echo \"code $?\"; ls -A \"$1\"; }";
    let out = Command::new("unshare")
        .args(["-rm", "sh", "-c", inside, "sh"])
        .args([dir.path(), &case.path(""), PROGRAM.as_ref()])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() && !stderr.contains("crocuta") {
        crate::harness::skipped(format!("no file system of one's own here: {stderr}"));
        return;
    }
    assert_eq!(String::from_utf8_lossy(&out.stdout), "code 5\n", "{stderr}");
    assert!(stderr.contains("No space left"), "{stderr}");
}

#[test]
fn a_full_standard_output_is_an_io_error() {
    for bases in [1, 20_000] {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut case = Case::new("embed a.fa -m model")
            .file("a.fa", text(bases))
            .stdout(full);
        case.run().fails(5, &["stdout", "No space left"]);
    }
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    Case::new("models list")
        .stdout(full)
        .run()
        .fails(5, &["stdout"]);
}

#[test]
fn a_failed_write_leaves_nothing_whichever_it_is() {
    let embed = |bytes| Case::embed(text(3000), "-t 1").file_size(bytes).run();
    let size = embed(1 << 30)
        .succeeds(&["out.parquet"])
        .file("out.parquet")
        .len() as u64;
    for bytes in (0..size).step_by(size as usize / 12).chain([3, size - 1]) {
        embed(bytes).fails(5, &["out.parquet", "File too large"]);
    }
    embed(size).succeeds(&["out.parquet"]);
    // An output that exists stays as it is.
    let mut case = Case::embed(text(3000), "--force")
        .file("out.parquet", "old")
        .file_size(100);
    case.run().fails(5, &["out.parquet"]);
}

#[test]
fn a_failed_fsync_or_rename_leaves_nothing() {
    for call in [libc::SYS_fsync, libc::SYS_renameat2] {
        Case::embed(text(300), "")
            .refuse(call)
            .run()
            .fails(5, &["out.parquet", "os error 5"]);
    }
    let old = || Case::embed(text(300), "--force").file("out.parquet", "old");
    for call in [libc::SYS_fsync, libc::SYS_renameat2] {
        old()
            .refuse(call)
            .run()
            .fails(5, &["out.parquet", "os error 5"]);
    }
}

#[test]
fn a_scratch_file_never_has_a_name_that_a_kill_could_leave() {
    let case = Case::embed(text(3000), "--strand both --chunk 512");
    case.refuse(libc::SYS_unlink)
        .run()
        .succeeds(&["out.parquet"]);
}

#[test]
fn a_name_may_be_as_long_as_the_file_system_allows() {
    let name = format!("{}.parquet", "n".repeat(247));
    for args in ["", "--resume"] {
        let mut case = Case::new(&format!("embed a.fa -m model -o {name} {args}"));
        case = case.file("a.fa", text(10));
        case.run().succeeds(&[&name]);
    }
    let name = "n".repeat(255);
    let mut case = Case::new(&format!("models new --config model/config.json -o {name}"));
    let files = ["config.json", "model.safetensors"].map(|file| format!("{name}/{file}"));
    case.run().succeeds(&[&name, &files[0], &files[1]]);
}

#[test]
fn an_existing_output_is_refused_before_the_input_is_read() {
    let mut case = Case::new("embed none.fa -m model -o out.parquet").file("out.parquet", "old");
    case.run().fails(2, &["out.parquet", "exists", "--force"]);
    let mut case = Case::embed(text(10), "--force").file("out.parquet", "old");
    assert_eq!(case.run().succeeds(&["out.parquet"]).table().rows(), 10);
}

#[test]
fn an_output_that_cannot_be_is_refused() {
    let to = |output: &str| {
        Case::new(&format!("embed a.fa -m model -o {output}")).file("a.fa", text(10))
    };
    to("none/out.parquet").run().fails(5, &["none"]);
    to("a.fa").run().fails(2, &["a.fa"]);
    to("./model/../a.fa --force").run().fails(2, &["a.fa"]);
    to("model").run().fails(2, &["directory"]);
    to("new/").run().fails(2, &["directory"]);
    let case = to("link.parquet");
    std::os::unix::fs::symlink("nowhere", case.path("link.parquet")).unwrap();
    { case }.run().fails(2, &["link"]);
    // SAFETY: has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        crate::harness::skipped("a directory without permission, because root writes everywhere");
        return;
    }
    let case = to("closed/out.parquet").file("closed/x", "");
    std::fs::set_permissions(case.path("closed"), PermissionsExt::from_mode(0o500)).unwrap();
    { case }.run().fails(5, &["Permission denied"]);
}

#[test]
fn a_symbolic_link_is_followed_and_its_target_replaced() {
    let mut case = Case::embed(text(10), "--force").file("real.parquet", "old");
    std::os::unix::fs::symlink("real.parquet", case.path("out.parquet")).unwrap();
    let out = case.run().succeeds(&["real.parquet"]);
    assert_ne!(out.file("real.parquet"), b"old");
    assert!(case.path("out.parquet").is_symlink());
}

#[test]
fn two_runs_do_not_share_an_output() {
    let mut case = Case::new("embed - -m model -o out.parquet");
    let mut first = case
        .command()
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let start = std::time::Instant::now();
    while listing(&case.path("")).len() < 4 && start.elapsed().as_secs() < 10 {
        std::thread::yield_now();
    }
    case.run().fails(2, &["out.parquet", "in use"]);
    drop(first.stdin.take());
    assert_eq!(first.wait().unwrap().code(), Some(3), "an empty input");
}

#[test]
fn binary_data_is_not_written_to_a_terminal() {
    let (mut ours, mut theirs) = (0, 0);
    // SAFETY: two valid places for the result, and no names or settings asked for.
    let opened = unsafe {
        let (name, settings, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
        libc::openpty(&raw mut ours, &raw mut theirs, name, settings, size)
    };
    if opened != 0 {
        crate::harness::skipped("no terminals here");
        return;
    }
    // SAFETY: the descriptor is open, and nobody else's.
    let terminal: std::os::fd::OwnedFd = unsafe { std::os::fd::FromRawFd::from_raw_fd(theirs) };
    let mut case = Case::new("embed a.fa -m model")
        .file("a.fa", text(10))
        .stdout(terminal);
    case.run().fails(2, &["stdout", "terminal"]);
    // SAFETY: as above.
    drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(ours) });
}

#[test]
fn a_summary_replaces_neither_an_input_nor_another_output() {
    let text = text(300);
    for (summary, message) in [("a.fa", "also an input"), ("out.parquet", "two outputs")] {
        let args = format!("--summary {summary}");
        Case::embed(&text, &args)
            .run()
            .fails(2, &[summary, message]);
        let reads = format!("reads a.fq -m model -o out.parquet {args}").replace("a.fa", "a.fq");
        let case = Case::new(&reads).file("a.fq", "@r\nACGT\n+\nIIII\n");
        { case }.run().fails(2, &[message]);
    }
}
