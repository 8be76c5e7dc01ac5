//! The user's data: what is learned from it, and what is held out.

use super::Request;
use crate::error::Result;
use crate::head::Shape;
use crate::sequence::Contig;
use crate::sequence::region::{Query, Region};
use crate::train::{Genomes, Lesson, Material, Reading, Select, Tracking};

/// The part that is held out: one in so many bases, or sequences.
const PART: u64 = 10;
/// Windows that an evaluation reads: one for each minute of the budget, within these.
const WINDOWS: [u64; 2] = [8, 64];

/// What candidates learn, and from what.
pub struct Data {
    /// What is learned.
    pub lesson: Lesson,
    /// What was read.
    pub material: Material,
    /// Bases that a candidate reads at a time in training.
    pub length: u64,
    /// What is held out, in words.
    pub held_out: String,
}

impl Data {
    /// Reads what was asked for.
    ///
    /// # Errors
    /// Those of the files.
    pub fn read(request: &Request) -> Result<Self> {
        if let Some(table) = &request.table {
            let lesson = Lesson::Sequences {
                table: table.clone(),
                validate: request.validate_table.clone(),
                test: None,
                values: false,
                reading: Reading::Mean(None),
                select: Select::Loss,
            };
            let mut material = Material::read(&lesson, &[Vec::new(), Vec::new()], false)?;
            material.hold_out(PART);
            let held_out = match &request.validate_table {
                Some(path) => format!("the sequences of {}", path.display()),
                None => format!("about one in {PART} sequences, with their copies"),
            };
            return Ok(Self {
                lesson,
                material,
                length: request.length,
                held_out,
            });
        }
        let fasta: Vec<_> = request.fasta.iter().cloned().collect();
        let contigs = Genomes::read(&fasta)?.contigs;
        let minutes = request.budget.as_secs() / 60;
        let windows = minutes.clamp(WINDOWS[0], WINDOWS[1]);
        let (held, length) = held_out(&contigs, request.length);
        let held_out = format!("{held}, in windows of {length} bases");
        let held_back = cut(&held, length, windows);
        let lesson = if request.labels.is_empty() {
            Lesson::NextBase {
                fasta,
                corrupt: 0.0,
            }
        } else {
            Lesson::Tracks(Tracking {
                fasta,
                labels: request.labels.clone(),
                features: request.features.clone(),
                genes: false,
                shape: Shape::Linear,
                both_strands: false,
                balanced: false,
            })
        };
        let queries = held_back.map(|part| part.into_iter().map(Query::exact).collect());
        Ok(Self {
            material: Material::read(&lesson, &queries, false)?,
            lesson,
            length,
            held_out,
        })
    }
}

/// What is held out of these contigs: the one whose length is nearest to a part in [`PART`] of all,
/// if it is no more than a fifth; else the end of the longest one. And the length of windows, which is
/// less than `length` where there is not so much.
fn held_out(contigs: &[Contig], length: u64) -> (Region, u64) {
    let all: u64 = contigs.iter().map(|contig| contig.length).sum();
    let part = (all / PART).max(2);
    let off = |contig: &&Contig| contig.length.abs_diff(part);
    let fits = |contig: &&Contig| contig.length * 5 <= all && contig.length * 2 > part;
    let whole = contigs.iter().filter(fits).min_by_key(off);
    let longest = contigs.iter().max_by_key(|contig| contig.length);
    let region = match (whole, longest) {
        (Some(contig), _) => Region {
            contig: contig.name.clone(),
            start: 0,
            end: contig.length,
        },
        (None, Some(contig)) => Region {
            contig: contig.name.clone(),
            start: contig.length - part.min(contig.length / 3),
            end: contig.length,
        },
        (None, None) => Region {
            contig: String::new(),
            start: 0,
            end: 0,
        },
    };
    // Two windows at least.
    let length = length
        .min(((region.end - region.start) / 2).saturating_sub(1))
        .max(2);
    (region, length)
}

/// Windows of a region at equal distances, each read from an empty state; and what lies between
/// them, which is not trained on either.
fn cut(region: &Region, length: u64, windows: u64) -> [Vec<Region>; 2] {
    let room = region.end - region.start;
    let windows = windows.min(room / (length + 1)).max(1);
    let part = |start: u64, end: u64| Region {
        contig: region.contig.clone(),
        start,
        end,
    };
    let stride = room / windows;
    let starts = (0..windows).map(|i| region.start + i * stride);
    let (mut read, mut between) = (Vec::new(), Vec::new());
    for start in starts {
        let end = (start + length).min(region.end);
        let next = (start + stride).min(region.end);
        read.push(part(start, end));
        if end < next {
            between.push(part(end, next));
        }
    }
    if let Some(last) = between.last_mut() {
        last.end = region.end;
    }
    [read, between]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contigs(lengths: &[u64]) -> Vec<Contig> {
        let contig = |(i, length): (usize, &u64)| Contig {
            name: format!("c{i}"),
            length: *length,
        };
        lengths.iter().enumerate().map(contig).collect()
    }

    #[test]
    fn a_tenth_is_held_out_as_a_contig_or_the_end_of_one() {
        let region = |lengths: &[u64]| held_out(&contigs(lengths), 100);
        assert_eq!(region(&[10_000]).0.to_string(), "c0:9001-10000");
        assert_eq!(region(&[6000, 900, 3000]).0.to_string(), "c1:1-900");
        assert_eq!(region(&[6000, 5000, 4000]).0.to_string(), "c0:4501-6000");
        assert_eq!(region(&[10_000]).1, 100);
        assert_eq!(region(&[300]).1, 14);
    }

    #[test]
    fn windows_do_not_touch_and_all_between_them_is_held_out_too() {
        let region = Region {
            contig: "c".to_string(),
            start: 1000,
            end: 2003,
        };
        for (length, windows) in [(100, 4), (100, 100), (500, 2), (501, 9), (7, 3)] {
            let [read, between] = cut(&region, length, windows);
            let mut all = [read.clone(), between].concat();
            all.sort_by_key(|part| part.start);
            assert_eq!((all[0].start, all[all.len() - 1].end), (1000, 2003));
            assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(read.iter().all(|part| part.end - part.start == length));
            assert!(read.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
