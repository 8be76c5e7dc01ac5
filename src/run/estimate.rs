//! What a run will take: rows, bytes, memory, time.

use super::device::tokens;
use super::memory::available_memory;
use super::units::{number, readable};
use crate::encoder::{Encoder, Segment};
use crate::error::{Error, Result};
use crate::io::table_writer::ColumnSpec;
use crate::ops::Device;
use crate::stream::Engine;
use crate::table::{Column, GROUP_POSITIONS, specs};
use std::fmt;
use std::time::Instant;

/// Bytes of names and lengths of a contig, of which several lists are kept.
const CONTIG: u64 = 512;

/// Bytes that the program takes before it has read anything (measured).
const PROGRAM: u64 = 16 << 20;

/// An estimate of a run, before it starts.
#[derive(Clone, Debug, Default)]
pub struct Estimate {
    /// Bases that are read; none if the input does not tell.
    pub bases: Option<u64>,
    /// Rows of the table.
    pub rows: Option<u64>,
    /// Bytes of a row in the file; 0 where there is no table.
    pub row_bytes: u64,
    /// Tokens of a step.
    pub chunk: u64,
    /// Bytes that the run takes besides the loaded weights and its row groups.
    pub fixed: u64,
    /// Bytes of a row of the open row group.
    pub held: u64,
    /// Bytes of scratch files for a base of the longest sequence, with --exact; else 0.
    pub scratch: u64,
    /// The columns of the table.
    pub columns: Vec<ColumnSpec>,
    /// Bases through the encoder a second, if that was measured.
    pub speed: Option<f64>,
}

impl Estimate {
    /// Of a run in steps of so many tokens that reads `bases` of an input with so many contigs into
    /// a table of these columns, in rows of `bin` bases.
    pub fn new<B>(
        engine: &Engine,
        tokens: u64,
        columns: &[Column<B>],
        bases: Option<u64>,
        contigs: u64,
        bin: u64,
    ) -> Self {
        let memory = match engine.device {
            Device::Cpu => Self::on_cpu(engine, tokens, bases, columns),
            Device::Cuda(_) => {
                let rows = tokens.div_ceil(bin) + 1;
                Self::beside_gpu(engine, tokens, rows, columns)
            }
        };
        Self {
            bases,
            rows: None,
            row_bytes: Self::row_bytes(columns),
            chunk: tokens,
            fixed: memory + contigs * CONTIG,
            // The open group, two that are encoded, raw and compressed, and one that is written.
            held: 6 * raw_bytes(columns),
            scratch: 0,
            columns: specs(columns),
            speed: None,
        }
    }

    /// The same where rows go to other files alone.
    pub fn without_table(&mut self) {
        self.row_bytes = 0;
        self.columns.clear();
    }

    /// Bytes that the run takes besides the loaded weights: a row group holds no more rows than
    /// there are.
    pub fn memory(&self) -> u64 {
        let rows = self.rows.unwrap_or(GROUP_POSITIONS).min(GROUP_POSITIONS);
        self.fixed + rows * self.held
    }

    /// Bytes of a row as stored.
    fn row_bytes<B>(columns: &[Column<B>]) -> u64 {
        let bytes = columns.iter().map(|column| column.spec.kind.stored());
        (bytes.sum::<f64>().ceil() as u64).max(1)
    }

    /// Bytes of state, spectra, activations, and of rows on their way to the row group.
    ///
    /// `bases`: of the input, if known; a state that grows with the sequence is counted as far as
    /// that.
    fn on_cpu<B>(engine: &Engine, chunk: u64, bases: Option<u64>, columns: &[Column<B>]) -> u64 {
        let facts = &engine.facts;
        let vectors = raw_bytes(columns);
        let chunk = bases.map_or(chunk, |bases| chunk.min(bases));
        let (width, layers) = (facts.width as u64 * 4, engine.layers.len() as u64);
        // At the widest point of a layer about 16 vectors a token are alive, and those of the layers
        // before it that are asked for; five batches of rows wait or are at work.
        let activations = chunk * width * (15 + layers);
        let rows = chunk * (width * layers + vectors) * 5 / 2;
        let grown = facts.token_bytes as u64 * bases.unwrap_or_default();
        let kept = (facts.state_bytes + facts.kept_bytes) as u64;
        kept + grown + activations + rows + PROGRAM
    }

    /// The same in memory when state and activations are a GPU's: `rows` of a step on their way,
    /// and what CUDA's libraries take (0.6 GB, an estimate).
    fn beside_gpu<B>(engine: &Engine, chunk: u64, rows: u64, columns: &[Column<B>]) -> u64 {
        let vectors = raw_bytes(columns);
        let values = (engine.facts.width * engine.layers.len()) as u64 * 4;
        let rows = rows * (values + vectors) * 3;
        rows + chunk * 64 + (1 << 30)
    }

    /// Refuses to start a run that would not fit.
    ///
    /// # Errors
    /// Memory.
    pub fn check_memory(&self) -> Result<()> {
        match available_memory() {
            Some(available) if self.memory() > available => Err(Error::memory(format!(
                "the run needs about {}, and {} are available",
                readable(self.memory()),
                readable(available)
            ))
            .todo("give it more memory, a smaller --chunk, or a model with a shorter context")),
            _ => Ok(()),
        }
    }

    /// Refuses to start a run whose table would be larger than `largest`.
    ///
    /// # Errors
    /// Usage.
    pub fn check_output(&self, largest: Option<u64>) -> Result<()> {
        match (largest, self.rows) {
            (Some(largest), Some(rows)) if rows.saturating_mul(self.row_bytes) > largest => {
                Err(Error::usage(format!(
                    "the table would take about {}, more than --max-output {}",
                    readable(rows * self.row_bytes),
                    readable(largest)
                ))
                .todo("use --bin, --region, --dtype f16, or allow more"))
            }
            _ => Ok(()),
        }
    }

    /// Bases through the encoder a second, by running one step: of all devices together, as far as
    /// each has work.
    ///
    /// # Errors
    /// Those of the encoder.
    pub fn measure<'a>(&self, engines: impl Iterator<Item = &'a Engine>) -> Result<f64> {
        engines.map(|engine| self.measure_on(engine)).sum()
    }

    fn measure_on(&self, engine: &Engine) -> Result<f64> {
        // On a GPU a step's length decides its speed.
        let longest = match engine.device {
            Device::Cpu => 8192,
            Device::Cuda(_) => self.chunk,
        };
        let mut len = self.chunk.min(longest) as usize;
        let mut state = engine.model.start(1)?;
        let streams = engine.facts.streams();
        if engine.facts.pretrained {
            len = len.min(engine.facts.context.unwrap_or(len));
        }
        let mut step = |starts| {
            let segment = Segment {
                lane: 0,
                len,
                starts,
                ends: !streams,
            };
            engine.forward(tokens(len, &engine.facts), &[segment], &mut state)?;
            engine.device.synchronize()
        };
        // The first call computes what is kept for the later ones.
        step(true)?;
        let start = Instant::now();
        step(!streams)?;
        Ok(len as f64 / start.elapsed().as_secs_f64())
    }

    /// What --exact takes of the disk: at most as much as if all bases were one sequence's.
    fn disk(&self) -> Option<String> {
        let each = format!("{} B for a base of the longest sequence", self.scratch);
        let disk = match self.bases {
            Some(bases) => format!("at most {}, {each}", readable(bases * self.scratch)),
            None => each,
        };
        (self.scratch > 0).then_some(disk)
    }

    /// The estimate in lines of `name: value`.
    pub fn describe(&self, speed: f64) -> String {
        let unknown = || "unknown before the input is read".to_string();
        let shown = |x: Option<u64>| x.map_or_else(unknown, |x| x.to_string());
        let size = match (self.rows, self.row_bytes) {
            (_, 0) => Some("no table".to_string()),
            (rows, each) => rows.map(|rows| readable(rows * each)),
        };
        let time = self
            .bases
            .map(|bases| format!("{:.0} s", bases as f64 / speed));
        format!(
            "bases through the encoder: {}\nrows: {}\noutput: {}\nmemory besides the weights: {}\n\
             speed: {speed:.0} bases a second\ntime: {}\n{}",
            shown(self.bases),
            shown(self.rows),
            size.unwrap_or_else(unknown),
            readable(self.memory()),
            time.unwrap_or_else(unknown),
            self.disk()
                .map_or_else(String::new, |disk| format!("scratch files: {disk}\n")),
        )
    }
}

/// Bytes of a row in memory.
fn raw_bytes<B>(columns: &[Column<B>]) -> u64 {
    columns.iter().map(|column| column.spec.kind.memory()).sum()
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rows {
            _ if self.row_bytes == 0 => write!(f, "no table")?,
            Some(rows) => {
                let bytes = readable(rows * self.row_bytes);
                write!(f, "about {} rows, {bytes}", number(rows))?;
            }
            None => write!(f, "{} a row", readable(self.row_bytes))?,
        }
        write!(f, ", memory about {}", readable(self.memory()))?;
        match self.disk() {
            Some(disk) => write!(f, ", scratch files: {disk}"),
            None => Ok(()),
        }
    }
}
