//! YAML of names and values, and so JSON of them, as workflows write parameters: `name: value` or
//! `name: [value, value]`.

use super::input::without_mark;
use crate::error::{Error, Result};
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Far above any real file.
const MAX_BYTES: u64 = 1 << 20;

/// A name, and what the file gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// Its line, from 1.
    pub line: usize,
    /// The values as they are written, none for `null`: the reader knows of which type they are.
    pub values: Vec<String>,
}

/// Reads the names of a file in its order.
///
/// # Errors
/// Io. Input, naming the line: not YAML, not names with values, or a name that comes twice.
pub fn read(path: &Path) -> Result<Vec<Named>> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    if let Err(e) = file.take(MAX_BYTES).read_to_string(&mut text) {
        return Err(Error::io(path, &e));
    }
    parse(without_mark(&text)).map_err(|error| error.file(path.display()))
}

fn parse(text: &str) -> Result<Vec<Named>> {
    let mut events = Events(Parser::new_from_str(text));
    let mut found: Vec<Named> = Vec::new();
    loop {
        let (event, line) = events.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) => {}
            Event::MappingStart(..) => break,
            // A file of comments alone has one empty document, or none.
            Event::StreamEnd => return Ok(found),
            Event::Scalar(value, style, ..) if is_null(&value, style) => return Ok(found),
            _ => return Err(unexpected(line)),
        }
    }
    loop {
        let (event, line) = events.next()?;
        let name = match event {
            Event::MappingEnd => break,
            Event::Scalar(name, ..) => name.into_owned(),
            _ => return Err(unexpected(line)),
        };
        if found.iter().any(|named| named.name == name) {
            let what = format!("{name} is there twice");
            return Err(Error::input(what).place(place(line)));
        }
        let values = values(&mut events)?;
        found.push(Named { name, line, values });
    }
    loop {
        match events.next()? {
            (Event::DocumentEnd, _) => {}
            (Event::StreamEnd, _) => return Ok(found),
            (_, line) => return Err(unexpected(line)),
        }
    }
}

/// What stands behind a name.
fn values(events: &mut Events) -> Result<Vec<String>> {
    let (event, line) = events.next()?;
    match event {
        Event::Scalar(value, style, ..) if is_null(&value, style) => return Ok(Vec::new()),
        Event::Scalar(value, ..) => return Ok(vec![value.into_owned()]),
        Event::SequenceStart(..) => {}
        _ => return Err(unexpected(line)),
    }
    let mut values = Vec::new();
    loop {
        let (event, line) = events.next()?;
        match event {
            Event::SequenceEnd => return Ok(values),
            Event::Scalar(value, ..) => values.push(value.into_owned()),
            _ => return Err(unexpected(line)),
        }
    }
}

struct Events<'a>(Parser<'a, saphyr_parser::StrInput<'a>>);

impl<'a> Events<'a> {
    /// What comes next, and its line.
    fn next(&mut self) -> Result<(Event<'a>, usize)> {
        match self.0.next_event() {
            None => Ok((Event::StreamEnd, 0)),
            Some(Ok((event, Span { start, .. }))) => Ok((event, start.line())),
            Some(Err(error)) => {
                let what = format!("not YAML: {}", error.info());
                let place = place(error.marker().line());
                Err(Error::input(what).place(place).caused_by(error))
            }
        }
    }
}

fn is_null(value: &str, style: ScalarStyle) -> bool {
    style == ScalarStyle::Plain && ["", "~", "null"].contains(&value)
}

fn unexpected(line: usize) -> Error {
    Error::input("expected names with values")
        .place(place(line))
        .todo("write lines such as `bin: 128`, or `region: [chr1, chr2]`")
}

fn place(line: usize) -> String {
    format!("line {line}")
}

/// A value as YAML reads it: in quotes, unless it could not be anything else.
pub fn quoted(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._/-+".contains(&b);
    let is_word = value
        .as_bytes()
        .first()
        .is_some_and(u8::is_ascii_alphanumeric);
    if is_word && value.bytes().all(plain) && value != "null" {
        value.to_string()
    } else {
        serde_json::Value::from(value).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, Vec<String>)> {
        let named = parse(text).unwrap().into_iter();
        named.map(|named| (named.name, named.values)).collect()
    }

    #[test]
    fn yaml_and_json_give_the_same_names_and_values() {
        let yaml = "# a run\nbin: 128\nregion:\n  - chr1:1-100\n  - 'chr2'\nforce: true\nrate: 1e-3\nwindow:\n";
        let json = r#"{"bin": 128, "region": ["chr1:1-100", "chr2"], "force": true, "rate": 1e-3, "window": null}"#;
        let found = pairs(yaml);
        assert_eq!(found, pairs(json));
        assert_eq!(found[1].1, ["chr1:1-100", "chr2"]);
        assert_eq!((found[3].1[0].as_str(), found[4].1.len()), ("1e-3", 0));
        assert_eq!(parse(yaml).unwrap()[1].line, 3);
        for empty in ["", "# nothing\n", "---\n", "{}"] {
            assert_eq!(pairs(empty), []);
        }
    }

    #[test]
    fn what_is_not_names_with_values_is_an_error_with_its_line() {
        for (text, line, what) in [
            ("- a\n- b\n", 1, "names with values"),
            ("a: 1\nb:\n  c: 2\n", 3, "names with values"),
            ("a: 1\na: 2\n", 2, "twice"),
            ("a: 1\n---\nb: 2\n", 2, "names with values"),
            ("a: [1, [2]]\n", 1, "names with values"),
            ("a: *b\n", 1, ""),
            ("a: \"x\n", 1, "not YAML"),
            ("bin = 128\n", 1, "names with values"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Input);
            let error = error.to_string();
            let start = format!("line {line}: ");
            assert!(
                error.starts_with(&start) && error.contains(what),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_value_that_is_written_is_read_again() {
        for value in [
            "128",
            "a b",
            "chr1:1-100",
            "null",
            "~",
            "",
            "- x",
            "#c",
            "é\t\"\\",
            "0.5",
            "{a}",
        ] {
            let found = pairs(&format!("name: {}\n", quoted(value)));
            assert_eq!(found, [("name".to_string(), vec![value.to_string()])]);
        }
    }
}
