//! Where row groups end.
//!
//! By the rows alone, however they come in batches: so a table in parts can be put together again
//! to the bytes that it has when it is written at once.

use std::sync::Arc;

/// Rows, positions or records of a row group: groups start at multiples of it, so the group that
/// holds a locus or a record can be computed.
pub const GROUP_POSITIONS: u64 = 32_768;

/// Reads of a row group of their bases: of short reads about as many rows as other groups have.
const GROUP_READS: i64 = 256;

/// Rows after which a group ends, whatever they are: many short sequences share a group.
const GROUP_ROWS: usize = 2 * GROUP_POSITIONS as usize;

/// Rows of several batches on their way into row groups.
///
/// A group ends before each multiple of the span along a contig, and with a contig that is longer
/// than the span; shorter contigs, and regions, share groups.
#[derive(Clone, Debug)]
pub struct Groups {
    span: i64,
    /// Rows need not follow each other closely to end a group.
    sparse: bool,
    open: Option<Open>,
}

/// What decides whether a row comes into the open group.
#[derive(Clone, Debug)]
struct Open {
    rows: usize,
    contig: Arc<str>,
    /// The group begins at a later multiple of the span.
    later: bool,
    /// The last row's place.
    last: (i64, i64),
}

impl Groups {
    /// Of rows at positions of contigs, or of bins of so many positions.
    pub fn of_positions(bin: u64) -> Self {
        let span = GROUP_POSITIONS.saturating_mul(bin.max(1));
        Self {
            span: i64::try_from(span).unwrap_or(i64::MAX),
            sparse: false,
            open: None,
        }
    }

    /// Of rows of intervals: a group holds as many as it can.
    pub fn of_intervals() -> Self {
        Self::of_positions(u64::MAX)
    }

    /// Of rows of reads or variants: a group spans so many records, those without rows among them.
    pub fn of_records() -> Self {
        Self {
            sparse: true,
            ..Self::of_positions(1)
        }
    }

    /// Of rows of the bases of reads.
    pub fn of_read_bases() -> Self {
        Self {
            span: GROUP_READS,
            ..Self::of_records()
        }
    }

    /// Of a table by its footer's `table`, and the bases of its bins; none if that is not known.
    pub fn of_table(table: &str, bin: u64) -> Option<Self> {
        match table {
            "embeddings" | "predictions" => Some(Self::of_positions(bin)),
            "interval_embeddings" | "interval_predictions" => Some(Self::of_intervals()),
            "reads" | "sequences" | "variants" => Some(Self::of_records()),
            "read_bases" => Some(Self::of_read_bases()),
            _ => None,
        }
    }

    /// How many of the rows at these places, start and end, the open group takes; none: it must end
    /// before them.
    pub fn fit(&mut self, contig: &str, places: impl Iterator<Item = (i64, i64)>) -> usize {
        let mut taken = 0;
        for (start, end) in places {
            if self.ends_before(contig, start) {
                break;
            }
            let later = self.is_later(start);
            let open = self.open.get_or_insert_with(|| Open {
                rows: 0,
                contig: Arc::from(contig),
                later,
                last: (start, end),
            });
            if *open.contig != *contig {
                open.contig = Arc::from(contig);
            }
            open.last = (start, end);
            open.rows += 1;
            taken += 1;
        }
        taken
    }

    /// The open group has ended.
    pub fn end(&mut self) {
        self.open = None;
    }

    /// Whether a group is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the open group ends before a row that starts here.
    pub fn ends_before(&self, contig: &str, start: i64) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| open.ends_before(contig, start, self.span, self.sparse))
    }

    /// Whether a group of another table would end where it does if it was written here, with none
    /// open: it holds so many `rows` from `first` to `last` (contig, start and end), and after them
    /// comes `next` (contig and start).
    pub fn keeps(
        &self,
        rows: usize,
        first: i64,
        last: (&str, i64, i64),
        next: Option<(&str, i64)>,
    ) -> bool {
        let Some((contig, start)) = next else {
            return true;
        };
        let group = Open {
            rows,
            contig: Arc::from(last.0),
            later: self.is_later(first),
            last: (last.1, last.2),
        };
        group.ends_before(contig, start, self.span, self.sparse)
    }

    fn is_later(&self, start: i64) -> bool {
        start >= self.span && start % self.span == 0
    }
}

impl Open {
    fn ends_before(&self, contig: &str, start: i64, span: i64, sparse: bool) -> bool {
        let same = *self.contig == *contig;
        let beyond = sparse && start / span != self.last.0 / span;
        let multiple = self.last.1 % span == 0 && start != self.last.0;
        self.rows >= GROUP_ROWS || same && (multiple || beyond) || !same && self.later
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of the groups of rows that come in batches of `size`.
    fn sizes(mut groups: Groups, rows: &[(&str, i64, i64)], size: usize) -> Vec<usize> {
        let (mut sizes, mut open) = (Vec::new(), 0);
        for mut batch in rows.chunks(size) {
            while let Some((contig, ..)) = batch.first() {
                let same = batch.iter().take_while(|row| row.0 == *contig);
                let taken = groups.fit(contig, same.map(|(_, start, end)| (*start, *end)));
                batch = &batch[taken..];
                open += taken;
                if taken == 0 {
                    groups.end();
                    sizes.push(std::mem::take(&mut open));
                }
            }
        }
        sizes.push(open);
        sizes
    }

    fn contig(name: &str, range: std::ops::Range<i64>) -> Vec<(&str, i64, i64)> {
        range.map(|start| (name, start, start + 1)).collect()
    }

    #[test]
    fn groups_end_at_multiples_of_their_span_however_the_rows_arrive() {
        let cases = [
            (contig("a", 3..31), vec![7, 10, 10, 1]),
            // A long contig's tail stands alone, short contigs do not.
            (
                [
                    contig("a", 0..12),
                    contig("b", 0..4),
                    contig("c", 0..3),
                    contig("d", 0..11),
                ]
                .concat(),
                vec![10, 2, 17, 1],
            ),
            // Regions share groups.
            (
                [contig("a", 12..14), contig("a", 33..35), contig("b", 5..8)].concat(),
                vec![7],
            ),
        ];
        let groups = Groups {
            span: 10,
            ..Groups::of_positions(1)
        };
        for (rows, expected) in cases {
            // Both strands of a position.
            let twice: Vec<_> = rows.iter().flat_map(|row| [*row, *row]).collect();
            for size in [1, 2, 3, 9, 10, 11, 1000] {
                assert_eq!(sizes(groups.clone(), &rows, size), expected, "{size}");
                let doubled: Vec<usize> = expected.iter().map(|rows| 2 * rows).collect();
                assert_eq!(sizes(groups.clone(), &twice, size), doubled, "{size}");
            }
        }
        let many: Vec<_> = (0..70_000).map(|_| ("a", 0, 1)).collect();
        for size in [1, 8192, 100_000] {
            assert_eq!(sizes(groups.clone(), &many, size), [65_536, 4_464]);
        }
    }

    #[test]
    fn groups_of_records_end_though_a_record_has_no_row_or_several() {
        let records = [0, 1, 8, 12, 12, 19, 19, 20, 35];
        let rows: Vec<_> = records.iter().map(|&at| ("", at, at + 1)).collect();
        for size in 1..10 {
            let groups = Groups {
                span: 10,
                ..Groups::of_records()
            };
            assert_eq!(sizes(groups, &rows, size), [3, 4, 1, 1], "{size}");
        }
    }
}
