//! How tables are compressed.

use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::errors::ParquetError;
use serde::{Serialize, Serializer};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// The level for scalar columns: they are small, and it is the best bargain.
const SCALARS: u8 = 3;

/// The level for vectors. Level 3 gains nothing over 1 (smoothed noise, 256 dimensions: float16
/// 0.919 of raw against 0.918, float32 0.852 against 0.843) and float32 is a third slower; at level
/// 1 one core encodes 160 M float16 or 59 M float32 values a second.
const VECTORS: u8 = 1;

/// How the columns of a table are compressed. Its text is `zstd`, `zstd:LEVEL`, `lz4` or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Zstandard at this level, from 1 to 22; without one at 3, and vectors at 1.
    Zstd(Option<u8>),
    /// LZ4 blocks: as large as nothing for vectors, and nearly as fast.
    Lz4,
    /// As they are.
    None,
}

impl Default for Compression {
    fn default() -> Self {
        Self::Zstd(None)
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("zstd", level)) => match level.parse() {
                Ok(level @ 1..=22) => Ok(Self::Zstd(Some(level))),
                _ => Err("the level of zstd is a number from 1 to 22".to_string()),
            },
            None if text == "zstd" => Ok(Self::Zstd(None)),
            None if text == "lz4" => Ok(Self::Lz4),
            None if text == "none" => Ok(Self::None),
            _ => Err("expected zstd, zstd:LEVEL, lz4 or none".to_string()),
        }
    }
}

impl Display for Compression {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Self::Zstd(None) => f.write_str("zstd"),
            Self::Zstd(Some(level)) => write!(f, "zstd:{level}"),
            Self::Lz4 => f.write_str("lz4"),
            Self::None => f.write_str("none"),
        }
    }
}

impl Serialize for Compression {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Compression {
    /// What the file says of scalar columns.
    pub(super) fn of_scalars(self) -> Codec {
        self.codec(SCALARS)
    }

    /// What the file says of vectors.
    pub(super) fn of_vectors(self) -> Codec {
        self.codec(VECTORS)
    }

    fn codec(self, usual: u8) -> Codec {
        match self {
            Self::Zstd(level) => {
                let level = i32::from(level.unwrap_or(usual));
                Codec::ZSTD(ZstdLevel::try_new(level).unwrap_or_default())
            }
            Self::Lz4 => Codec::LZ4_RAW,
            Self::None => Codec::UNCOMPRESSED,
        }
    }

    /// A page of vectors.
    pub(super) fn compress(self, page: Vec<u8>) -> Result<Vec<u8>, ParquetError> {
        Ok(match self {
            Self::Zstd(level) => zstd::bulk::compress(&page, level.unwrap_or(VECTORS).into())?,
            Self::Lz4 => lz4_flex::block::compress(&page),
            Self::None => page,
        })
    }
}
