//! A sequence through a candidate as `crocuta embed` reads it, and what that took.

use super::candidate::{Candidate, Start};
use crate::checkpoint::Config;
use crate::encoder::{Encoder, Layer, Model, Segment};
use crate::error::{Error, Kind, Result};
use crate::io::threads;
use crate::ops::Device;
use crate::run;
use crate::stream::Engine;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a pass took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// Bytes of memory at its peak: of the process, or of the GPU.
    pub memory: u64,
    /// Seconds, without the opening of the model.
    pub seconds: f64,
}

/// What a child process is asked for.
#[derive(Serialize, Deserialize)]
struct Asked {
    name: String,
    config: Map<String, Value>,
    directory: PathBuf,
    start: Start,
    bases: u64,
}

/// The candidate on its device.
///
/// # Errors
/// Those of the model.
pub fn engine(candidate: &Candidate, device: Device) -> Result<Engine> {
    let (model, facts) = Model::load(&candidate.checkpoint(0)?)?;
    Ok(Engine {
        model,
        facts,
        device,
        layers: vec![Layer::Norm],
    })
}

/// Tokens of so many bases.
pub fn tokens(engine: &Engine, bases: usize) -> Vec<u32> {
    run::device::tokens(bases, &engine.facts)
}

/// Reads one sequence of so many bases: in steps with the state carried, or whole if the model
/// does not stream. On a GPU the peak is its own since the call began.
///
/// # Errors
/// Memory: the device has not enough; those of the model.
pub fn read(engine: &Engine, bases: u64) -> Result<Taken> {
    if let Device::Cuda(gpu) = &engine.device {
        gpu.forget_peak()?;
    }
    let facts = &engine.facts;
    let step = match engine.device {
        Device::Cpu => facts.cpu_step,
        Device::Cuda(_) => facts.longest_gpu_step(Some(bases)),
    };
    let bases = usize::try_from(bases).unwrap_or(usize::MAX);
    let step = if facts.streams() {
        step.min(bases)
    } else {
        bases
    };
    let mut state = engine.model.start(1)?;
    let started = Instant::now();
    let mut from = 0;
    while from < bases {
        let len = step.min(bases - from);
        let segment = Segment {
            lane: 0,
            len,
            starts: from == 0,
            ends: from + len == bases,
        };
        engine.forward(tokens(engine, len), &[segment], &mut state)?;
        from += len;
    }
    engine.device.synchronize()?;
    let seconds = started.elapsed().as_secs_f64();
    let memory = match &engine.device {
        Device::Cpu => run::peak_memory().unwrap_or_default(),
        Device::Cuda(gpu) => gpu.peak_memory()? as u64,
    };
    Ok(Taken { memory, seconds })
}

/// The same on the CPU in a process of its own, so that the peak is this pass's alone. `child` is
/// that process's command line. None if it took longer than `patience`.
///
/// # Errors
/// Memory: the child had not enough; those of the child.
pub fn read_in_child(
    mut child: Command,
    candidate: &Candidate,
    bases: u64,
    patience: Duration,
) -> Result<Option<Taken>> {
    let asked = Asked {
        name: candidate.name.clone(),
        config: candidate.config.as_json().clone(),
        directory: candidate.directory().to_path_buf(),
        start: candidate.start.clone(),
        bases,
    };
    let asked = serde_json::to_vec(&asked).map_err(|e| Error::because(Kind::Internal, e))?;
    let broken =
        |e: std::io::Error| Error::new(Kind::Io, format!("child process: {e}")).caused_by(e);
    child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = child.spawn().map_err(broken)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that has ended says why by its status.
        let _ = std::io::Write::write_all(&mut stdin, &asked);
    }
    // Both are read while it runs: a child waits where a pipe is full.
    let said = child.stdout.take().map(all_of).transpose()?;
    let why = child.stderr.take().map(all_of).transpose()?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(broken)? {
            break status;
        }
        let stopped = crate::stream::go_on();
        if begun.elapsed() > patience || stopped.is_err() {
            child.kill().and_then(|()| child.wait()).map_err(broken)?;
            stopped?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let text = |reader: Option<Reader>| match reader.map(JoinHandle::join) {
        Some(Ok(text)) => text.map_err(broken),
        _ => Ok(String::new()),
    };
    let (said, why) = (text(said)?, text(why)?);
    match status.code() {
        Some(0) => serde_json::from_str(&said)
            .map(Some)
            .map_err(|e| Error::because(Kind::Internal, e)),
        // Killed: by the system, which has no memory left.
        None => Err(Error::memory("the system ended it")),
        Some(code) if code == Kind::Memory as i32 => Err(Error::memory("it ran out of memory")),
        Some(code) => {
            let why = why.lines().last().unwrap_or_default();
            let why = why.strip_prefix("crocuta: error: ").unwrap_or(why);
            Err(Error::model(format!("{bases} bases: code {code}: {why}")))
        }
    }
}

/// The thread that reads one of a child's pipes.
type Reader = JoinHandle<std::io::Result<String>>;

/// Reads a child's pipe to its end, beside what waits for the child.
fn all_of(mut pipe: impl Read + Send + 'static) -> Result<Reader> {
    threads::start(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).map(|_| text)
    })
}

/// What the child process does: reads what is asked for from `input`, and gives what it took as
/// JSON.
///
/// # Errors
/// Those of the model; Usage: something else was asked for.
pub fn child(input: impl Read) -> Result<String> {
    #[cfg(target_os = "linux")]
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    let asked: Asked = serde_json::from_reader(input)
        .map_err(|e| Error::usage("not what a pilot asks").caused_by(e))?;
    let candidate = match &asked.start {
        Start::Sized(_) | Start::Random => {
            let config = Config::new(&asked.name, asked.config);
            Candidate::random(&asked.name, "", config, &asked.directory)?
        }
        Start::Model(path) => Candidate::own(path)?,
    };
    let taken = read(&engine(&candidate, Device::Cpu)?, asked.bases)?;
    serde_json::to_string(&taken).map_err(|e| Error::because(Kind::Internal, e))
}
