//! Reverse-mode differentiation: each op that takes part says how a gradient passes back through
//! it; [`Tensor::backward`] walks from a result to its parameters.

use super::Tensor;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(test)]
pub(crate) mod check;

/// The gradient of an op's output to those of its inputs, in their order.
type Backward = Box<dyn Fn(&Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// How a tensor was computed.
pub(super) struct Node {
    /// Later results have larger numbers.
    id: u64,
    parents: Vec<Tensor>,
    /// None for a parameter.
    backward: Option<Backward>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "node {}", self.id)
    }
}

impl Node {
    fn new(parents: Vec<Tensor>, backward: Option<Backward>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            parents,
            backward,
        })
    }
}

/// Gradients of the parameters that a result depends on.
#[derive(Default)]
pub struct Gradients(BTreeMap<u64, Tensor>);

impl Gradients {
    /// The gradient with respect to a parameter; none if the result does not depend on it.
    pub fn of(&self, parameter: &Tensor) -> Option<&Tensor> {
        self.0.get(&parameter.node.as_ref()?.id)
    }
}

impl Tensor {
    /// The same values as a parameter: what is computed from it can be differentiated.
    #[must_use]
    pub fn parameter(&self) -> Self {
        let mut leaf = self.clone();
        leaf.node = Some(Node::new(Vec::new(), None));
        leaf
    }

    /// The same values as a constant.
    #[must_use]
    pub fn detach(&self) -> Self {
        let mut constant = self.clone();
        constant.node = None;
        constant
    }

    /// Whether gradients pass to this tensor and to the other one as to one.
    pub(in crate::ops) fn is_same(&self, other: &Self) -> bool {
        match (&self.node, &other.node) {
            (Some(a), Some(b)) => a.id == b.id,
            _ => false,
        }
    }

    /// Whether gradients pass through this tensor.
    pub fn is_tracked(&self) -> bool {
        self.node.is_some()
    }

    /// Says that this tensor was computed from `parents`, and how gradients pass back to them.
    /// Where no parent is tracked, nothing is kept.
    #[must_use]
    pub(crate) fn derived<const N: usize>(
        self,
        parents: [&Tensor; N],
        backward: impl Fn(&Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static,
    ) -> Self {
        self.derived_from(&parents.map(Tensor::clone), move |grad| {
            backward(grad).map(Vec::from)
        })
    }

    /// [`Tensor::derived`] for any number of parents.
    #[must_use]
    pub(crate) fn derived_from(
        mut self,
        parents: &[Tensor],
        backward: impl Fn(&Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
    ) -> Self {
        if parents.iter().any(Tensor::is_tracked) {
            self.node = Some(Node::new(parents.to_vec(), Some(Box::new(backward))));
        }
        self
    }

    /// Gradients of `Σ self · seed` with respect to every parameter it was computed from; `seed`
    /// has this tensor's shape.
    ///
    /// # Errors
    /// Internal: this tensor depends on no parameter.
    pub fn backward(&self, seed: Tensor) -> Result<Gradients> {
        let Some(node) = &self.node else {
            return Err(Error::new(Kind::Internal, "nothing to differentiate"));
        };
        let mut gradients = Gradients::default();
        // A node's number is larger than its parents': the largest has all of its gradient.
        let mut pending =
            BTreeMap::from([(node.id, (Arc::clone(node), self.device().clone(), seed))]);
        while let Some((id, (node, device, gradient))) = pending.pop_last() {
            // A weight's gradient returns to memory. Weights are older than all that is computed
            // from them, so that the first of them waits for the GPU, and nothing is left to do there.
            let gradient = gradient.to_device(&device)?;
            let Some(backward) = &node.backward else {
                gradients.0.insert(id, gradient);
                continue;
            };
            for (parent, part) in node.parents.iter().zip(backward(&gradient)?) {
                let (Some(node), Some(part)) = (&parent.node, part) else {
                    continue;
                };
                let sum = match pending.remove(&node.id) {
                    // One of them may have come by a weight in memory, the other by the GPU.
                    Some((.., sum)) => sum.add(&part.to_device(sum.device())?)?,
                    None => part,
                };
                pending.insert(node.id, (Arc::clone(node), parent.device().clone(), sum));
            }
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests;
