//! Runs the real program in a fresh directory, and looks at everything that it leaves behind.
//!
//! ```text
//! Case::new("embed a.fa -m model -o out.parquet")
//!     .file("a.fa", ">a\nACGT\n")
//!     .run()
//!     .fails(3, &["no sequences"]);
//! ```
//! Every case fails if the program panics, is killed, hangs, writes a control character to stderr,
//! or leaves any file behind that was not asked for.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../src/io/testing/bytes.rs"]
pub mod bytes;
#[path = "../../src/ops/testing/compare.rs"]
pub mod compare;
pub mod table;
pub mod torch;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_crocuta");

/// A HyenaDNA of two layers, 16 wide, that knows 128 bases.
pub const CONFIG: &str = r#"{"model_type": "hyenadna", "d_model": 16, "d_inner": 64, "n_layer": 2,
    "max_seq_len": 130, "emb_dim": 5, "filter_order": 64, "vocab_size": 12}"#;

/// What a head of genes says of a base, in the order of its outputs.
pub const GENE_CLASSES: [&str; 11] = [
    "noncoding",
    "plus_1",
    "plus_2",
    "plus_3",
    "minus_1",
    "minus_2",
    "minus_3",
    "plus_start",
    "plus_stop",
    "minus_start",
    "minus_stop",
];

/// Its files with random weights: config.json and model.safetensors. Made once in each process.
static MODEL: LazyLock<[(&str, Vec<u8>); 2]> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.json"), CONFIG).unwrap();
    let made = Command::new(PROGRAM)
        .args([
            "models", "new", "--config", "c.json", "--seed", "1", "-o", "m",
        ])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let read = |name| std::fs::read(dir.path().join("m").join(name)).unwrap();
    ["config.json", "model.safetensors"].map(|name| (name, read(name)))
});

/// A file of the model.
pub fn model_file(name: &str) -> Vec<u8> {
    let (_, bytes) = MODEL.iter().find(|(known, _)| *known == name).unwrap();
    bytes.clone()
}

/// One run of the program: its directory, arguments and limits.
pub struct Case {
    dir: tempfile::TempDir,
    args: Vec<String>,
    stdin: Option<Vec<u8>>,
    stdout: Option<Stdio>,
    memory: u64,
    file_size: Option<u64>,
    seconds: u64,
    refused: Option<i64>,
}

impl Case {
    /// The program with arguments separated by blanks, in a directory that holds the small model
    /// as `model`.
    pub fn new(args: &str) -> Self {
        let case = Self {
            dir: tempfile::tempdir().unwrap(),
            args: args.split_whitespace().map(str::to_string).collect(),
            stdin: None,
            stdout: None,
            memory: 8 << 30,
            file_size: None,
            seconds: 20,
            refused: None,
        };
        std::fs::create_dir(case.path("model")).unwrap();
        MODEL.iter().fold(case, |case, (name, bytes)| {
            case.file(&format!("model/{name}"), bytes)
        })
    }

    /// `embed a.fa` to `out.parquet` with more arguments; `a.fa` holds `fasta`.
    pub fn embed(fasta: impl AsRef<[u8]>, args: &str) -> Self {
        Self::new(&format!("embed a.fa -m model -o out.parquet {args}")).file("a.fa", fasta)
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    pub fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    /// Adds an argument as it is.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_string());
        self
    }

    /// Other arguments in the same directory.
    pub fn args(mut self, args: &str) -> Self {
        self.args = args.split_whitespace().map(str::to_string).collect();
        self
    }

    /// Another directory with the same files, their times kept, and the same arguments.
    pub fn copy(&self) -> Self {
        let mut case = Self::new("");
        case.args = self.args.clone();
        for (name, content) in listing(self.dir.path()) {
            let (from, to) = (self.path(&name), case.path(&name));
            match content {
                Some((bytes, time)) => {
                    std::fs::write(&to, bytes).unwrap();
                    File::options()
                        .write(true)
                        .open(&to)
                        .and_then(|file| file.set_modified(time))
                        .unwrap();
                }
                None if from.is_symlink() => {
                    std::os::unix::fs::symlink(std::fs::read_link(from).unwrap(), to).unwrap();
                }
                None => std::fs::create_dir_all(to).unwrap(),
            }
        }
        case
    }

    /// What standard input holds; else it is empty.
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = Some(bytes.as_ref().to_vec());
        self
    }

    /// Where standard output goes; else it is kept.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// At most this many bytes of address space.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// At most this many bytes in a file.
    pub fn file_size(mut self, bytes: u64) -> Self {
        self.file_size = Some(bytes);
        self
    }

    /// At most this long.
    pub fn seconds(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    /// The kernel answers this system call with EIO.
    pub fn refuse(mut self, call: i64) -> Self {
        self.refused = Some(call);
        self
    }

    /// The program, ready to be spawned, with the limits of this case.
    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(&self.args)
            .current_dir(self.dir.path())
            .env_clear();
        let (memory, file_size, refused) = (self.memory, self.file_size, self.refused);
        // SAFETY: only system calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                limit(libc::RLIMIT_AS, memory)?;
                limit(libc::RLIMIT_CORE, 0)?;
                if let Some(bytes) = file_size {
                    limit(libc::RLIMIT_FSIZE, bytes)?;
                }
                refused.map_or(Ok(()), refuse)
            });
        }
        command
    }

    /// Runs the program to its end.
    pub fn run(&mut self) -> Outcome {
        let before = listing(self.dir.path());
        let mut command = self.command();
        let start = Instant::now();
        let output = match self.stdout.take() {
            Some(stdout) => {
                let child = command
                    .stdin(Stdio::null())
                    .stdout(stdout)
                    .stderr(Stdio::piped());
                child.spawn().unwrap().wait_with_output().unwrap()
            }
            None => assert_cmd::Command::from_std(command)
                .write_stdin(self.stdin.clone().unwrap_or_default())
                .timeout(Duration::from_secs(self.seconds))
                .output()
                .unwrap(),
        };
        let outcome = Outcome {
            name: format!("crocuta {}", self.args.join(" ")),
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
            seconds: start.elapsed().as_secs_f64(),
            after: listing(self.dir.path()),
            before,
        };
        outcome.check();
        outcome
    }
}

fn limit(resource: libc::__rlimit_resource_t, bytes: u64) -> std::io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: `limit` is valid for the call.
    match unsafe { libc::setrlimit(resource, &raw const limit) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// From now on `call` fails with EIO in this process.
fn refuse(call: i64) -> std::io::Result<()> {
    let op = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let program = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            call as u32,
            0,
            1,
        ),
        op(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | libc::EIO as u32,
            0,
            0,
        ),
        op(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `filter` and the program that it points to live during the calls.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const filter,
            ) == 0
    };
    if set {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Bytes and time of change of each file below a directory; for other things, neither.
pub type Listing = BTreeMap<String, Option<(Vec<u8>, SystemTime)>>;

pub fn listing(dir: &Path) -> Listing {
    let mut found = Listing::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            // Another run that writes there may have renamed it meanwhile.
            let Ok(metadata) = path.symlink_metadata() else {
                continue;
            };
            let content = metadata.is_file().then(|| {
                (
                    std::fs::read(&path).unwrap_or_default(),
                    metadata.modified().unwrap(),
                )
            });
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            found.insert(name, content);
            if metadata.is_dir() {
                dirs.push(path);
            }
        }
    }
    found
}

/// What a run did.
pub struct Outcome {
    name: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub seconds: f64,
    before: Listing,
    after: Listing,
}

impl Outcome {
    /// What no run may do.
    fn check(&self) {
        let Self { name, stderr, .. } = self;
        assert!(
            self.signal.is_none(),
            "{name}: signal or timeout {:?}\n{stderr}",
            self.signal
        );
        assert!(
            ![101, 134, 139].contains(&self.code.unwrap()),
            "{name}: {:?}\n{stderr}",
            self.code
        );
        for word in [
            "panicked",
            "RUST_BACKTRACE",
            "error: internal error",
            "stack backtrace",
        ] {
            assert!(!stderr.contains(word), "{name}\n{stderr}");
        }
        let raw = |c: char| c.is_control() && c != '\n';
        assert!(
            !stderr.contains(raw),
            "{name}: raw control character\n{stderr:?}"
        );
    }

    /// The run ended with `code`, said all of `messages`, and left every file as it was.
    pub fn fails(self, code: i32, messages: &[&str]) -> Self {
        assert_ne!(code, 0);
        self.ends(code, messages, &[])
    }

    /// The run did its work: it wrote these files, and no others.
    pub fn succeeds(self, files: &[&str]) -> Self {
        self.ends(0, &[], files)
    }

    /// The run ended with `code`, said all of `messages`, wrote `files`, and no others.
    pub fn ends(self, code: i32, messages: &[&str], files: &[&str]) -> Self {
        let Self {
            name,
            stderr,
            before,
            after,
            ..
        } = &self;
        assert_eq!(self.code, Some(code), "{name}\n{stderr}");
        for message in messages {
            assert!(
                stderr.contains(message),
                "{name}: not said: {message}\n{stderr}"
            );
        }
        for file in files {
            assert!(after.contains_key(*file), "{name}: no {file}");
        }
        let others = |listing: &Listing| -> Listing {
            let other = |name: &String| !files.contains(&name.as_str());
            listing
                .iter()
                .filter(|(name, _)| other(name))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        let (old, new) = (others(before), others(after));
        let names = |listing: &Listing| listing.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&old), names(&new), "{name}: files");
        assert!(old == new, "{name}: a file was changed");
        self
    }

    /// The bytes of a file that the run left.
    pub fn file(&self, name: &str) -> &[u8] {
        match self.after.get(name) {
            Some(Some((bytes, _))) => bytes,
            _ => panic!("{}: no {name}\n{}", self.name, self.stderr),
        }
    }

    /// The table `out.parquet`.
    pub fn table(&self) -> table::Table {
        table::Table::read(self.file("out.parquet"))
    }
}

/// `n` random bases: the same for the same seed.
pub fn bases(seed: u64, n: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ['A', 'C', 'G', 'T'][(state >> 33) as usize % 4]
    };
    (0..n).map(next).collect()
}

/// A FASTA record in lines of `width` bases.
pub fn record(name: &str, bases: &str, width: usize) -> String {
    let mut text = format!(">{name}\n");
    for line in bases.as_bytes().chunks(width) {
        text.push_str(std::str::from_utf8(line).unwrap());
        text.push('\n');
    }
    text
}

/// The `.fai` of a FASTA in lines of 60 bases.
pub fn fai(text: &str) -> String {
    let (mut index, mut offset) = (String::new(), 0);
    for record in text.split('>').skip(1) {
        let (name, bases) = record.split_once('\n').unwrap();
        let length = bases.len() - bases.matches('\n').count();
        offset += name.len() + 2;
        index += &format!("{name}\t{length}\t{offset}\t60\t61\n");
        offset += bases.len();
    }
    index
}

/// Says that a test did not run. Not with `eprintln!`, which is shown only for tests that fail.
pub fn skipped(why: impl std::fmt::Display) {
    use std::io::Write;
    let line = format!("SKIPPED: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
