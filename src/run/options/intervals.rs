//! `--intervals`: a row for each gene, peak or window of an annotation.

use crate::error::{Error, Result};
use crate::io::intervals::{self, Annotation};
use crate::run::file_name;
use crate::sequence::interval::{Point, Shape};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;

/// The intervals that have a row each, instead of bases.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct Intervals {
    /// One row for each interval of this BED (BED12: over its exons), GFF3 or GTF file. On
    /// a circular contig (GFF3: Is_circular=true) what goes over the origin, with --around,
    /// --upstream and --downstream, goes on at the other end.
    #[arg(
        long,
        value_name = "FILE",
        group = "pooled",
        conflicts_with_all = ["region", "regions_file", "keep_overlaps", "reference"],
        help_heading = "Intervals"
    )]
    #[serde(skip)]
    pub intervals: Option<PathBuf>,
    /// The features of GFF3 and GTF that are intervals: column 3 [default: gene].
    #[arg(
        long,
        value_name = "TYPE",
        requires = "intervals",
        help_heading = "Intervals"
    )]
    feature: Option<String>,
    /// Bases more before each interval, along its strand.
    #[arg(
        long,
        value_name = "BASES",
        default_value_t = 0,
        requires = "intervals",
        help_heading = "Intervals"
    )]
    upstream: u32,
    /// Bases more behind each interval, along its strand.
    #[arg(
        long,
        value_name = "BASES",
        default_value_t = 0,
        requires = "intervals",
        help_heading = "Intervals"
    )]
    downstream: u32,
    /// Instead of each interval so many bases on either side of its start, end or centre, along its
    /// strand: --around start 1000 is a window of 2,000 bases around the start of transcription.
    #[arg(
        long,
        num_args = 2,
        value_names = ["POINT", "BASES"],
        requires = "intervals",
        help_heading = "Intervals"
    )]
    around: Vec<String>,
}

impl Intervals {
    /// Reads the file, and gives the intervals their shape, which may leave some without a base;
    /// none without the option. With `allow_empty` there may be no intervals.
    ///
    /// # Errors
    /// Usage: --around is not understood; those of the reader.
    pub fn read(&self, allow_empty: bool) -> Result<Option<Annotation>> {
        let shape = self.shape()?;
        let Some(path) = &self.intervals else {
            return Ok(None);
        };
        let mut read = intervals::read(path, self.feature.as_deref(), allow_empty)?;
        let all = std::mem::take(&mut read.intervals);
        let count = all.len();
        let shaped = all.into_iter();
        let shaped = shaped.filter_map(|interval| shape.apply(interval));
        let shaped: Vec<_> = shaped.collect();
        if shaped.is_empty() && count > 0 {
            let error = Error::usage("--around 0 leaves no base of any interval");
            return Err(error.todo("add --upstream or --downstream"));
        }
        Ok(Some(Annotation {
            empty: read.empty + (count - shaped.len()) as u64,
            intervals: shaped,
            feature: read.feature,
            others: read.others,
        }))
    }

    fn shape(&self) -> Result<Shape> {
        let around = match &self.around[..] {
            [point, bases] => {
                let point = match point.as_str() {
                    "start" => Some(Point::Start),
                    "end" => Some(Point::End),
                    "center" | "centre" => Some(Point::Centre),
                    _ => None,
                };
                let around = point.zip(bases.parse::<u32>().ok());
                let (point, bases) = around.ok_or_else(|| {
                    Error::usage("--around is not understood")
                        .todo("give start, end or center, and a number of bases")
                })?;
                Some((point, u64::from(bases)))
            }
            _ => None,
        };
        Ok(Shape {
            around,
            upstream: u64::from(self.upstream),
            downstream: u64::from(self.downstream),
        })
    }

    /// What the intervals are, for the metadata; `feature`: of which type, if the file has types.
    pub fn params(&self, feature: Option<&str>) -> Vec<(&'static str, Value)> {
        let Some(path) = &self.intervals else {
            return Vec::new();
        };
        let mut params = vec![("intervals", json!(file_name(path)))];
        params.extend(feature.map(|feature| ("feature", json!(feature))));
        for (name, bases) in [("upstream", self.upstream), ("downstream", self.downstream)] {
            if bases > 0 {
                params.push((name, json!(bases)));
            }
        }
        if !self.around.is_empty() {
            params.push(("around", json!(self.around.join(" "))));
        }
        params
    }
}
