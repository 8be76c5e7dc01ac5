//! Intervals of a contig, to be asked which of them overlap another.

/// Intervals with numbers, sorted by their starts; and for the middle of each stretch that a search
/// halves, the last end within the stretch.
#[derive(Default)]
pub struct Overlaps {
    items: Vec<Item>,
    last: Vec<i64>,
}

/// An interval, or a part of one that goes over the origin of a circle.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    start: i64,
    end: i64,
    number: u32,
    /// The end of the interval's other part: what starts before it has been found there.
    other: i64,
}

impl Overlaps {
    /// Adds bases from `start` to before `end`, both counted from 0; on a `circle` of so many bases
    /// what lies beyond its origin is at its start.
    pub fn push(&mut self, (start, end): (i64, i64), circle: Option<i64>, number: u32) {
        let bases = circle.filter(|bases| end > *bases);
        let beyond = bases.map(|bases| end - bases);
        self.items.extend(beyond.map(|end| Item {
            start: 0,
            end,
            number,
            other: 0,
        }));
        self.items.push(Item {
            start,
            end: bases.unwrap_or(end),
            number,
            other: beyond.unwrap_or(0),
        });
    }

    /// To be called when all are there.
    pub fn sort(&mut self) {
        self.items.sort_unstable();
        self.last = vec![i64::MIN; self.items.len()];
        self.last_of(0, self.items.len());
    }

    fn last_of(&mut self, from: usize, to: usize) -> i64 {
        if from == to {
            return i64::MIN;
        }
        let middle = from.midpoint(to);
        let sides = self.last_of(from, middle).max(self.last_of(middle + 1, to));
        self.last[middle] = sides.max(self.items[middle].end);
        self.last[middle]
    }

    /// Gives `take` the number of each that overlaps these bases, by their starts.
    pub fn each(&self, start: i64, end: i64, take: &mut impl FnMut(u32)) {
        self.search((0, self.items.len()), (start, end), take);
    }

    fn search(&self, (from, to): (usize, usize), asked: (i64, i64), take: &mut impl FnMut(u32)) {
        let middle = from.midpoint(to);
        if from == to || self.last[middle] <= asked.0 {
            return;
        }
        self.search((from, middle), asked, take);
        let item = &self.items[middle];
        if item.start < asked.1 {
            if item.end > asked.0 && item.other <= asked.0 {
                take(item.number);
            }
            self.search((middle + 1, to), asked, take);
        }
    }
}
