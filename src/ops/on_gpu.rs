//! What ops keep on a GPU: their weights, made when first needed there, and their state.

use crate::error::{Error, Kind, Result};
use std::sync::{Arc, OnceLock};

/// The form of an op on the GPU that its first input lay on.
#[derive(Debug)]
pub(super) struct OnGpu<T>(Arc<OnceLock<T>>);

impl<T> OnGpu<T> {
    /// The form that an earlier call made.
    pub(super) fn made(&self) -> Result<&T> {
        self.0
            .get()
            .ok_or_else(|| Error::new(Kind::Internal, "an op that was not run on the GPU"))
    }

    pub(super) fn get(&self, make: impl FnOnce() -> Result<T>) -> Result<&T> {
        match self.0.get() {
            Some(made) => Ok(made),
            None => {
                let made = make()?;
                Ok(self.0.get_or_init(|| made))
            }
        }
    }
}

impl<T> Default for OnGpu<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for OnGpu<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A state on the GPU, which forks share until one of them runs on.
#[derive(Debug)]
pub(super) struct Carried<T>(Option<Arc<T>>);

impl<T> Carried<T> {
    /// The state, if there is one on the GPU.
    pub(super) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// The state to run on from: from `start` the first time, from `fork` while it is shared.
    pub(super) fn own(
        &mut self,
        start: impl FnOnce() -> Result<T>,
        fork: impl FnOnce(&T) -> Result<T>,
    ) -> Result<&mut T> {
        let mut state = match self.0.take() {
            None => Arc::new(start()?),
            Some(state) => state,
        };
        if Arc::get_mut(&mut state).is_none() {
            state = Arc::new(fork(&state)?);
        }
        let kept = self.0.insert(state);
        // Made or forked above: nobody else holds it.
        Arc::get_mut(kept).ok_or_else(|| Error::new(Kind::Internal, "a state in use"))
    }
}

impl<T> Default for Carried<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Clone for Carried<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
