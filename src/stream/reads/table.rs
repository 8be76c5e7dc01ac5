//! Rows of reads to tables, and to a BAM file with tags.

use super::rows::Partial;
use super::{Output, Pool, Read, Status};
use crate::error::Result;
use crate::head::PREDICTIONS;
use crate::io::alignments::{Placed, Writer, flag};
use crate::io::atomic::Written;
use crate::io::schema::GROUP_POSITIONS;
use crate::io::table::{Receipt, TableWriter, Values};
use crate::io::vector::Element;
use crate::sequence::{Contig, LETTERS, base};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::collections::HashMap;
use std::sync::Arc;

/// Rows of a row group.
const GROUP: usize = GROUP_POSITIONS as usize;

/// The tags of a scored read in BAM: mean log-probability of a base, and perplexity.
const TAGS: [[u8; 2]; 2] = [*b"ll", *b"pp"];

/// Where reads go.
pub struct ReadSink {
    /// The table of [`crate::io::schema::reads`].
    pub table: TableWriter,
    /// The table of [`crate::io::schema::read_bases`], if it is wanted.
    pub bases: Option<TableWriter>,
    /// The records with tags, if they are wanted.
    pub bam: Option<Writer>,
    /// The contigs that reads are aligned to.
    pub contigs: Vec<Contig>,
    /// The vectors' numbers and how they were pooled; none: no vectors.
    pub embedding: Option<(Element, usize, Pool)>,
    /// Reads were turned round where they are stored reverse-complemented.
    pub sequenced: bool,
    /// Rows of the open group of either table.
    pub rows: [usize; 2],
    /// Rows with numbers that did not fit float16.
    pub clipped: u64,
}

/// What a finished run wrote.
pub struct ReadReceipts {
    /// The table of reads.
    pub table: Receipt,
    /// The table of bases.
    pub bases: Option<Receipt>,
    /// The BAM file.
    pub bam: Option<Written>,
}

impl ReadSink {
    /// Appends what a step gave.
    pub(super) fn write(&mut self, outputs: Vec<Output>) -> Result<()> {
        let mut rows = Vec::new();
        for output in outputs {
            match output {
                Output::Record(read) => {
                    if let Some(bam) = &mut self.bam {
                        bam.write(&read.record, read.record.bytes())?;
                    }
                }
                Output::Row(read, row) => {
                    if let Some(bam) = &mut self.bam {
                        let mean = row.sum / row.scored as f64;
                        let values = [mean as f32, (-mean).exp() as f32];
                        let tags = [(TAGS[0], values[0]), (TAGS[1], values[1])];
                        match row.scored {
                            0 => bam.write(&read.record, read.record.bytes())?,
                            _ => bam.write(&read.record, &read.record.with_tags(&tags))?,
                        }
                    }
                    rows.push((read, row));
                }
                Output::Bases(read, from, codes, predictions) => {
                    self.write_bases(&read, from, &codes, &predictions)?;
                }
            }
        }
        let mut rows = &rows[..];
        while !rows.is_empty() {
            let (now, later) = rows.split_at(rows.len().min(GROUP - self.rows[0]));
            let values = self.values(now);
            self.table.write(values)?;
            self.rows[0] += now.len();
            if self.rows[0] == GROUP {
                self.table.close_group()?;
                self.rows[0] = 0;
            }
            rows = later;
        }
        Ok(())
    }

    fn values(&mut self, rows: &[(Arc<Read>, Partial)]) -> Vec<Values> {
        let of = |f: &dyn Fn(&Read) -> Option<i64>| rows.iter().map(|(read, _)| f(read)).collect();
        let small = |n: u64| i32::try_from(n).unwrap_or(i32::MAX);
        let name = |read: &Read| {
            let name = read.record.name();
            (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
        };
        let at = |read: &Read| match read.placed {
            Placed::At { contig, start, end } => Some((contig, start, end)),
            _ => None,
        };
        let (mut words, mut known) = (Vec::new(), HashMap::new());
        let mut chrom = |contig: usize| {
            *known.entry(contig).or_insert_with(|| {
                words.push(self.contigs[contig].name.clone());
                words.len() as i32 - 1
            })
        };
        let chroms = rows
            .iter()
            .map(|(read, _)| at(read).map(|(contig, ..)| chrom(contig)));
        let chroms = chroms.collect();
        let strand = |read: &Read| at(read).map(|_| i32::from(read.record.has(flag::REVERSE)));
        let mean = |row: &Partial| (row.scored > 0).then(|| row.sum / row.scored as f64);
        let status = |read: &Read| match read.status() {
            Status::Ok => 0,
            Status::NoSequence => 1,
            Status::BadAlignment => 2,
        };
        let mut out = vec![
            Values::I64(rows.iter().map(|(read, _)| read.index).collect()),
            Values::Text(rows.iter().map(|(read, _)| name(read)).collect()),
            Values::U8(rows.iter().map(|(read, _)| read.record.number()).collect()),
            Values::U16(rows.iter().map(|(read, _)| read.record.flag()).collect()),
            Values::OptionalWords {
                codes: chroms,
                words,
            },
            Values::OptionalI64(of(&|read| {
                at(read).map(|(_, start, _)| start.cast_signed())
            })),
            Values::OptionalI64(of(&|read| at(read).map(|(.., end)| end.cast_signed()))),
            Values::OptionalWords {
                codes: rows.iter().map(|(read, _)| strand(read)).collect(),
                words: ["+", "-"].map(str::to_string).to_vec(),
            },
            Values::OptionalU8(
                rows.iter()
                    .map(|(read, _)| at(read).and_then(|_| read.record.mapping_quality()))
                    .collect(),
            ),
            Values::I32(
                rows.iter()
                    .map(|(read, _)| small(read.record.len() as u64))
                    .collect(),
            ),
            Values::I32(rows.iter().map(|(_, row)| small(row.scored)).collect()),
            Values::I32(rows.iter().map(|(_, row)| small(row.ambiguous)).collect()),
            Values::OptionalF64(
                rows.iter()
                    .map(|(_, row)| (row.scored > 0).then_some(row.sum))
                    .collect(),
            ),
            Values::OptionalF32(
                rows.iter()
                    .map(|(_, row)| mean(row).map(|x| x as f32))
                    .collect(),
            ),
            Values::OptionalF32(
                rows.iter()
                    .map(|(_, row)| mean(row).map(|x| (-x).exp() as f32))
                    .collect(),
            ),
        ];
        if let Some((element, dim, pool)) = self.embedding {
            out.push(self.vectors(rows, element, dim, pool));
        }
        out.push(Values::Words {
            codes: rows.iter().map(|(read, _)| status(read)).collect(),
            words: ["ok", "no_sequence", "bad_alignment"]
                .map(str::to_string)
                .to_vec(),
        });
        out
    }

    fn vectors(
        &mut self,
        rows: &[(Arc<Read>, Partial)],
        element: Element,
        dim: usize,
        pool: Pool,
    ) -> Values {
        let present = rows.iter().map(|(_, row)| row.bases > 0).collect();
        let mut values = Vec::with_capacity(rows.len() * dim);
        for (_, row) in rows {
            match row.bases {
                0 => values.extend(std::iter::repeat_n(0.0, dim)),
                _ => values.extend(row.vector(Some(pool))),
            }
        }
        match element {
            Element::F32 => Values::OptionalF32Vectors { values, present },
            Element::F16 => {
                let largest = f16::MAX.to_f32();
                for row in values.chunks_mut(dim) {
                    if row.iter().any(|x| x.abs() > largest) {
                        row.iter_mut().for_each(|x| *x = x.clamp(-largest, largest));
                        self.clipped += 1;
                    }
                }
                let mut halves = vec![f16::ZERO; values.len()];
                halves.convert_from_f32_slice(&values);
                let values = halves;
                Values::OptionalF16Vectors { values, present }
            }
        }
    }

    fn write_bases(
        &mut self,
        read: &Read,
        from: usize,
        codes: &[u8],
        predictions: &[f32],
    ) -> Result<()> {
        let Some(table) = &mut self.bases else {
            return Ok(());
        };
        let record = &read.record;
        let turned = self.sequenced && record.has(flag::REVERSE);
        // The base as stored that is the read's base `i`.
        let stored = |i: usize| if turned { record.len() - 1 - i } else { i };
        let positions = read.positions.get_or_init(|| match read.placed {
            Placed::At { .. } => record.reference_positions(),
            _ => vec![None; record.len()],
        });
        let mut done = 0;
        while done < codes.len() {
            let now = (codes.len() - done).min(GROUP - self.rows[1]);
            let range = from + done..from + done + now;
            let position = |i: usize| positions[stored(i)].map(u64::cast_signed);
            let quality = |i: usize| Some(record.qualities()[stored(i)]).filter(|&q| q != 255);
            let mut values = vec![
                Values::I64(vec![read.index; now]),
                Values::I32(
                    range
                        .clone()
                        .map(|i| i32::try_from(i).unwrap_or(i32::MAX))
                        .collect(),
                ),
                Values::OptionalI64(range.clone().map(position).collect()),
                Values::Words {
                    codes: codes[done..done + now]
                        .iter()
                        .map(|&code| i32::from(base(code)))
                        .collect(),
                    words: LETTERS.map(str::to_string).to_vec(),
                },
                Values::OptionalU8(range.map(quality).collect()),
            ];
            let rows = &predictions[done * PREDICTIONS..(done + now) * PREDICTIONS];
            for column in 0..PREDICTIONS {
                let column = rows.iter().skip(column).step_by(PREDICTIONS);
                let known = |x: &f32| (!x.is_nan()).then_some(*x);
                values.push(Values::OptionalF32(column.map(known).collect()));
            }
            table.write(values)?;
            self.rows[1] += now;
            if self.rows[1] == GROUP {
                table.close_group()?;
                self.rows[1] = 0;
            }
            done += now;
        }
        Ok(())
    }

    /// Closes the files: the table of reads last. `footer` is that of each table, by its name.
    pub fn finish(
        self,
        footer: impl Fn(&str) -> Result<serde_json::Value>,
    ) -> Result<ReadReceipts> {
        let bam = self.bam.map(Writer::finish).transpose()?;
        let bases = match self.bases {
            Some(table) => Some(table.finish(&footer("read_bases")?)?),
            None => None,
        };
        let table = self.table.finish(&footer("reads")?)?;
        Ok(ReadReceipts { table, bases, bam })
    }
}
