//! `.crai` (CRAM specification, section 12): gzipped lines of six numbers.

use super::blocks::Container;
use crate::error::{Error, Result};
use crate::io::alignments::sam::read_line;
use crate::io::indexed::warn_if_older;
use crate::io::input::Input;
use crate::io::source::{beside, exists, shown, with_extension};
use crate::sequence::region::Span;
use std::path::Path;

/// A container that may hold records of a contig.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Where it starts in the file.
    pub offset: u64,
    /// The contig.
    contig: usize,
}

impl Place {
    /// Whether a container found here is the one that is meant.
    pub fn is_of(&self, container: &Container) -> bool {
        container.contig == -2 || usize::try_from(container.contig) == Ok(self.contig)
    }
}

/// The index's name, and the containers that may hold records of `spans`, in file order.
///
/// # Errors
/// Usage if there is no index; Input, naming the line, if it is damaged or points beyond the
/// file's `size`.
pub fn places(path: &Path, spans: &[Span], size: u64) -> Result<(String, Vec<Place>)> {
    let index = [beside(path, ".crai"), with_extension(path, "crai")];
    let Some(index) = index.into_iter().find(|index| exists(index)) else {
        let what = "regions need an index, and there is none";
        let todo = format!("samtools index {}", shown(path));
        return Err(Error::usage(what).file(shown(path)).todo(todo));
    };
    warn_if_older(&index, path);
    let name = shown(&index);
    let mut input = Input::open(&index, false)?;
    let mut places = Vec::new();
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        number += 1;
        let wrong = |what: &str| {
            let place = format!("line {number}");
            Error::input(what)
                .file(&name)
                .place(place)
                .todo("samtools index")
        };
        if !read_line(&mut input, &mut line).map_err(|error| error.file(&name))? {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let fields = text.split('\t').map(str::parse::<i64>);
        let fields: Vec<i64> = fields
            .collect::<Result<_, _>>()
            .map_err(|_| wrong("not a number"))?;
        let [contig, start, length, offset, _, _] = fields[..] else {
            return Err(wrong("expected six numbers"));
        };
        let Ok(offset) = u64::try_from(offset) else {
            return Err(wrong("a negative offset"));
        };
        if offset >= size {
            return Err(wrong(
                "index does not match: it points beyond the file's end",
            ));
        }
        let (start, end) = (start.saturating_sub(1), start.saturating_add(length));
        let wanted = spans.iter().find(|span| {
            i64::try_from(span.contig) == Ok(contig)
                && start < span.end.cast_signed()
                && span.start.cast_signed() < end
        });
        if let Some(span) = wanted {
            let contig = span.contig;
            places.push(Place { offset, contig });
        }
    }
    places.sort_unstable();
    // One container is read once, however many of its slices or contigs are asked for.
    places.dedup_by_key(|place| place.offset);
    Ok((name, places))
}
