//! The user's data: what is learned from it, and what is held out.

use super::Request;
use crate::error::Result;
use crate::head::Shape;
use crate::sequence::Contig;
use crate::sequence::region::{Query, Region, Span, merge};
use crate::train::{Genomes, Labels, Lesson, Material, Reading, Select, Tracking};

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
        let genomes = Genomes::read(&fasta)?;
        let contigs = &genomes.contigs;
        let minutes = request.budget.as_secs() / 60;
        let windows = minutes.clamp(WINDOWS[0], WINDOWS[1]);
        let (held, length) = held_out(contigs, request.length);
        let mut held_back = cut(&held, length, &even(&held, length, windows));
        let mut held_out = format!("{held}, in windows of {length} bases");
        let lesson = if request.labels.is_empty() {
            Lesson::NextBase {
                fasta,
                corrupt: 0.0,
            }
        } else {
            let labels = Labels::read(&request.labels, &request.features, &genomes)?;
            let marked = labels.marked();
            let starts = marked_windows(&held, length, windows, &within(&held, contigs, &marked));
            // Of values, and of what is too rare to measure, all is read.
            if starts.len() > 1 {
                held_back = cut(&held, length, &starts);
                held_back[1].extend(far(&marked, length, contigs, &held));
                held_out = format!(
                    "{held}, in {} windows of {length} bases that have labels; trained on are bases \
                     that are no farther than {length} from one",
                    starts.len()
                );
            }
            Lesson::Tracks(Tracking {
                fasta,
                labels: request.labels.clone(),
                features: request.features.clone(),
                genes: false,
                shape: Shape::Linear,
                both_strands: false,
                balanced: true,
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

/// Where windows of a region begin that lie at equal distances and do not touch.
fn even(region: &Region, length: u64, windows: u64) -> Vec<u64> {
    let room = region.end - region.start;
    let windows = windows.min(room / (length + 1)).max(1);
    let stride = room / windows;
    (0..windows).map(|i| region.start + i * stride).collect()
}

/// Those of all windows that a marked base lies in, or so many of them at equal distances.
fn marked_windows(region: &Region, length: u64, windows: u64, marked: &[[u64; 2]]) -> Vec<u64> {
    let room = region.end - region.start;
    let all = even(region, length, room);
    let next = |at: u64| marked.partition_point(|[_, end]| *end <= at);
    let holds = |start: &u64| {
        let first = marked.get(next(*start));
        first.is_some_and(|[from, _]| *from < start + length)
    };
    let all: Vec<u64> = all.into_iter().filter(holds).collect();
    let count = (windows as usize).min(all.len());
    (0..count).map(|i| all[i * all.len() / count]).collect()
}

/// The ends of spans on the contig of a region.
fn within(region: &Region, contigs: &[Contig], spans: &[Span]) -> Vec<[u64; 2]> {
    let here = |span: &&Span| contigs[span.contig].name == region.contig;
    let spans = spans.iter().filter(here);
    spans.map(|span| [span.start, span.end]).collect()
}

/// What is farther than `length` from all marked bases, outside the region that is held out.
fn far(marked: &[Span], length: u64, contigs: &[Contig], held: &Region) -> Vec<Region> {
    let mut near: Vec<Span> = marked
        .iter()
        .map(|span| Span {
            start: span.start.saturating_sub(length),
            end: (span.end + length).min(contigs[span.contig].length),
            ..*span
        })
        .collect();
    near.extend(contigs.iter().enumerate().filter_map(|(contig, found)| {
        let (start, end) = (held.start, held.end);
        (found.name == held.contig).then_some(Span { contig, start, end })
    }));
    merge(&mut near);
    let mut between = Vec::new();
    for (place, contig) in contigs.iter().enumerate() {
        let mut from = 0;
        let here = near.iter().filter(|span| span.contig == place);
        let ends = here.map(|span| [span.start, span.end]);
        for [start, end] in ends.chain([[contig.length; 2]]) {
            if from < start {
                between.push(Region {
                    contig: contig.name.clone(),
                    start: from,
                    end: start,
                });
            }
            from = end;
        }
    }
    between
}

/// Windows of a region, each read from an empty state; and what lies between them, which is not
/// trained on either.
fn cut(region: &Region, length: u64, starts: &[u64]) -> [Vec<Region>; 2] {
    let part = |start: u64, end: u64| Region {
        contig: region.contig.clone(),
        start,
        end,
    };
    let (mut read, mut between) = (Vec::new(), Vec::new());
    let mut from = region.start;
    for &start in starts {
        if from < start {
            between.push(part(from, start));
        }
        from = (start + length).min(region.end);
        read.push(part(start, from));
    }
    if from < region.end {
        between.push(part(from, region.end));
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
            let [read, between] = cut(&region, length, &even(&region, length, windows));
            let mut all = [read.clone(), between].concat();
            all.sort_by_key(|part| part.start);
            assert_eq!((all[0].start, all[all.len() - 1].end), (1000, 2003));
            assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(read.iter().all(|part| part.end - part.start == length));
            assert!(read.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }

    #[test]
    fn rare_labels_choose_the_windows_that_are_read_and_what_is_trained_on() {
        let held = Region {
            contig: "c0".to_string(),
            start: 1000,
            end: 2000,
        };
        let contigs = contigs(&[2000, 500]);
        let span = |contig, start, end| Span { contig, start, end };
        let marked = [
            span(0, 300, 301),
            span(0, 950, 960),
            span(0, 1150, 1151),
            span(0, 1560, 1561),
            span(1, 1, 2),
        ];
        let inside = within(&held, &contigs, &marked);
        assert_eq!(inside.len(), 4);
        let starts = marked_windows(&held, 100, 8, &inside);
        assert_eq!(starts.len(), 2);
        for (start, at) in starts.iter().zip([1150, 1560]) {
            assert!((*start..start + 100).contains(&at), "{starts:?}");
        }
        assert_eq!(marked_windows(&held, 100, 1, &inside), starts[..1]);
        let regions = far(&marked, 100, &contigs, &held);
        let regions: Vec<String> = regions.iter().map(Region::to_string).collect();
        assert_eq!(regions, ["c0:1-200", "c0:402-850", "c1:103-500"]);
    }
}
