//! What ops keep on a GPU: their weights, made when first needed there, and their state.

use super::{Gpu, Saved, Stored};
use crate::error::{Error, Kind, Result};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Error as _, Serialize, Serializer};
use std::sync::{Arc, OnceLock};

/// The form of an op on the GPU that its first input lay on.
#[derive(Debug)]
pub(in crate::ops) struct OnGpu<T>(Arc<OnceLock<T>>);

impl<T> OnGpu<T> {
    /// What an earlier call made.
    pub(in crate::ops) fn made(&self) -> Result<&T> {
        let made = self.0.get();
        made.ok_or_else(|| Error::new(Kind::Internal, "an op that has not run on the GPU"))
    }

    pub(in crate::ops) fn get(&self, make: impl FnOnce() -> Result<T>) -> Result<&T> {
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
pub(in crate::ops) struct Carried<T> {
    state: Option<Arc<T>>,
    /// As a file had it, until it is needed on the GPU.
    saved: Option<Arc<Saved>>,
}

impl<T> Carried<T> {
    /// The state to run on from: from `start` the first time, from `fork` while it is shared.
    pub(in crate::ops) fn own(
        &mut self,
        start: impl FnOnce() -> Result<T>,
        fork: impl FnOnce(&T) -> Result<T>,
    ) -> Result<&mut T> {
        let mut state = match self.state.take() {
            None => Arc::new(start()?),
            Some(state) => state,
        };
        if Arc::get_mut(&mut state).is_none() {
            state = Arc::new(fork(&state)?);
        }
        let kept = self.state.insert(state);
        // Made or forked above: nobody else holds it.
        Arc::get_mut(kept).ok_or_else(|| Error::new(Kind::Internal, "a state in use"))
    }

    /// What lanes that go on from lanes of `from` carry, of which an op copies what lies in memory.
    ///
    /// # Errors
    /// Internal: one of them lives on a GPU, and would be lost.
    pub(in crate::ops) fn forked<'a>(from: impl IntoIterator<Item = &'a Self>) -> Result<Self>
    where
        T: 'a,
    {
        let lives = |carried: &Self| carried.state.is_some() || carried.saved.is_some();
        if from.into_iter().any(lives) {
            let what = "a state on a GPU cannot be forked lane by lane";
            return Err(Error::new(Kind::Internal, what));
        }
        Ok(Self::default())
    }

    /// Brings a state that was saved to the GPU.
    pub(in crate::ops) fn resume(&mut self, gpu: &Gpu) -> Result<()>
    where
        T: Stored,
    {
        if let Some(saved) = self.saved.take() {
            self.state = Some(Arc::new(T::restore(gpu, &saved)?));
        }
        Ok(())
    }
}

impl<T> Default for Carried<T> {
    fn default() -> Self {
        Self {
            state: None,
            saved: None,
        }
    }
}

impl<T> Clone for Carried<T> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            saved: self.saved.clone(),
        }
    }
}

impl<T: Stored> Serialize for Carried<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let stored = self.state.as_ref().map(|state| state.store());
        let stored = stored.transpose().map_err(S::Error::custom)?;
        stored
            .as_ref()
            .or(self.saved.as_deref())
            .serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Carried<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let saved = Option::<Saved>::deserialize(deserializer)?;
        Ok(Self {
            state: None,
            saved: saved.map(Arc::new),
        })
    }
}
