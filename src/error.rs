//! The one error type, and the exit code that each kind of error gives.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What went wrong, as far as a scheduler needs to know: each kind is one exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The reader of the output has left, as `head` does: no more was wanted, nothing is wrong.
    Unread = 0,
    /// A bug in crocuta.
    Internal = 1,
    /// The command line asks for something that cannot be.
    Usage = 2,
    /// An input is damaged or contradicts another input.
    Input = 3,
    /// The model is missing, damaged, or does not match its digest.
    Model = 4,
    /// A file cannot be read or written: missing, no permission, disk full.
    Io = 5,
    /// The run finished, records failed, and `--strict` was given.
    Strict = 6,
    /// SIGINT.
    Interrupted = 130,
    /// Out of memory, on the host or the device.
    Memory = 137,
    /// SIGTERM.
    Terminated = 143,
}

/// An error that names the file, the place in it, what is wrong, and what to do.
///
/// It prints as one line: `<file>: <place>: <what>: <what to do>`, parts that are empty left
/// out, control characters from inputs escaped. What another library or the system said is kept as
/// its [`source`](std::error::Error::source).
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    file: String,
    place: String,
    what: String,
    todo: String,
    cause: Option<Cause>,
}

/// Shared, as errors are cloned where several readers must fail with the same one.
type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `what` is lower case, without a full stop.
    pub fn new(kind: Kind, what: impl fmt::Display) -> Self {
        Self {
            kind,
            file: String::new(),
            place: String::new(),
            what: what.to_string(),
            todo: String::new(),
            cause: None,
        }
    }

    /// An error of `kind` that says what `error` says, and has it as its cause.
    pub fn because(kind: Kind, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::new(kind, &error).caused_by(error)
    }

    /// The command line asks for something that cannot be (exit 2).
    pub fn usage(what: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// An input is damaged (exit 3).
    pub fn input(what: impl fmt::Display) -> Self {
        Self::new(Kind::Input, what)
    }

    /// The model is missing or damaged (exit 4).
    pub fn model(what: impl fmt::Display) -> Self {
        Self::new(Kind::Model, what)
    }

    /// The operating system refused to read or write `path` (exit 5, or 0 for a pipe that nobody
    /// reads any more).
    pub fn io(path: &Path, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::BrokenPipe => Kind::Unread,
            _ => Kind::Io,
        };
        // It cannot be cloned: made anew from what the system said, or from its words.
        let again = match error.raw_os_error() {
            Some(code) => std::io::Error::from_raw_os_error(code),
            None => std::io::Error::new(error.kind(), error.to_string()),
        };
        Self::new(kind, error).file(path.display()).caused_by(again)
    }

    /// Memory would not suffice (exit 137).
    pub fn memory(what: impl fmt::Display) -> Self {
        Self::new(Kind::Memory, what)
    }

    /// The file in question; the outermost caller that knows it says it, a later one does not
    /// overwrite it.
    #[must_use]
    pub fn file(mut self, file: impl fmt::Display) -> Self {
        if self.file.is_empty() {
            self.file = file.to_string();
        }
        self
    }

    /// The place in the file: a line, a record, a tensor, a key.
    #[must_use]
    pub fn place(mut self, place: impl fmt::Display) -> Self {
        if self.place.is_empty() {
            self.place = place.to_string();
        }
        self
    }

    /// What the user can do about it.
    #[must_use]
    pub fn todo(mut self, todo: impl fmt::Display) -> Self {
        if self.todo.is_empty() {
            self.todo = todo.to_string();
        }
        self
    }

    /// The error of another library, or of the system, that is behind this one. It is not printed:
    /// `what` says of it what a user needs.
    #[must_use]
    pub fn caused_by(mut self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(Arc::from(error.into()));
        self
    }

    /// The kind of error.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        self.kind as u8
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.file, &self.place, &self.what, &self.todo];
        let line = parts
            .iter()
            .filter(|part| !part.is_empty())
            .map(|part| printable(part))
            .collect::<Vec<_>>()
            .join(": ");
        f.write_str(&line)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let cause: &(dyn std::error::Error + 'static) = self.cause.as_deref()?;
        Some(cause)
    }
}

/// Tensor operations fail only on shapes, types and devices that we chose ourselves.
impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::new(Kind::Internal, format!("tensor operation: {error}")).caused_by(error)
    }
}

/// `text` with control characters escaped: names come from inputs, messages go to a terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            match c {
                '\n' | '\r' | '\t' => out.push(' '),
                _ if (c as u32) < 0x100 => out.push_str(&format!("\\x{:02x}", c as u32)),
                _ => out.extend(c.escape_unicode()),
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_without_raw_control_characters() {
        let error = Error::input("bad\x1b[31m\nname")
            .file("a.fa")
            .place("line 3")
            .todo("rename it");
        assert_eq!(
            error.to_string(),
            "a.fa: line 3: bad\\x1b[31m name: rename it"
        );
    }

    #[test]
    fn an_error_keeps_its_cause_and_prints_as_before() {
        use std::error::Error as _;
        let missing = std::fs::File::open("/nowhere/at/all").unwrap_err();
        let error = Error::io(Path::new("a.fa"), &missing);
        assert_eq!(error.to_string(), format!("a.fa: {missing}"));
        let source = error.source().unwrap().downcast_ref::<std::io::Error>();
        assert_eq!(source.unwrap().raw_os_error(), missing.raw_os_error());
        let made = std::io::Error::new(std::io::ErrorKind::BrokenPipe, "left");
        let error = Error::io(Path::new("-"), &made);
        assert_eq!(error.kind(), Kind::Unread);
        assert_eq!(error.clone().source().unwrap().to_string(), "left");
        let number = "x".parse::<u8>().unwrap_err();
        let error = Error::because(Kind::Input, number.clone());
        assert_eq!(error.to_string(), number.to_string());
        assert!(error.source().unwrap().is::<std::num::ParseIntError>());
        assert!(Error::usage("no").source().is_none());
    }

    #[test]
    fn the_documented_exit_codes_are_those_of_the_code() {
        use Kind::*;
        let kinds = [
            Internal,
            Usage,
            Input,
            Model,
            Io,
            Strict,
            Interrupted,
            Memory,
            Terminated,
        ];
        let table = include_str!("../docs/exit-codes.md");
        let rows = table.lines().filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            Some((cells.next()?.parse::<u8>().ok()?, cells.next()?.to_string()))
        });
        let success = (0, String::new());
        let codes = kinds.map(|kind| (Error::new(kind, "").exit_code(), format!("{kind:?}")));
        let expected: Vec<_> = std::iter::once(success).chain(codes).collect();
        assert_eq!(rows.collect::<Vec<_>>(), expected);
        // A kind that is added here must be added to both lists.
        match Internal {
            // Exits as success does.
            Unread => {}
            Internal | Usage | Input | Model | Io | Strict | Interrupted | Memory | Terminated => {}
        }
    }
}
