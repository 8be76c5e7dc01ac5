//! `--shard`: a part of the input, of which several jobs each take one.

use crate::error::{Error, Result};
use crate::sequence::shard::Shard;
use crate::table::footer::ShardRecord;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Shards at most.
const MOST: u64 = 1 << 20;

/// Which part of the input is read.
#[derive(clap::Args, Clone, Copy, Debug, Serialize)]
pub struct Sharding {
    /// Only a part of the input: the I-th of N shards, I/N or I-of-N, from 1. `crocuta check` takes
    /// N alone too, and says what each shard would take.
    #[arg(long, value_name = "I/N", help_heading = "Input")]
    pub shard: Option<Asked>,
}

/// `I/N`, `I-of-N`, or `N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// None: all of them, one after the other.
    index: Option<u64>,
    of: u64,
}

impl Sharding {
    /// The one shard that is read, if one is.
    pub fn one(&self) -> Option<Shard> {
        let Asked { index, of } = self.shard?;
        index.map(|index| Shard { index, of })
    }

    /// How many shards there are, if there are any.
    pub fn count(&self) -> Option<u64> {
        self.shard.map(|asked| asked.of)
    }

    /// All shards, if that many are asked for and none of them is chosen.
    pub fn all(&self) -> Option<impl Iterator<Item = Shard> + use<>> {
        let Asked { index: None, of } = self.shard? else {
            return None;
        };
        Some((1..=of).map(move |index| Shard { index, of }))
    }

    /// The one shard that is read, if one is, for the metadata; `by`: what shards are made of.
    pub fn record(&self, by: impl Into<String>) -> Option<ShardRecord> {
        let Shard { index, of } = self.one()?;
        Some(ShardRecord {
            index,
            of,
            by: by.into(),
            block: None,
        })
    }

    /// An error if it is not said which shard is read.
    ///
    /// # Errors
    /// Usage.
    pub fn must_be_one(&self) -> Result<()> {
        match self.shard {
            Some(Asked { index: None, of }) => {
                let what = format!("--shard {of} does not say which of the {of} shards to read");
                let todo = format!("give --shard 1/{of} to --shard {of}/{of}, one to each job");
                Err(Error::usage(what).todo(todo))
            }
            _ => Ok(()),
        }
    }
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').or_else(|| text.split_once("-of-"));
        let number = |text: &str| text.parse::<u64>().ok();
        let asked = match parts {
            Some((index, of)) => number(index).zip(number(of)).map(|(i, of)| (Some(i), of)),
            None => number(text).map(|of| (None, of)),
        };
        match asked {
            Some((index, of)) if index.is_none_or(|i| (1..=of).contains(&i)) && of > 0 => {
                if of > MOST {
                    return Err(format!("expected at most {MOST} shards"));
                }
                Ok(Self { index, of })
            }
            _ => Err("expected I/N or I-of-N with 1 <= I <= N, such as 1/8".to_string()),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{index}/{}", self.of),
            None => write!(f, "{}", self.of),
        }
    }
}

impl Serialize for Asked {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_written_in_two_ways_and_counted_from_one() {
        let read = |text: &str| text.parse::<Asked>();
        assert_eq!(read("3/8"), read("3-of-8"));
        assert_eq!(read("3-of-8").unwrap().to_string(), "3/8");
        assert_eq!(read("8").unwrap().to_string(), "8");
        for wrong in [
            "0/8",
            "9/8",
            "",
            "/",
            "0",
            "1/0",
            "-1/2",
            "1 of 2",
            "a/b",
            "1/2/3",
            "1/9999999",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
