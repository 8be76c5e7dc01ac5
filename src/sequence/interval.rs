//! Intervals of contigs that are summarised as a whole: genes, transcripts, peaks, windows.

use super::region::Region;
use std::ops::Range;

/// An interval as an annotation has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Its contig, first base and end.
    pub region: Region,
    /// What counts of it, in order, apart from each other: its exons, or all of it.
    pub blocks: Vec<Range<u64>>,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its score, if that is a number.
    pub score: Option<f32>,
    /// Its strand.
    pub strand: Orientation,
    /// Its place in the file, from 0: those without a base count.
    pub record: u64,
    /// Its line there, from 1.
    pub line: u64,
    /// The bases of its contig, if the annotation says that this is a circle.
    pub circle: Option<u64>,
    /// Its first base, if it goes over the origin of a circle: its blocks before that come last.
    pub begins: Option<u64>,
}

impl Interval {
    /// The bases of the circle that it is on: it begins there, and is not longer, but may end beyond
    /// the origin.
    pub fn on_circle(&self) -> Option<u64> {
        let Region { start, end, .. } = self.region;
        self.circle
            .filter(|&bases| start < bases && end - start <= bases)
    }

    /// The last of its bases in reading order, and those that are read before it: on a circle, where
    /// the contig is read from its start, an interval over the origin ends before it begins.
    ///
    /// None if it does not go over the origin: what is read last is its last base.
    pub fn ends_before(&self, reverse: bool) -> Option<Range<u64>> {
        let begins = self.begins?;
        Some(if reverse {
            begins..self.region.end
        } else {
            self.region.start..begins
        })
    }

    /// The interval, turns of a circle further on, brought to where it lies on the contig: what
    /// goes over the origin becomes blocks at both of the contig's ends. What is longer than the
    /// circle has each of its bases once.
    fn on_contig(mut self, bases: u64) -> Self {
        let Region { start, end, .. } = self.region;
        let parts = self.blocks.into_iter().flat_map(|block| {
            let from = block.start % bases;
            let to = from + (block.end - block.start).min(bases);
            [from..to.min(bases), 0..to.saturating_sub(bases)]
        });
        let mut parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
        parts.sort_by_key(|part| part.start);
        parts.dedup_by(|next, part| {
            let overlap = next.start < part.end;
            if overlap {
                part.end = part.end.max(next.end);
            }
            overlap
        });
        self.region.start = parts.first().map_or(0, |part| part.start);
        self.region.end = parts.last().map_or(0, |part| part.end);
        let begins = start % bases;
        self.begins = (end - start <= bases && begins > self.region.start).then_some(begins);
        self.blocks = parts;
        self
    }
}

/// The strand of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orientation {
    /// `+`
    Forward,
    /// `-`
    Reverse,
    /// None is stated: it is taken to be along the contig.
    Unknown,
}

impl Orientation {
    /// Of `+`, `-`, or anything else.
    pub fn of(text: &str) -> Self {
        match text {
            "+" => Self::Forward,
            "-" => Self::Reverse,
            _ => Self::Unknown,
        }
    }
}

/// A point of an interval, along its strand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Before its first base: the transcription start of a gene.
    Start,
    /// Behind its last base.
    End,
    /// Its middle.
    Centre,
}

/// What an interval becomes before it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// So many bases on either side of this point, instead of the interval.
    pub around: Option<(Point, u64)>,
    /// Bases more before it, along its strand.
    pub upstream: u64,
    /// Bases more behind it, along its strand.
    pub downstream: u64,
}

impl Shape {
    /// The interval in this shape, cut at the contig's start, or going on at the other end of a
    /// circle that it is on; none if it has no base then. Blocks stay within what
    /// they were of, but for the first and the last one, which grow with it.
    pub fn apply(&self, mut interval: Interval) -> Option<Interval> {
        let Some(bases) = interval.on_circle() else {
            return self.on_line(interval);
        };
        let reach = self.around.map_or(0, |(_, bases)| bases) + self.upstream + self.downstream;
        // So many turns further on nothing reaches the contig's start.
        let on = reach.div_ceil(bases).checked_mul(bases);
        let fits = |on: &u64| {
            let end = interval.region.end.checked_add(*on);
            end.and_then(|end| end.checked_add(reach)).is_some()
        };
        let Some(on) = on.filter(fits) else {
            return self.on_line(interval);
        };
        interval.region.start += on;
        interval.region.end += on;
        for block in &mut interval.blocks {
            *block = block.start + on..block.end + on;
        }
        Some(self.on_line(interval)?.on_contig(bases))
    }

    fn on_line(&self, mut interval: Interval) -> Option<Interval> {
        let reverse = interval.strand == Orientation::Reverse;
        let Region { start, end, .. } = interval.region;
        if let Some((point, bases)) = self.around {
            let at = match (point, reverse) {
                (Point::Start, false) | (Point::End, true) => start,
                (Point::Start, true) | (Point::End, false) => end,
                (Point::Centre, _) => start.midpoint(end),
            };
            let window = at.saturating_sub(bases)..at.saturating_add(bases);
            interval.blocks = std::iter::once(window).collect();
        }
        let (left, right) = if reverse {
            (self.downstream, self.upstream)
        } else {
            (self.upstream, self.downstream)
        };
        if let Some(first) = interval.blocks.first_mut() {
            first.start = first.start.saturating_sub(left);
            interval.region.start = first.start;
        }
        if let Some(last) = interval.blocks.last_mut() {
            last.end = last.end.saturating_add(right);
            interval.region.end = last.end;
        }
        (interval.region.start < interval.region.end).then_some(interval)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "blocks")]

    use super::*;

    fn interval(strand: &str, blocks: &[Range<u64>]) -> Interval {
        Interval {
            region: Region {
                contig: "c".to_string(),
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

    /// The same on a circle of 110 bases.
    fn circular(strand: &str, blocks: &[Range<u64>]) -> Interval {
        Interval {
            circle: Some(110),
            ..interval(strand, blocks)
        }
    }

    fn blocks(shape: Shape, strand: &str) -> Vec<Range<u64>> {
        let shaped = shape
            .apply(interval(strand, &[100..120, 150..200]))
            .unwrap();
        assert_eq!(shaped.region.start, shaped.blocks[0].start);
        shaped.blocks
    }

    #[test]
    fn upstream_and_downstream_follow_the_strand() {
        let shape = Shape {
            around: None,
            upstream: 30,
            downstream: 5,
        };
        assert_eq!(blocks(shape, "+"), [70..120, 150..205]);
        assert_eq!(blocks(shape, "."), [70..120, 150..205]);
        assert_eq!(blocks(shape, "-"), [95..120, 150..230]);
    }

    #[test]
    fn on_a_circle_an_interval_goes_on_behind_the_origin() {
        let on = |shape: Shape, strand: &str, blocks: &[Range<u64>]| {
            let around = shape.apply(circular(strand, blocks)).unwrap();
            assert_eq!(around.region.start, around.blocks[0].start);
            let last = around.blocks.len() - 1;
            assert_eq!(around.region.end, around.blocks[last].end);
            (around.blocks, around.begins)
        };
        let file = Shape::default();
        let gene = [100..130];
        assert_eq!(on(file, "+", &gene), (vec![0..20, 100..110], Some(100)));
        assert_eq!(
            on(file, "+", &[90..95, 100..112, 120..130]),
            (vec![0..2, 10..20, 90..95, 100..110], Some(90))
        );
        assert_eq!(on(file, "+", &[100..110]), (vec![100..110], None));
        let around = |point, bases| Shape {
            around: Some((point, bases)),
            ..Shape::default()
        };
        for (point, bases, strand, blocks, expected, begins) in [
            (Point::End, 5, "+", &gene, vec![15..25], None),
            (Point::Start, 5, "+", &gene, vec![95..105], None),
            (Point::Start, 5, "-", &gene, vec![15..25], None),
            (
                Point::Centre,
                8,
                "+",
                &gene,
                vec![0..13, 107..110],
                Some(107),
            ),
            (
                Point::Start,
                5,
                "+",
                &[0..30],
                vec![0..5, 105..110],
                Some(105),
            ),
            (
                Point::End,
                5,
                "+",
                &[80..110],
                vec![0..5, 105..110],
                Some(105),
            ),
            (Point::End, 900, "+", &gene, vec![0..110], None),
        ] {
            let found = on(around(point, bases), strand, blocks);
            assert_eq!(found, (expected, begins), "{point:?} {bases} {strand}");
        }
        let upstream = Shape {
            upstream: 15,
            ..Shape::default()
        };
        assert_eq!(
            on(upstream, "+", &[10..12, 20..30]),
            (vec![0..12, 20..30, 105..110], Some(105))
        );
    }

    #[test]
    fn an_interval_is_on_a_circle_that_it_begins_on_and_is_not_longer_than() {
        for (blocks, on) in [
            ([100..110], true),
            ([100..210], true),
            ([120..130], false),
            ([100..230], false),
        ] {
            let circle = on.then_some(110);
            assert_eq!(circular("+", &blocks).on_circle(), circle, "{blocks:?}");
        }
    }

    #[test]
    fn windows_lie_around_a_point_of_the_strand_and_end_at_the_contig_s_start() {
        let around = |point, bases| Shape {
            around: Some((point, bases)),
            ..Shape::default()
        };
        let window = |range: Range<u64>| vec![range];
        assert_eq!(blocks(around(Point::Start, 10), "+"), window(90..110));
        assert_eq!(blocks(around(Point::Start, 10), "-"), window(190..210));
        assert_eq!(blocks(around(Point::End, 10), "-"), window(90..110));
        assert_eq!(blocks(around(Point::Centre, 10), "+"), window(140..160));
        assert_eq!(blocks(around(Point::Start, 500), "+"), window(0..600));
        let asymmetric = Shape {
            upstream: 20,
            downstream: 5,
            ..around(Point::Start, 0)
        };
        assert_eq!(blocks(asymmetric, "-"), window(195..220));
        let nothing = around(Point::Start, 0).apply(interval("+", &[10..20]));
        assert_eq!(nothing, None);
    }
}
