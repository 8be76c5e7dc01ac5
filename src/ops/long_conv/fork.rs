//! Forks: what a past owes to the next tokens, without the past.
//!
//! Sequences that share their past and go on differently (a reference and its variants) get the
//! same sums from it. So a fork is a short ring of its own: one slot for each token that may still
//! come, filled with all that the past owes that token.

use super::push::{Push, UNIT, add};
use super::{Carried, Complex32, Convolver, DIRECT, Lane, LongConv, Past};
use crate::error::{Error, Kind, Result};
use rayon::prelude::*;

impl LongConv {
    /// Lanes that go on from lanes of other pasts, each for at most `room` tokens.
    ///
    /// Memory: `room · C` values a lane, or a copy of the lane if that is smaller. Work a lane:
    /// what the convolution of `room` tokens takes, if `room` is the smaller.
    ///
    /// # Errors
    /// Internal: there is no such lane, or a past lies on a GPU.
    pub fn fork(&self, from: &[(&Past, usize)], room: usize) -> Result<Past> {
        let lanes = from.iter().map(|(past, lane)| {
            let lane = past
                .lanes
                .get(*lane)
                .ok_or_else(|| Error::new(Kind::Internal, format!("no lane {lane}")))?;
            if self.is_fork(lane) || lane.slots.is_empty() || room > self.ring || room == 0 {
                Ok(lane.clone())
            } else {
                self.owed(lane, room)
            }
        });
        Ok(Past {
            lanes: lanes.collect::<Result<_>>()?,
            on_gpu: Carried::forked(from.iter().map(|(past, _)| &past.on_gpu))?,
        })
    }

    pub(super) fn is_fork(&self, lane: &Lane) -> bool {
        !lane.slots.is_empty() && lane.ring() < self.ring
    }

    /// A lane at position 0 with what `lane` owes to its next `room` tokens.
    ///
    /// Slots hold what was paid so far. What is due later is what the coming pushes would pay if
    /// only zeros came from here on: one push of each width at most.
    fn owed(&self, lane: &Lane, room: usize) -> Result<Lane> {
        let (ring, now) = (self.ring, lane.position);
        let mut owed: Vec<Vec<Complex32>> = lane
            .slots
            .par_iter()
            .map(|slots| {
                let mut owed = slots[now..ring.min(now + room)].to_vec();
                owed.resize(room, Complex32::default());
                owed
            })
            .collect();
        for push in self.coming(now, room) {
            let inputs = |slots: &[Complex32]| {
                let mut inputs = slots[push.from - push.width..now].to_vec();
                inputs.resize(push.width, Complex32::default());
                inputs
            };
            let sums = push.from - now..push.from - now + push.count;
            if push.width <= DIRECT {
                owed.par_iter_mut().zip(&lane.slots).enumerate().for_each(
                    |(pair, (owed, slots))| {
                        let taps = self.spectra.head(pair);
                        for (j, v) in inputs(slots).iter().rev().enumerate() {
                            for (y, k) in owed[sums.clone()].iter_mut().zip(&taps[j + 1..]) {
                                y.re += k.re * v.re;
                                y.im += k.im * v.im;
                            }
                        }
                    },
                );
                continue;
            }
            if push.width <= UNIT
                && let Some(spectrum) = self.spectra.kept(2 * push.width, 2 * push.width)
            {
                let paid = push.width..push.width + push.count;
                owed.par_iter_mut()
                    .zip(&lane.slots)
                    .enumerate()
                    .for_each_init(Convolver::default, |convolver, (pair, (owed, slots))| {
                        convolver.transform(&spectrum, &inputs(slots));
                        let y = convolver.convolve(&spectrum, pair);
                        add(&mut owed[sums.clone()], &y[paid.clone()]);
                    });
                continue;
            }
            // In blocks, behind the inputs: as many sums as blocks hold.
            let mut work: Vec<Vec<Complex32>> = lane.slots.iter().map(|s| inputs(s)).collect();
            let unit = UNIT.min(1 << push.width.trailing_zeros());
            let behind = Push {
                from: push.width,
                width: push.width,
                count: push.count.next_multiple_of(unit),
            };
            for work in &mut work {
                work.resize(behind.from + behind.count, Complex32::default());
            }
            self.spectra.push(&mut work, behind, unit);
            for (owed, work) in owed.iter_mut().zip(&work) {
                add(&mut owed[sums.clone()], &work[push.width..][..push.count]);
            }
        }
        Ok(Lane {
            position: 0,
            touched: room,
            slots: owed,
        })
    }

    /// The pushes after position `now` that take inputs before it to the next `room` sums.
    fn coming(&self, now: usize, room: usize) -> Vec<Push> {
        let (ring, end) = (self.ring, now + room);
        let mut pushes = Vec::new();
        for width in (0..usize::BITS)
            .map(|bit| 1 << bit)
            .take_while(|w| *w < ring)
        {
            let from = (now / width + 1) * width;
            // Wider pushes come where a multiple of a greater width is reached.
            if from.trailing_zeros() == width.trailing_zeros()
                && from < end.min(ring)
                && from - width < now
            {
                pushes.push(Push {
                    from,
                    width,
                    count: width.min(ring - from).min(end - from),
                });
            }
        }
        if end > ring && now > 0 {
            pushes.push(Push {
                from: ring,
                width: ring,
                count: end - ring,
            });
        }
        pushes
    }
}
