//! What else than a table a head's probabilities are written to: genes, regions and tracks.

use super::values::ValueTrack;
use crate::error::{Error, Result, printable};
use crate::genes::{Finder, GeneticCode};
use crate::io::atomic::AtomicFile;
use crate::sequence::Contig;
use crate::sequence::shard::Shard;
use crate::table::{Batch, Positions};
use std::io::{BufWriter, Write};

/// Files beside the table, or instead of it. Rows come in the order of the reference; for genes and
/// regions, one a base.
#[derive(Default)]
pub struct Tracks {
    /// Genes, put together of a gene head's probabilities.
    pub genes: Option<Genes>,
    /// Runs of bases of a class.
    pub regions: Option<Regions>,
    /// Numbers of the rows.
    pub values: Vec<ValueTrack>,
    current: Option<Current>,
}

/// The sequence that is being read.
struct Current {
    contig: String,
    start: i64,
    end: i64,
}

/// A file of genes.
pub struct Genes(Finder<BufWriter<AtomicFile>>);

/// A file of regions.
pub struct Regions {
    out: BufWriter<AtomicFile>,
    names: Vec<String>,
    threshold: f32,
    /// For each output the open run: its start, and the sum of its values.
    open: Vec<Option<(i64, f64)>>,
}

impl Genes {
    /// Writes GFF3 to `target`; `source`: what the genes were made with; `shard`: whose they are.
    ///
    /// # Errors
    /// Io.
    pub fn create(
        target: AtomicFile,
        code: GeneticCode,
        source: &str,
        shard: Option<Shard>,
    ) -> Result<Self> {
        let name = target.name().to_path_buf();
        let finder = Finder::new(BufWriter::new(target), code, source, shard);
        finder.map(Self).map_err(|e| Error::io(&name, &e))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::io(self.0.get_ref().get_ref().name(), error)
    }
}

impl Regions {
    /// Writes BED to `target`: runs of bases whose value is at least `threshold`, with the output's
    /// name and 1000 times the mean value.
    /// The first line, a comment, says what they were made with: `source`.
    ///
    /// # Errors
    /// Io.
    pub fn create(
        target: AtomicFile,
        names: &[String],
        threshold: f32,
        source: &str,
    ) -> Result<Self> {
        let mut out = BufWriter::new(target);
        let written = writeln!(out, "# {}", printable(source));
        written.map_err(|e| Error::io(out.get_ref().name(), &e))?;
        Ok(Self {
            out,
            names: names.to_vec(),
            threshold,
            open: vec![None; names.len()],
        })
    }

    fn push(&mut self, contig: &str, position: i64, values: &[f32]) -> std::io::Result<()> {
        for (class, value) in values.iter().enumerate() {
            match (&mut self.open[class], *value >= self.threshold) {
                (None, false) => {}
                (open @ None, true) => *open = Some((position, f64::from(*value))),
                (Some((_, sum)), true) => *sum += f64::from(*value),
                (Some(_), false) => self.close(contig, class, position)?,
            }
        }
        Ok(())
    }

    fn close(&mut self, contig: &str, class: usize, end: i64) -> std::io::Result<()> {
        let Some((start, sum)) = self.open[class].take() else {
            return Ok(());
        };
        let score = (1000.0 * sum / (end - start) as f64)
            .clamp(0.0, 1000.0)
            .round();
        let name = &self.names[class];
        writeln!(self.out, "{contig}\t{start}\t{end}\t{name}\t{score}\t.")
    }
}

impl Tracks {
    /// Takes rows.
    pub(super) fn write(&mut self, block: &Positions) -> Result<()> {
        for track in &mut self.values {
            track.write(block)?;
        }
        if self.genes.is_none() && self.regions.is_none() || block.is_empty() {
            return Ok(());
        }
        let width = block.values.len() / block.len();
        for (i, row) in block.values.chunks_exact(width).enumerate() {
            let position = block.starts[i];
            let follows =
                |current: &Current| *current.contig == *block.name && current.end == position;
            if !self.current.as_ref().is_some_and(follows) {
                self.end()?;
                self.begin(&block.name, position)?;
            }
            if let Some(current) = &mut self.current {
                current.end = position + 1;
            }
            if let Some(genes) = &mut self.genes
                && let Some(row) = row.first_chunk()
            {
                let pushed = genes.0.push(&block.name, block.bases[i], row);
                pushed.map_err(|e| genes.failed(&e))?;
            }
            if let Some(regions) = &mut self.regions {
                let written = regions.push(&block.name, position, row);
                written.map_err(|e| Error::io(regions.out.get_ref().name(), &e))?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, contig: &str, start: i64) -> Result<()> {
        if let Some(genes) = &mut self.genes {
            genes.0.begin(contig, start.cast_unsigned());
        }
        self.current = Some(Current {
            contig: contig.to_string(),
            start,
            end: start,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let Some(Current { contig, start, end }) = self.current.take() else {
            return Ok(());
        };
        if let Some(genes) = &mut self.genes {
            let (start, end) = (start.cast_unsigned(), end.cast_unsigned());
            let ended = genes.0.end(&contig, start, end);
            ended.map_err(|e| genes.failed(&e))?;
        }
        if let Some(regions) = &mut self.regions {
            for class in 0..regions.names.len() {
                let written = regions.close(&contig, class, end);
                written.map_err(|e| Error::io(regions.out.get_ref().name(), &e))?;
            }
        }
        Ok(())
    }

    /// Ends the files, and gives the number of genes, if they are written; `contigs`: those whose
    /// lengths are known.
    ///
    /// # Errors
    /// Io.
    pub fn finish(mut self, contigs: &[Contig]) -> Result<Option<u64>> {
        self.end()?;
        let close = |out: BufWriter<AtomicFile>| -> Result<()> {
            let name = out.get_ref().name().to_path_buf();
            let file = out.into_inner().map_err(|e| Error::io(&name, e.error()))?;
            file.finish().map(drop)
        };
        let mut found = None;
        if let Some(genes) = self.genes {
            let name = genes.0.get_ref().get_ref().name().to_path_buf();
            let (out, count) = genes.0.finish().map_err(|e| Error::io(&name, &e))?;
            close(out)?;
            found = Some(count);
        }
        if let Some(regions) = self.regions {
            close(regions.out)?;
        }
        for track in self.values {
            track.finish(contigs)?;
        }
        Ok(found)
    }
}
