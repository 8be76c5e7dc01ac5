//! The mixers of a layer: a Mamba or a Mamba-2 in each direction, between the projections in and
//! out that both share.

use crate::checkpoint::{CaduceusLayers, Weights};
use crate::encoder::{Segment, mamba, mamba2};
use crate::error::{Error, Kind, Result};
use crate::ops::{Linear, Tensor};

/// The sizes of a layer's mixers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MixerSizes {
    /// Mamba's.
    Mamba(mamba::MixerSizes),
    /// Mamba-2's.
    Mamba2(mamba2::MixerSizes),
}

impl MixerSizes {
    /// Reads `ssm_cfg`.
    pub(super) fn read(layers: &CaduceusLayers, width: usize) -> Result<Self> {
        Ok(if layers.mamba2 {
            Self::Mamba2(mamba2::MixerSizes::read(&layers.mixer, width)?)
        } else {
            Self::Mamba(mamba::MixerSizes::read(&layers.mixer, width)?)
        })
    }

    /// I.
    pub(super) fn inner(&self) -> usize {
        match self {
            Self::Mamba(sizes) => sizes.inner,
            Self::Mamba2(sizes) => sizes.scan.inner(),
        }
    }

    /// Width of the projection in.
    pub(super) fn projected(&self) -> usize {
        match self {
            Self::Mamba(sizes) => 2 * sizes.inner,
            Self::Mamba2(sizes) => sizes.projected(),
        }
    }

    /// The projections in and out have a bias.
    pub(super) fn bias(&self) -> bool {
        match self {
            Self::Mamba(sizes) => sizes.bias,
            Self::Mamba2(sizes) => sizes.bias,
        }
    }

    /// Operations a token in the matrix products of both directions.
    pub(super) fn flops(&self) -> usize {
        match self {
            Self::Mamba(sizes) => 2 * sizes.flops() + sizes.flops_in_out(),
            Self::Mamba2(sizes) => 2 * sizes.scan.flops() + sizes.flops_in_out(),
        }
    }
}

/// Where a mixer begins and ends.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    /// From the first token to the last.
    Rightward,
    /// From the last token to the first.
    Leftward,
}

/// One for each direction.
pub(super) struct Pair<S> {
    rightward: S,
    leftward: S,
}

impl<S> Pair<S> {
    fn of(&self, direction: Direction) -> &S {
        match direction {
            Direction::Rightward => &self.rightward,
            Direction::Leftward => &self.leftward,
        }
    }
}

/// The mixers of a layer, without the projection out.
pub(super) enum Mixer {
    Mamba {
        in_u: Linear,
        in_z: Linear,
        spaces: Pair<mamba::StateSpace>,
    },
    Mamba2 {
        into: mamba2::ProjectionIn,
        spaces: Pair<mamba2::StateSpace>,
    },
}

/// What a direction leaves behind where a sequence is cut.
pub(super) enum Carry {
    Mamba(mamba::Carry),
    Mamba2(mamba2::Carry),
}

impl Mixer {
    /// Of the projection in, and of the weights of the mixers to the right and to the left.
    pub fn load(
        sizes: &MixerSizes,
        into: (Tensor, Option<Tensor>),
        [right, left]: [&Weights; 2],
    ) -> Result<Self> {
        Ok(match sizes {
            MixerSizes::Mamba(sizes) => {
                let (in_u, in_z) = mamba::halves(into, right.rounded())?;
                let spaces = Pair {
                    rightward: mamba::StateSpace::load(sizes, right)?,
                    leftward: mamba::StateSpace::load(sizes, left)?.reversed(),
                };
                Self::Mamba { in_u, in_z, spaces }
            }
            MixerSizes::Mamba2(sizes) => {
                let into = mamba2::ProjectionIn::new(&sizes.scan, into, right.rounded())?;
                let spaces = Pair {
                    rightward: mamba2::StateSpace::load(sizes, right)?,
                    leftward: mamba2::StateSpace::load(sizes, left)?.reversed(),
                };
                Self::Mamba2 { into, spaces }
            }
        })
    }

    /// Of one sequence that has not begun.
    pub fn start(&self, direction: Direction) -> Carry {
        match self {
            Self::Mamba { spaces, .. } => Carry::Mamba(spaces.of(direction).start(1)),
            Self::Mamba2 { spaces, .. } => Carry::Mamba2(spaces.of(direction).start(1)),
        }
    }

    /// One direction: (T, D) to (T, I).
    pub fn one(
        &self,
        y: &Tensor,
        direction: Direction,
        carry: &mut Carry,
        segments: &[Segment],
    ) -> Result<Tensor> {
        match (self, carry) {
            (Self::Mamba { in_u, in_z, spaces }, Carry::Mamba(carry)) => {
                let (u, z) = (in_u.forward_rounded(y)?, in_z.forward_rounded(y)?); // (T, I)
                let space = spaces.of(direction);
                space.forward(&u, None, Some(&z), carry, segments)
            }
            (Self::Mamba2 { into, spaces }, Carry::Mamba2(carry)) => {
                let (xbc, steps) = (into.xbc.forward_rounded(y)?, into.steps.forward(y)?);
                let space = spaces.of(direction);
                let scanned = space.forward(&xbc, &steps, carry, segments)?; // (T, I)
                space.gated(&scanned, &into.z.forward_rounded(y)?)
            }
            _ => Err(Error::new(Kind::Internal, "a state of another mixer")),
        }
    }

    /// Both directions of whole sequences: (T, D) to twice (T, I).
    pub fn both(&self, y: &Tensor, segments: &[Segment]) -> Result<[Tensor; 2]> {
        match self {
            Self::Mamba { in_u, in_z, spaces } => {
                let (u, z) = (in_u.forward_rounded(y)?, in_z.forward_rounded(y)?); // (T, I)
                let run = |space: &mamba::StateSpace| {
                    space.forward(&u, None, Some(&z), &mut space.start(1), segments)
                };
                Ok([run(&spaces.rightward)?, run(&spaces.leftward)?])
            }
            Self::Mamba2 { into, spaces } => {
                let (xbc, steps) = (into.xbc.forward_rounded(y)?, into.steps.forward(y)?);
                let run = |space: &mamba2::StateSpace| {
                    space.forward(&xbc, &steps, &mut space.start(1), segments)
                };
                let (right, left) = (run(&spaces.rightward)?, run(&spaces.leftward)?);
                let z = into.z.forward_rounded(y)?; // (T, I)
                let right = spaces.rightward.gated(&right, &z)?;
                Ok([right, spaces.leftward.gated(&left, &z)?])
            }
        }
    }

    /// The sum of both: (T, D) to (T, I).
    pub fn sum(&self, y: &Tensor, segments: &[Segment]) -> Result<Tensor> {
        let Self::Mamba { in_u, in_z, spaces } = self else {
            let [right, left] = self.both(y, segments)?;
            return right.add(&left);
        };
        // The gate is the same for both directions.
        let (u, z) = (in_u.forward_rounded(y)?, in_z.forward_rounded(y)?); // (T, I)
        let (right, left) = (&spaces.rightward, &spaces.leftward);
        let y = right.forward(&u, None, None, &mut right.start(1), segments)?; // (T, I)
        left.forward(&u, Some(&y), Some(&z), &mut left.start(1), segments)
    }
}
