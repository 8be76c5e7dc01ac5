//! Shards: parts of an input that are computed apart, each thing of it in exactly one.

use super::region::Span;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// One of so many shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 1.
    pub index: u64,
    /// How many there are; at least `index`.
    pub of: u64,
}

/// What shards are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Whole contigs, of about as many bases in each shard.
    Contig,
    /// Equal stretches of all contigs end to end, each with its --context.
    Bases,
}

/// How spans are shared out among shards.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// The shard that is wanted.
    pub shard: Shard,
    /// What shards are made of.
    pub by: By,
    /// Contigs are cut at multiples of so many bases, so that none of these bins is in two shards.
    pub bin: u64,
}

/// Things in order, counted from 0, of which blocks go to the shards in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The shard that is wanted.
    pub shard: Shard,
    /// Things of a block; at least 1.
    pub size: u64,
}

impl Shard {
    /// The shard's part of `total` things in order.
    pub fn part(&self, total: u64) -> Range<u64> {
        let before = |shards: u64| {
            let before = u128::from(total) * u128::from(shards) / u128::from(self.of);
            u64::try_from(before).unwrap_or(total)
        };
        before(self.index - 1)..before(self.index)
    }
}

/// To which of so many shards each of these things goes: the largest first, each goes to the shard
/// that has least, and of several to the first. What goes where depends on the sizes alone.
///
/// ```
/// use crocuta::sequence::shard::shared_out;
/// assert_eq!(shared_out(&[5, 9, 5, 1], 2), [2, 1, 2, 1]);
/// ```
pub fn shared_out(sizes: &[u64], of: u64) -> Vec<u64> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| (Reverse(sizes[i]), i));
    // More shards than things are empty.
    let shards = of.min(sizes.len() as u64);
    let mut lightest: BinaryHeap<_> = (1..=shards).map(|shard| Reverse((0, shard))).collect();
    let mut goes_to = vec![0; sizes.len()];
    for i in order {
        if let Some(Reverse((size, shard))) = lightest.pop() {
            goes_to[i] = shard;
            lightest.push(Reverse((size + sizes[i], shard)));
        }
    }
    goes_to
}

/// Which of so many shards has the thing at this place of `total` in order: the one of whose
/// [`Shard::part`] it is.
pub fn of_place(place: u64, total: u64, of: u64) -> u64 {
    let shard = ((u128::from(place) + 1) * u128::from(of)).div_ceil(u128::from(total.max(1)));
    u64::try_from(shard).unwrap_or(of)
}

impl Cut {
    /// The shard's part of spans that are sorted.
    pub fn of(&self, spans: Vec<Span>) -> Vec<Span> {
        match self.by {
            By::Contig => self.contigs_of(spans),
            By::Bases => self.stretches_of(&spans),
        }
    }

    fn contigs_of(&self, spans: Vec<Span>) -> Vec<Span> {
        let of_contig = spans.chunk_by(|one, next| one.contig == next.contig);
        let sizes: Vec<u64> = of_contig
            .map(|spans| spans.iter().map(|span| span.end - span.start).sum())
            .collect();
        let shards = shared_out(&sizes, self.shard.of);
        let of_contig = spans.chunk_by(|one, next| one.contig == next.contig);
        let mine = of_contig.zip(shards);
        let mine = mine.filter(|(_, shard)| *shard == self.shard.index);
        mine.flat_map(|(spans, _)| spans).copied().collect()
    }

    fn stretches_of(&self, spans: &[Span]) -> Vec<Span> {
        let total = spans.iter().map(|span| span.end - span.start).sum();
        let part = self.shard.part(total);
        let (mut mine, mut before) = (Vec::new(), 0);
        for span in spans {
            let length = span.end - span.start;
            let place = |base: u64| {
                let base = span.start + base.saturating_sub(before).min(length);
                if base == span.end {
                    return base;
                }
                (base / self.bin * self.bin).max(span.start)
            };
            let (start, end) = (place(part.start), place(part.end));
            if start < end {
                mine.push(Span {
                    start,
                    end,
                    ..*span
                });
            }
            before += length;
        }
        mine
    }
}

impl Blocks {
    /// Whether the thing at this place is in the shard.
    pub fn has(&self, place: u64) -> bool {
        place / self.size % self.shard.of == self.shard.index - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shards(of: u64) -> impl Iterator<Item = Shard> {
        (1..=of).map(move |index| Shard { index, of })
    }

    proptest! {
        #[test]
        fn every_base_is_in_one_shard_and_contigs_are_balanced(
            lengths in prop::collection::vec(1u64..500, 1..30),
            of in 1u64..20,
            bin in 1u64..40,
        ) {
            let spans: Vec<Span> = lengths.iter().enumerate()
                .map(|(contig, &end)| Span { contig, start: 0, end }).collect();
            let size = |spans: &[Span]| spans.iter().map(|span| span.end - span.start).sum::<u64>();
            for by in [By::Contig, By::Bases] {
                let each: Vec<Vec<Span>> = shards(of)
                    .map(|shard| Cut { shard, by, bin }.of(spans.clone())).collect();
                for part in &each {
                    prop_assert!(part.is_sorted());
                }
                let mut all = each.concat();
                all.sort_unstable();
                if by == By::Contig {
                    prop_assert_eq!(&all, &spans);
                    let most = each.iter().map(|part| size(part)).max().unwrap();
                    let longest = lengths.iter().max().unwrap();
                    prop_assert!(most <= (size(&spans) / of).max(*longest) + longest);
                    continue;
                }
                for (before, next) in all.iter().zip(&all[1..]) {
                    let ends = before.end == lengths[before.contig];
                    prop_assert_eq!(ends, next.contig != before.contig);
                    prop_assert!(ends || before.end == next.start && next.start % bin == 0);
                }
                prop_assert_eq!(size(&all), size(&spans));
                for part in &each {
                    prop_assert!(size(part) <= size(&spans) / of + 1 + bin);
                }
            }
        }

        #[test]
        fn every_thing_is_in_one_block(total in 0u64..300, of in 1u64..9, size in 1u64..50) {
            for place in 0..total {
                let having = shards(of).filter(|&shard| Blocks { shard, size }.has(place));
                prop_assert_eq!(having.count(), 1);
                let having = shards(of).filter(|shard| shard.part(total).contains(&place));
                let having: Vec<u64> = having.map(|shard| shard.index).collect();
                prop_assert_eq!(having, [of_place(place, total, of)]);
            }
        }
    }
}
