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
}

impl Interval {
    /// The interval on a circle of so many bases: what lies beyond its origin is a block at its
    /// start. As it is if it is longer than the circle, or does not reach that far.
    #[must_use]
    pub fn around(mut self, bases: u64) -> Self {
        let Region { start, end, .. } = self.region;
        if end <= bases || start >= bases || end - start > bases {
            return self;
        }
        let parts = self.blocks.into_iter().flat_map(|block| {
            let before = block.start.min(bases)..block.end.min(bases);
            let beyond = block.start.max(bases) - bases..block.end.max(bases) - bases;
            [before, beyond]
        });
        self.blocks = parts.filter(|part| !part.is_empty()).collect();
        self.blocks.sort_by_key(|block| block.start);
        self.region.start = self.blocks.first().map_or(start, |block| block.start);
        self.region.end = self.blocks.last().map_or(end, |block| block.end);
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
    /// The interval in this shape, cut at the contig's start; none if it has no base then. Blocks
    /// stay within what they were of, but for the first and the last one, which grow with it.
    pub fn apply(&self, mut interval: Interval) -> Option<Interval> {
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
        let on = |bases, blocks: &[Range<u64>]| {
            let around = interval("+", blocks).around(bases);
            assert_eq!(around.region.start, around.blocks[0].start);
            assert_eq!(
                around.region.end,
                around.blocks[around.blocks.len() - 1].end
            );
            around.blocks
        };
        assert_eq!(on(110, &[100..130]), [0..20, 100..110]);
        assert_eq!(
            on(110, &[90..95, 100..112, 120..130]),
            [0..2, 10..20, 90..95, 100..110]
        );
        for same in [[100..110], [120..130], [100..230]] {
            assert_eq!(on(110, &same), same);
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
