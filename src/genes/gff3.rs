//! Genes as GFF3.

use super::gene::Gene;
use crate::error::printable;
use crate::io::gff::encoded;
use crate::sequence::shard::Shard;
use std::io::{self, Write};

/// Writes a `CDS` line for each gene, contig by contig, behind the contig's `##sequence-region`.
///
/// The score is [`Gene::score`]. Attributes: `ID`; `start_type`, the first codon, or `Edge`; and
/// `partial`, `00` for a whole gene, as Prodigal has it: a 1 where the left or the right end of the
/// sequence cuts the gene. Memory: the lines of one contig.
pub struct Writer<W> {
    out: W,
    /// The contig whose lines wait, and which part of it was read.
    waiting: Option<(String, u64, u64)>,
    held: Vec<String>,
    lines: Vec<String>,
    genes: u64,
    /// What an ID begins with, before the gene's number.
    prefix: String,
}

impl<W: Write> Writer<W> {
    /// Begins a file; a comment says what its genes were made with. Those of the files of several
    /// shards have IDs of their own.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W, source: &str, shard: Option<Shard>) -> io::Result<Self> {
        writeln!(out, "##gff-version 3\n#!processor {}", printable(source))?;
        Ok(Self {
            out,
            waiting: None,
            held: Vec::new(),
            lines: Vec::new(),
            genes: 0,
            prefix: match shard {
                Some(shard) => format!("cds_{}of{}_", shard.index, shard.of),
                None => "cds_".to_string(),
            },
        })
    }

    /// Adds a gene of the sequence that [`Writer::end`] ends next.
    pub fn gene(&mut self, contig: &str, gene: &Gene) {
        self.genes += 1;
        let cut_5 = gene.first_codon.is_none();
        let (left, right) = if gene.reverse {
            (!gene.stops, cut_5)
        } else {
            (cut_5, !gene.stops)
        };
        self.lines.push(format!(
            "{}\tcrocuta\tCDS\t{}\t{}\t{:.1}\t{}\t0\tID={}{};partial={}{};start_type={}\n",
            encoded(contig),
            gene.start + 1,
            gene.end,
            gene.score,
            if gene.reverse { '-' } else { '+' },
            self.prefix,
            self.genes,
            u8::from(left),
            u8::from(right),
            gene.first_codon.as_deref().unwrap_or("Edge"),
        ));
    }

    /// Ends a sequence: the bases from `start` to `end` of a contig, or one of several parts of it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn end(&mut self, contig: &str, start: u64, end: u64) -> io::Result<()> {
        match &mut self.waiting {
            Some((same, _, last)) if same == contig => *last = end,
            _ => {
                self.flush()?;
                self.waiting = Some((contig.to_string(), start, end));
            }
        }
        self.held.append(&mut self.lines);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some((contig, start, end)) = self.waiting.take() {
            let contig = encoded(&contig);
            writeln!(self.out, "##sequence-region {contig} {} {end}", start + 1)?;
        }
        for line in self.held.drain(..) {
            self.out.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    /// Genes so far.
    pub fn genes(&self) -> u64 {
        self.genes
    }

    /// What is written to.
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    /// Writes what waits, and gives what was written to.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::gff;

    #[test]
    fn genes_are_read_back() {
        let gene = |start, end, reverse, first_codon: Option<&str>, stops| Gene {
            start,
            end,
            reverse,
            first_codon: first_codon.map(str::to_string),
            stops,
            score: 12.34,
        };
        let shard = Some(Shard { index: 2, of: 3 });
        let mut writer = Writer::new(Vec::new(), "crocuta 0.1", shard).unwrap();
        writer.gene("c 1", &gene(0, 90, false, None, true));
        writer.gene("c 1", &gene(93, 192, true, Some("GTG"), true));
        writer.end("c 1", 0, 195).unwrap();
        writer.gene("c 1", &gene(200, 260, true, None, true));
        writer.end("c 1", 195, 260).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.gff3");
        std::fs::write(&path, writer.finish().unwrap()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(
                "##gff-version 3\n#!processor crocuta 0.1\n##sequence-region c%201 1 260\n"
            ),
            "{text}"
        );
        let found = gff::read(&path).unwrap();
        let spans = found
            .iter()
            .map(|f| (f.region.start, f.region.end, f.reverse, f.phase));
        let expected = [
            (0, 90, false, Some(0)),
            (93, 192, true, Some(0)),
            (200, 260, true, Some(0)),
        ];
        assert_eq!(spans.collect::<Vec<_>>(), expected);
        let attribute = |key| {
            found
                .iter()
                .map(|f| f.attribute(key).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(attribute("ID"), ["cds_2of3_1", "cds_2of3_2", "cds_2of3_3"]);
        assert_eq!(attribute("partial"), ["10", "00", "01"]);
        assert_eq!(attribute("start_type"), ["Edge", "GTG", "Edge"]);
        assert_eq!(found[0].region.contig, "c 1");
    }
}
