//! What a model gives for a step, while the device may still be at work on it.

use crate::error::Result;
use crate::io::spill::Scratch;
use crate::ops::Later;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Numbers that are read, or that the device is still at work on: the next step begins meanwhile.
pub enum Coming {
    /// They are there.
    Read(Vec<f32>),
    /// The device is at work on them.
    Later(Later),
    /// So many numbers, from this one of a scratch file on.
    Aside(Arc<Scratch>, u64, usize),
}

impl Default for Coming {
    fn default() -> Self {
        Self::Read(Vec::new())
    }
}

impl Coming {
    /// Waits for them.
    pub fn read(self) -> Result<Vec<f32>> {
        match self {
            Self::Read(values) => Ok(values),
            Self::Later(values) => values.read(),
            Self::Aside(scratch, start, count) => {
                let mut values = vec![0.0; count];
                scratch.read_numbers(start, &mut values)?;
                Ok(values)
            }
        }
    }

    /// Waits for them, and writes them to a scratch file.
    pub fn put_aside(self, aside: &mut Aside) -> Result<Self> {
        let values = match self {
            Self::Aside(..) => return Ok(self),
            other => other.read()?,
        };
        let (scratch, end) = match aside.file.take() {
            Some(file) => file,
            None => (Arc::new(Scratch::create(&aside.directory)?), 0),
        };
        scratch.write_numbers(end, &values)?;
        aside.file = Some((Arc::clone(&scratch), end + values.len() as u64));
        Ok(Self::Aside(scratch, end, values.len()))
    }
}

/// Where what comes of one sequence waits for those before it: a scratch file, made when it is
/// needed, whose space is free when the last number was read.
pub struct Aside {
    directory: PathBuf,
    /// And how many numbers it has.
    file: Option<(Arc<Scratch>, u64)>,
}

impl Aside {
    /// A file in `directory`.
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
            file: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_from_the_scratch_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut aside = Aside::new(directory.path());
        let all = [
            vec![1.5, -2.0],
            Vec::new(),
            vec![f32::NAN.to_bits() as f32, 3.0],
        ];
        let put = all.clone().map(|values| {
            let values = Coming::Read(values).put_aside(&mut aside).unwrap();
            // Once is enough.
            values.put_aside(&mut aside).unwrap()
        });
        assert_eq!(put.map(|values| values.read().unwrap()), all);
    }
}
