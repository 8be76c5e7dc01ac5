//! Where a model runs: the choice, and how many bases fit there at a time.

use super::libraries;
use super::options::{Compute, Precision, Target};
use super::units::readable;
use crate::encoder::{Encoder, Facts, Segment};
use crate::error::{Error, Kind, Result};
use crate::ops::cuda::{self, Gpu};
use crate::ops::{Device, rounds_on_cpu};
use crate::stream::Engine;

/// Bases of a step whose vectors leave the GPU, at most. They take much longer than the step: of
/// large-1m's steps of 3 Mb a table is written at 290,000 bases a second in 10 GB of memory, of these
/// at 440,000 in 2 GB.
const VECTORS: usize = 1 << 16;

/// Steps of a trial at most.
const TRIAL: usize = 32;

/// Opens the device that was asked for, and others besides it. `on_cpu`: why this run cannot be on a GPU,
/// if it cannot.
///
/// # Errors
/// Usage: there is no such GPU, the model has layers that do not run on one, or the processor cannot
/// compute in this precision.
pub fn open(
    compute: &Compute,
    facts: &Facts,
    on_cpu: Option<&str>,
) -> Result<(Device, Vec<Device>)> {
    let layers = if facts.pretrained {
        "published Transformers run on the CPU"
    } else {
        "the model has layers that do not run on the GPU yet"
    };
    let without = on_cpu.or((!facts.runs_on_gpu).then_some(layers));
    let opened = open_unless(
        without,
        &compute.device,
        compute.precision,
        compute.device_memory,
    )?;
    if compute.precision == Precision::Bf16 && matches!(opened.0, Device::Cpu) {
        let why_not = if facts.pretrained {
            Some("published Transformers compute in f32")
        } else if rounds_on_cpu() {
            None
        } else {
            Some("it takes a processor with AVX-512 BF16 (avx512_bf16), which this one lacks")
        };
        if let Some(why) = why_not {
            let error = Error::usage(format!("--precision bf16 on the CPU: {why}"));
            return Err(error.todo("compute in f32, or on a GPU (--device cuda)"));
        }
    }
    Ok(opened)
}

/// The same for work that a GPU can do unless `without` says why not; on the CPU whatever the
/// precision. `memory`: bytes that values may take on a GPU.
///
/// # Errors
/// Usage: there is no such GPU, or `without`.
pub fn open_unless(
    without: Option<&str>,
    target: &Target,
    precision: Precision,
    memory: Option<u64>,
) -> Result<(Device, Vec<Device>)> {
    if *target != Target::Cpu {
        libraries::open_with_driver();
    }
    let gpu = |ordinal| {
        let gpu = Gpu::open(ordinal, precision == Precision::Bf16)?;
        if let Some(memory) = memory {
            gpu.limit_memory(usize::try_from(memory).unwrap_or(usize::MAX));
        }
        Ok(Device::Cuda(gpu))
    };
    let numbers = match (target, without) {
        (Target::Cuda(_) | Target::AllGpus, Some(why)) => {
            return Err(Error::usage(why).todo("run with --device cpu"));
        }
        (Target::Cuda(numbers), None) => numbers.clone(),
        (Target::AllGpus, None) => (0..cuda::devices()?.len()).collect(),
        (Target::Auto, None) if cuda::devices().is_ok_and(|all| !all.is_empty()) => vec![0],
        (Target::Auto | Target::Cpu, _) => Vec::new(),
    };
    if let Some((first, others)) = numbers.split_first() {
        let others = others.iter().map(|&number| gpu(number));
        return Ok((gpu(*first)?, others.collect::<Result<_>>()?));
    }
    Ok((Device::Cpu, Vec::new()))
}

/// [`open_unless`], for training; with the name of the first device and the precision.
///
/// # Errors
/// As [`open_unless`]; Usage: the precision is the GPU's alone.
pub fn open_with_names(
    without: Option<&str>,
    target: &Target,
    precision: Precision,
) -> Result<(Vec<Device>, [String; 2])> {
    let (device, others) = open_unless(without, target, precision, None)?;
    if precision == Precision::Bf16 && matches!(device, Device::Cpu) {
        let what = "training in bf16 is for GPUs, and the run is on the CPU";
        return Err(Error::usage(what).todo("leave out --precision"));
    }
    let name = match &device {
        Device::Cpu => "CPU".to_string(),
        Device::Cuda(gpu) => gpu.name().to_string(),
    };
    let precision = match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    };
    let devices = std::iter::once(device).chain(others).collect();
    Ok((devices, [name, precision.to_string()]))
}

/// Devices in words, and as tables and summaries name them.
pub fn describe<'a>(devices: impl IntoIterator<Item = &'a Device>) -> (String, &'static str) {
    let (mut all, mut kind) = (Vec::new(), "cpu");
    for device in devices {
        all.push(match device {
            Device::Cpu => match rayon::current_num_threads() {
                1 => "the CPU, 1 thread".to_string(),
                threads => format!("the CPU, {threads} threads"),
            },
            Device::Cuda(gpu) => {
                kind = "cuda";
                format!("{}, {}", device.name(), gpu.name())
            }
        });
    }
    (all.join("; "), kind)
}

/// What a run does with a device.
#[derive(Clone, Copy)]
pub struct Load {
    /// Bases of the input, if known.
    pub bases: Option<u64>,
    /// A vector of each base leaves the device.
    pub vectors: bool,
}

/// Bases of a step. On a GPU, as many as fit its memory: a trial step says so, halved until it
/// does, and what it compiled and planned is kept for the run.
///
/// # Errors
/// Memory: not even 1,024 bases fit.
pub fn chunk(asked: Option<u32>, engine: &Engine, load: Load) -> Result<usize> {
    let facts = &engine.facts;
    let Device::Cuda(gpu) = &engine.device else {
        return Ok(asked.map_or(facts.cpu_step, |chunk| chunk as usize));
    };
    let longest = if load.vectors { VECTORS } else { usize::MAX };
    let longest = facts.longest_gpu_step(load.bases).min(longest);
    let most = asked.map_or(longest, |chunk| chunk as usize);
    let mut chunk = most;
    loop {
        match trial(chunk, engine).and_then(|()| gpu.synchronize()) {
            Ok(()) => break,
            Err(error) if error.kind() == Kind::Memory && chunk >= 2048 => {
                gpu.forget()?;
                chunk /= 2;
            }
            Err(error) => return Err(error),
        }
    }
    if chunk < most {
        let total = readable(gpu.memory()?.1 as u64);
        tracing::warn!("steps of {chunk} bases instead of {most}: those fit the GPU's {total}");
    }
    gpu.trim()?;
    gpu.forget_peak()?;
    Ok(chunk)
}

/// Steps of a sequence: from the second on, a state is carried in and out, which grows until it
/// has seen as much as the model looks back.
fn trial(len: usize, engine: &Engine) -> Result<()> {
    let facts = &engine.facts;
    let mut state = engine.model.start(1)?;
    let steps = facts.context.unwrap_or(0).div_ceil(len) + 1;
    for step in 0..steps.clamp(2, TRIAL) {
        let segment = Segment {
            lane: 0,
            len,
            starts: step == 0 || !facts.causal,
            ends: !facts.causal,
        };
        engine.vectors(tokens(len, facts), &[segment], &mut state)?;
    }
    Ok(())
}

/// Tokens of bases, for trials.
pub fn tokens(len: usize, facts: &Facts) -> Vec<u32> {
    let tokens = (0..len).map(|i| facts.vocabulary.token((i * i % 4) as u8));
    tokens.collect()
}
