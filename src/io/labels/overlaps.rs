//! Intervals of a contig, to be asked which of them overlap another.

/// Intervals with numbers, sorted by their starts; and for the middle of each stretch that a search
/// halves, the last end within the stretch.
#[derive(Default)]
pub struct Overlaps {
    items: Vec<(i64, i64, u32)>,
    last: Vec<i64>,
}

impl Overlaps {
    /// Adds bases from `start` to before `end`, both counted from 0.
    pub fn push(&mut self, start: i64, end: i64, number: u32) {
        self.items.push((start, end, number));
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
        self.last[middle] = sides.max(self.items[middle].1);
        self.last[middle]
    }

    /// Gives `take` the numbers of those that overlap these bases, by their starts.
    pub fn each(&self, start: i64, end: i64, take: &mut impl FnMut(u32)) {
        self.search((0, self.items.len()), (start, end), take);
    }

    fn search(&self, (from, to): (usize, usize), asked: (i64, i64), take: &mut impl FnMut(u32)) {
        let middle = from.midpoint(to);
        if from == to || self.last[middle] <= asked.0 {
            return;
        }
        self.search((from, middle), asked, take);
        let (start, end, number) = self.items[middle];
        if start < asked.1 {
            if end > asked.0 {
                take(number);
            }
            self.search((middle + 1, to), asked, take);
        }
    }
}
