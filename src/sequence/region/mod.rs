//! Regions of contigs: how they are written on the command line, and what they mean.
//!
//! Inside, spans are 0-based and half-open; text is 1-based and closed, as samtools has it.

#[cfg(test)]
mod tests;

use super::Contig;
use super::contigs::{listed, must_be_circle, nearest};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The end of a region that goes to the end of its contig, whatever its length.
pub const TO_END: u64 = u64::MAX;

const RULE: &str = "a region is NAME, NAME:BEG or NAME:BEG-END with 1 <= BEG <= END, 1-based and closed; \
     a name that holds ':' may need braces, {NAME}:BEG-END";

/// A part of a named contig, 0-based and half-open; `start < end`.
///
/// Displays as text that [`Query::parse`] reads back, with braces where the name needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The contig's name.
    pub contig: String,
    /// First base.
    pub start: u64,
    /// One past the last base, or [`TO_END`].
    pub end: u64,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.contig.contains(':') || self.contig.starts_with('{') {
            write!(f, "{{{}}}", self.contig)?;
        } else {
            f.write_str(&self.contig)?;
        }
        match (self.start, self.end) {
            (0, TO_END) => Ok(()),
            (start, TO_END) => write!(f, ":{}", start + 1),
            (start, end) => write!(f, ":{}-{end}", start + 1),
        }
    }
}

/// A part of a contig of a dictionary, 0-based and half-open. Orders as tables do: by contig,
/// then start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The contig's place in the dictionary.
    pub contig: usize,
    /// First base.
    pub start: u64,
    /// One past the last base.
    pub end: u64,
}

impl Span {
    /// The same by the contig's name, which alone is all of the contig.
    pub fn region(&self, contigs: &[Contig]) -> Region {
        let Contig { name, length } = &contigs[self.contig];
        let whole = self.start == 0 && self.end == *length;
        region(name, self.start, if whole { TO_END } else { self.end })
    }
}

/// The spans that regions mean, in their order. Their ends are clipped to the contigs, of which
/// only [`Query::resolve`] warns.
///
/// # Errors
/// As [`Query::resolve`].
pub fn spans(queries: &[Query], contigs: &[Contig]) -> Result<Vec<Span>> {
    let names = contigs.iter().map(|contig| contig.name.as_str());
    let places: HashMap<&str, usize> = names.zip(0..).collect();
    let find = |name: &str| places.get(name).copied();
    let span = |query: &Query| query.locate(contigs, find).map(|(span, _)| span);
    queries.iter().map(span).collect()
}

/// Sorts spans by contig and start, and joins those that overlap or touch.
pub fn merge(spans: &mut Vec<Span>) {
    spans.sort_unstable();
    spans.dedup_by(|next, kept| {
        let joins = next.contig == kept.contig && next.start <= kept.end;
        if joins {
            kept.end = kept.end.max(next.end);
        }
        joins
    });
}

/// The names of the contigs that some sorted spans lie on.
pub fn names<'a>(spans: impl IntoIterator<Item = &'a Span>, contigs: &[Contig]) -> Vec<String> {
    let mut places: Vec<usize> = spans.into_iter().map(|span| span.contig).collect();
    places.dedup();
    let names = places.into_iter().map(|place| contigs[place].name.clone());
    names.collect()
}

/// A region as it was asked for. What it means may depend on the names that exist: `HLA:A:1-5`
/// is a part of `HLA:A`, or all of `HLA:A:1-5`.
///
/// `NAME` is a whole contig, `NAME:BEG` goes from BEG to the contig's end, `NAME:BEG-END` names
/// a part; BEG and END may hold commas. These are the spans of `samtools faidx`; its open forms
/// `NAME:-END` and `NAME:BEG-` are refused.
///
/// ```
/// # fn main() -> crocuta::Result<()> {
/// use crocuta::sequence::{Contig, region::{Query, Span}};
/// let contigs = [Contig { name: "chr1".into(), length: 5000 }];
/// let span = Query::parse("chr1:1,001-2,000")?.resolve(&contigs)?;
/// assert_eq!(span, Span { contig: 0, start: 1000, end: 2000 });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    text: String,
    /// What the text may mean: all of a contig of that name, a part of a contig, or both.
    readings: Vec<Region>,
    /// Why it is no region, unless a contig has the whole text for its name.
    fault: Option<String>,
    /// The file and the line that ask for it, if it is not the command line.
    origin: Option<(Arc<str>, u64)>,
    /// The bases of the contig, if that is said to be a circle.
    circle: Option<u64>,
}

impl Query {
    /// Reads the text of one region.
    ///
    /// # Errors
    /// Usage, when no contig's name could make sense of it. A text that only a contig of just
    /// that name would save fails in [`Self::resolve`] and [`Self::check`].
    pub fn parse(text: &str) -> Result<Self> {
        let mut query = Self {
            text: text.to_string(),
            readings: vec![],
            fault: None,
            origin: None,
            circle: None,
        };
        if text.is_empty() {
            return Err(query.error("the name is empty"));
        }
        if let Some((name, span)) = braces(text) {
            if name.is_empty() {
                return Err(query.error("the name is empty"));
            }
            let (start, end) = match span {
                Some(span) => parse_span(span).map_err(|fault| query.error(fault))?,
                None => (0, TO_END),
            };
            query.readings.push(region(name, start, end));
            return Ok(query);
        }
        query.readings.push(region(text, 0, TO_END));
        let Some((name, span)) = text.rsplit_once(':') else {
            return Ok(query);
        };
        let like_a_span = |c: char| c.is_ascii_digit() || c == ',' || c == '-';
        if span.is_empty() || !span.chars().all(like_a_span) {
            return Ok(query);
        }
        match parse_span(span) {
            _ if name.is_empty() => query.fault = Some("the name is empty".to_string()),
            Ok((start, end)) => query.readings.push(region(name, start, end)),
            Err(fault) => query.fault = Some(fault),
        }
        Ok(query)
    }

    /// A region that means just one thing.
    pub fn exact(region: Region) -> Self {
        Self {
            text: region.to_string(),
            readings: vec![region],
            fault: None,
            origin: None,
            circle: None,
        }
    }

    /// The same as a line of a file asks for it.
    #[must_use]
    pub fn of_line(mut self, file: &Arc<str>, line: u64) -> Self {
        self.origin = Some((Arc::clone(file), line));
        self
    }

    /// The same on a circle of so many bases, if the file says so.
    #[must_use]
    pub fn on_circle(mut self, bases: Option<u64>) -> Self {
        self.circle = bases;
        self
    }

    /// The text as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Fails if the text is wrong, unless a contig should have it for its name: for readers that
    /// do not know the names beforehand.
    pub fn check(&self) -> Result<()> {
        match &self.fault {
            Some(fault) => Err(self.error(fault)),
            None => Ok(()),
        }
    }

    /// What is asked of the contig called `name`, if anything.
    pub fn on(&self, name: &str) -> Option<&Region> {
        self.readings.iter().find(|region| region.contig == name)
    }

    /// The names of contigs that this may ask for: one, or two of which one should exist.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.readings.iter().map(|region| region.contig.as_str())
    }

    /// The span that is meant, its end clipped to the contig, with a warning.
    ///
    /// # Errors
    /// Usage, naming the text: unknown contig, ambiguous, or begins beyond the contig's end.
    pub fn resolve(&self, contigs: &[Contig]) -> Result<Span> {
        self.resolve_by(contigs, |name| {
            contigs.iter().position(|contig| contig.name == name)
        })
    }

    /// As [`Self::resolve`], for many regions: `find` gives a name's place in `contigs`.
    pub fn resolve_by(
        &self,
        contigs: &[Contig],
        find: impl Fn(&str) -> Option<usize>,
    ) -> Result<Span> {
        let (span, end) = self.locate(contigs, find)?;
        if end != TO_END {
            self.warn_if_clipped(end, contigs[span.contig].length);
        }
        Ok(span)
    }

    /// The span that is meant, and the end that was asked for.
    fn locate(
        &self,
        contigs: &[Contig],
        find: impl Fn(&str) -> Option<usize>,
    ) -> Result<(Span, u64)> {
        let mut found = None;
        for region in &self.readings {
            if let Some(contig) = find(&region.contig) {
                if found.is_some() {
                    return Err(self.ambiguous());
                }
                found = Some((contig, region));
            }
        }
        let Some((contig, region)) = found else {
            self.check()?;
            return Err(self.unknown(contigs));
        };
        let length = contigs[contig].length;
        self.check_contig(region.start, &contigs[contig])?;
        let span = Span {
            contig,
            start: region.start,
            end: region.end.min(length),
        };
        Ok((span, region.end))
    }

    /// Fails if the region begins at or after the end of its contig, or if that is another circle
    /// than the file says.
    pub fn check_contig(&self, start: u64, contig: &Contig) -> Result<()> {
        if let Some(circle) = self.circle {
            must_be_circle(circle, contig).map_err(|error| self.placed(error))?;
        }
        let length = contig.length;
        if start < length {
            return Ok(());
        }
        let what = format!(
            "region \"{}\": begins at {} of a contig of {length} bases",
            self.text,
            start + 1
        );
        Err(self.refused(what))
    }

    /// Warns if `end` lies beyond the contig.
    pub fn warn_if_clipped(&self, end: u64, length: u64) {
        if end > length {
            let text = crate::error::printable(&self.text);
            tracing::warn!("region {text}: clipped to the contig's end at {length}");
        }
    }

    /// The error for a text that two contigs answer to.
    pub fn ambiguous(&self) -> Error {
        let forms: Vec<_> = self
            .readings
            .iter()
            .map(|region| match (region.start, region.end) {
                (0, TO_END) => format!("{{{}}}", region.contig),
                _ => region.to_string(),
            })
            .collect();
        let what = format!("region \"{}\" is ambiguous", self.text);
        Error::usage(what).todo(format!("write {}", forms.join(" or ")))
    }

    /// The error for a text that none of `contigs` answers to.
    pub fn unknown(&self, contigs: &[Contig]) -> Error {
        let wanted = self.readings.last().map_or("", |region| &region.contig);
        let mut todo = match nearest(wanted, contigs) {
            Some(name) => format!("did you mean \"{name}\"?"),
            None if contigs.is_empty() => String::new(),
            None => format!("is it of another assembly? There are {}", listed(contigs)),
        };
        if self.text.contains([':', '{', ' ']) && self.origin.is_none() {
            let between = match todo.chars().last() {
                None => "",
                Some('?') => " ",
                Some(_) => "; ",
            };
            todo = format!("{todo}{between}{RULE}");
        }
        self.refused(format!("region \"{}\": no such contig", self.text))
            .todo(todo)
    }

    /// The error for what cannot be: of the command line, or of a line of a file.
    fn refused(&self, what: String) -> Error {
        match &self.origin {
            None => Error::usage(what),
            Some(_) => self.placed(Error::input(what)),
        }
    }

    /// An error with the line of the file that asks, if it is not the command line.
    fn placed(&self, error: Error) -> Error {
        match &self.origin {
            None => error,
            Some((file, line)) => error.file(file).place(format!("line {line}")),
        }
    }

    fn error(&self, fault: impl fmt::Display) -> Error {
        Error::usage(format!("region \"{}\": {fault}", self.text)).todo(RULE)
    }
}

fn region(contig: &str, start: u64, end: u64) -> Region {
    Region {
        contig: contig.to_string(),
        start,
        end,
    }
}

/// The name and, if any, the span of `{NAME}` or `{NAME}:SPAN`.
fn braces(text: &str) -> Option<(&str, Option<&str>)> {
    let (name, rest) = text.strip_prefix('{')?.rsplit_once('}')?;
    match rest.strip_prefix(':') {
        Some(span) => Some((name, Some(span))),
        None => rest.is_empty().then_some((name, None)),
    }
}

/// `BEG` or `BEG-END` as a 0-based half-open span.
fn parse_span(span: &str) -> Result<(u64, u64), String> {
    let (start, end) = match span.split_once('-') {
        Some((start, end)) => (position(start)?, position(end)?),
        None => (position(span)?, TO_END),
    };
    if start == 0 {
        return Err("positions begin at 1".to_string());
    }
    if end < start {
        return Err("ends before it begins".to_string());
    }
    Ok((start - 1, end))
}

fn position(text: &str) -> Result<u64, String> {
    let digits = text.replace(',', "");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("\"{text}\" is not a position"));
    }
    match digits.parse::<i64>() {
        Ok(position) => Ok(position.unsigned_abs()),
        Err(_) => Err(format!("\"{text}\" is too large")),
    }
}
