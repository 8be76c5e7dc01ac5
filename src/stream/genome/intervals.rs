//! Bases pooled into intervals, which may overlap and have holes.

use crate::sequence::interval::{Interval, Orientation};
use crate::stream::Pool;
use crate::table::{Positions, flag};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// The intervals of a genome.
pub struct Intervals {
    /// By contig, start and end.
    all: Arc<Vec<Interval>>,
    of_contig: HashMap<String, OfContig>,
}

/// Where the intervals of a contig lie among all, and the length of the longest.
struct OfContig {
    places: Range<usize>,
    longest: u64,
}

/// What was read of intervals that are not finished, by their places.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Sums(BTreeMap<usize, Sum>);

/// What was read of one interval.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Sum {
    /// From the first to the last base that was read.
    start: i64,
    end: i64,
    flags: u8,
    context: i32,
    bases: u32,
    values: Vec<f64>,
    /// Bases without a value, of each number.
    missing: Vec<u32>,
}

impl Intervals {
    /// These, sorted as rows are.
    pub fn new(mut all: Vec<Interval>) -> Self {
        let key = |i: &Interval| (i.region.contig.clone(), i.region.start, i.region.end);
        all.sort_by_cached_key(key);
        let mut of_contig: HashMap<String, OfContig> = HashMap::new();
        for (place, Interval { region, .. }) in all.iter().enumerate() {
            let known = of_contig.entry(region.contig.clone());
            let known = known.or_insert_with(|| OfContig {
                places: place..place,
                longest: 0,
            });
            known.places.end = place + 1;
            known.longest = known.longest.max(region.end - region.start);
        }
        Self {
            all: Arc::new(all),
            of_contig,
        }
    }

    /// All of them, in the order of their places.
    pub fn all(&self) -> &Arc<Vec<Interval>> {
        &self.all
    }

    /// Of rows of both strands, those that were read along their interval's own.
    pub fn own(&self, rows: &Positions) -> Positions {
        let mut own = Positions::default();
        for (row, place) in rows.intervals.iter().enumerate() {
            let reverse = self.all[*place as usize].strand == Orientation::Reverse;
            if reverse == (rows.strands[row] == b'-') {
                own.append(rows, row..row + 1);
            }
        }
        own
    }

    /// Rows of one base each, in reading order, to the intervals that they finish, in reading order
    /// of their starts; `ends`: all that were begun.
    pub fn push(&self, sums: &mut Sums, rows: &Positions, ends: bool, pool: Pool) -> Positions {
        if let (Some(&first), Some(&last)) = (rows.starts.first(), rows.starts.last()) {
            let reverse = rows.strands[0] == b'-';
            let (low, high) = (first.min(last), first.max(last));
            let touched = self.touched(&rows.name, low as u64..high as u64 + 1);
            let taken = touched.map(|place| (place, sums.0.remove(&place).unwrap_or_default()));
            let mut taken: Vec<_> = taken.collect();
            taken.par_iter_mut().for_each(|(place, sum)| {
                let interval = &self.all[*place];
                for range in rows_of(&interval.blocks, &rows.starts, reverse) {
                    let ended = pool == Pool::Last && sum.has_last(interval, rows, &range);
                    sum.add(rows, range, pool, ended);
                }
            });
            sums.0
                .extend(taken.into_iter().filter(|(_, sum)| sum.bases > 0));
            let done = |place: usize| {
                let region = &self.all[place].region;
                if reverse {
                    region.start >= low as u64
                } else {
                    region.end <= high as u64 + 1
                }
            };
            return sums.finish(reverse, rows, pool, |place| ends || done(place));
        }
        Positions::default()
    }

    /// The intervals that these bases belong to.
    fn touched(&self, contig: &str, bases: Range<u64>) -> impl Iterator<Item = usize> {
        let (places, longest) = match self.of_contig.get(contig) {
            Some(of) => (of.places.clone(), of.longest),
            None => (0..0, 0),
        };
        let sorted = &self.all[places.clone()];
        let from = sorted.partition_point(|i| i.region.start + longest <= bases.start);
        let to = sorted.partition_point(|i| i.region.start < bases.end);
        (places.start + from..places.start + to)
            .filter(move |place| self.all[*place].region.end > bases.start)
    }
}

/// The rows of blocks, in reading order; `starts` rise, or fall if `reverse`.
fn rows_of(blocks: &[Range<u64>], starts: &[i64], reverse: bool) -> Vec<Range<usize>> {
    let rows = |block: &Range<u64>| {
        let (start, end) = (block.start.cast_signed(), block.end.cast_signed());
        let (from, to) = if reverse {
            (
                starts.partition_point(|&at| at >= end),
                starts.partition_point(|&at| at >= start),
            )
        } else {
            (
                starts.partition_point(|&at| at < start),
                starts.partition_point(|&at| at < end),
            )
        };
        from..to
    };
    let mut found: Vec<_> = blocks.iter().map(rows).collect();
    if reverse {
        found.reverse();
    }
    found.retain(|rows| !rows.is_empty());
    found
}

impl Sum {
    /// Whether the interval's last base was read before these rows: one over the origin of a circle
    /// ends before it begins.
    fn has_last(&self, interval: &Interval, rows: &Positions, range: &Range<usize>) -> bool {
        let reverse = rows.strands[range.start] == b'-';
        let Some(ends) = interval.ends_before(reverse) else {
            return false;
        };
        let (from, to) = (ends.start.cast_signed(), ends.end.cast_signed());
        let read = self.bases > 0 && self.start < to && self.end > from;
        read && !(from..to).contains(&rows.starts[range.start])
    }

    /// Adds rows; `ended`: the interval's last base was read before them.
    fn add(&mut self, rows: &Positions, range: Range<usize>, pool: Pool, ended: bool) {
        let width = rows.width();
        let (first, last) = (rows.starts[range.start], rows.starts[range.end - 1]);
        let (low, high) = (first.min(last), first.max(last) + 1);
        if self.bases == 0 {
            (self.start, self.end) = (low, high);
            self.context = rows.context[range.start];
            self.flags = rows.flags[range.start] & flag::RESET;
            let empty = if pool == Pool::Max {
                f64::NEG_INFINITY
            } else {
                0.0
            };
            self.values = vec![empty; width];
            self.missing = vec![0; width];
        }
        (self.start, self.end) = (self.start.min(low), self.end.max(high));
        self.bases += range.len() as u32;
        for i in range {
            // The state is reset before an interval only if it is before its first base.
            self.flags |= rows.flags[i] & !flag::RESET;
            let row = &rows.values[i * width..][..width];
            let numbers = self.values.iter_mut().zip(&mut self.missing);
            for ((pooled, missing), &x) in numbers.zip(row) {
                let known = !x.is_nan();
                *missing += u32::from(!known);
                let x = f64::from(x);
                match pool {
                    Pool::Mean => *pooled += if known { x } else { 0.0 },
                    Pool::Max => *pooled = pooled.max(x),
                    Pool::Last if ended => {}
                    Pool::Last => *pooled = x,
                }
            }
        }
    }

    /// The pooled numbers; NaN where there was none.
    fn values(self, pool: Pool) -> impl Iterator<Item = f32> {
        let numbers = self.values.into_iter().zip(self.missing);
        numbers.map(move |(x, missing)| match pool {
            Pool::Mean => (x / f64::from(self.bases - missing)) as f32,
            Pool::Max | Pool::Last => x as f32,
        })
    }
}

impl Sums {
    /// Takes out the intervals that are done, as far as all that come before them in reading order
    /// are.
    fn finish(
        &mut self,
        reverse: bool,
        rows: &Positions,
        pool: Pool,
        done: impl Fn(usize) -> bool,
    ) -> Positions {
        let mut out = Positions {
            name: Arc::clone(&rows.name),
            ..Positions::default()
        };
        loop {
            let next = if reverse {
                self.0.last_entry()
            } else {
                self.0.first_entry()
            };
            let Some(next) = next.filter(|next| done(*next.key())) else {
                return out;
            };
            let (place, sum) = next.remove_entry();
            out.intervals.push(place as u32);
            out.starts.push(sum.start);
            out.ends.push(sum.end);
            out.strands.push(rows.strands[0]);
            out.bases.push(0);
            out.flags.push(sum.flags);
            out.context.push(sum.context);
            out.values.extend(sum.values(pool));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "blocks")]

    use super::*;
    use crate::sequence::region::Region;
    use crate::table::Batch;

    fn interval(blocks: &[Range<u64>], strand: &str) -> Interval {
        Interval {
            region: Region {
                contig: "chr".to_string(),
                start: blocks[0].start,
                end: blocks[blocks.len() - 1].end,
            },
            blocks: blocks.to_vec(),
            name: None,
            score: None,
            strand: Orientation::of(strand),
            line: 1,
            record: 0,
            circle: None,
            begins: None,
        }
    }

    fn rows(starts: &[i64], strand: u8) -> Positions {
        Positions {
            name: "chr".into(),
            starts: starts.to_vec(),
            ends: starts.iter().map(|s| s + 1).collect(),
            strands: vec![strand; starts.len()],
            bases: vec![0; starts.len()],
            flags: vec![0; starts.len()],
            context: starts.iter().map(|&s| s as i32).collect(),
            values: starts.iter().flat_map(|&s| [s as f32, -s as f32]).collect(),
            ..Positions::default()
        }
    }

    #[test]
    fn intervals_come_in_order_with_their_bases_alone_however_the_rows_arrive() {
        let all = vec![
            interval(&[10..60], "+"),
            interval(&[20..25, 40..50], "-"),
            interval(&[20..22], "+"),
            interval(&[70..71], "."),
        ];
        let intervals = Intervals::new(all);
        let spans: Vec<_> = intervals.all().iter().map(|i| i.region.end).collect();
        assert_eq!(spans, [60, 22, 50, 71]);
        let forward: Vec<i64> = (10..71).collect();
        let reverse: Vec<i64> = (10..71).rev().collect();
        for (order, strand) in [(&forward, b'+'), (&reverse, b'-')] {
            for pool in [Pool::Mean, Pool::Max, Pool::Last] {
                for cut in 1..order.len() {
                    let mut sums = Sums::default();
                    let first = rows(&order[..cut], strand);
                    let second = rows(&order[cut..], strand);
                    let mut out = intervals.push(&mut sums, &first, false, pool);
                    let rest = intervals.push(&mut sums, &second, true, pool);
                    out.append(&rest, 0..rest.len());
                    if strand == b'-' {
                        out.reverse();
                    }
                    assert_eq!(out.intervals, [0, 1, 2, 3], "{pool:?}, {cut}");
                    assert_eq!(out.starts, [10, 20, 20, 70]);
                    assert_eq!(out.ends, [60, 22, 50, 71]);
                    let values: Vec<f32> = out.values.iter().copied().step_by(2).collect();
                    let expected = match (pool, strand) {
                        (Pool::Mean, _) => [34.5, 20.5, (110.0 + 445.0) / 15.0, 70.0],
                        (Pool::Max, _) | (Pool::Last, b'+') => [59.0, 21.0, 49.0, 70.0],
                        (Pool::Last, _) => [10.0, 20.0, 20.0, 70.0],
                    };
                    assert_eq!(values, expected, "{pool:?}, {cut}");
                }
            }
        }
    }

    #[test]
    fn an_interval_over_the_origin_of_a_circle_ends_where_it_ends_and_not_where_the_contig_does() {
        let mut over = interval(&[0..3, 7..10], "+");
        over.begins = Some(7);
        let intervals = Intervals::new(vec![over]);
        let forward: Vec<i64> = (0..10).collect();
        let reverse: Vec<i64> = (0..10).rev().collect();
        for (order, strand, last) in [(&forward, b'+', 2.0), (&reverse, b'-', 7.0)] {
            for cut in 1..order.len() {
                let mut sums = Sums::default();
                let (first, second) = order.split_at(cut);
                let first = rows(first, strand);
                let begun = intervals.push(&mut sums, &first, false, Pool::Last);
                assert!(begun.is_empty());
                let out = intervals.push(&mut sums, &rows(second, strand), true, Pool::Last);
                assert_eq!(out.values, [last, -last], "{cut}");
                assert_eq!((out.starts[0], out.ends[0]), (0, 10));
            }
        }
    }

    #[test]
    fn bases_without_a_value_are_no_part_of_a_mean() {
        let intervals = Intervals::new(vec![interval(&[0..4], "+")]);
        let mut block = rows(&[0, 1, 2, 3], b'+');
        block.values[0] = f32::NAN;
        let out = intervals.push(&mut Sums::default(), &block, true, Pool::Mean);
        assert_eq!(out.values, [2.0, -1.5]);
    }
}
