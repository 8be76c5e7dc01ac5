//! What the program says while it works: on stderr, and in a file.

use crate::error::{Error, Result};
use crate::stream;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What is said, and how.
#[derive(clap::Args, Clone, Debug)]
pub struct Logging {
    /// Say only warnings and errors, show no progress.
    #[arg(short, long, global = true, help_heading = "Messages")]
    pub quiet: bool,
    /// Say more: the files of the run, and how it is computed.
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "quiet",
        help_heading = "Messages"
    )]
    verbose: bool,
    /// How log lines look.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        help_heading = "Messages"
    )]
    log_format: LogFormat,
    /// Append log lines to this file too, with the time of each.
    #[arg(long, value_name = "FILE", global = true, help_heading = "Messages")]
    log_file: Option<PathBuf>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The target of what has been printed on stderr already.
const FILE_ONLY: &str = "crocuta_file";

impl Logging {
    /// How progress is shown under these options.
    pub fn progress(&self) -> stream::Style {
        match (self.quiet, self.log_format) {
            (true, _) => stream::Style::None,
            (false, LogFormat::Text) if std::io::stderr().is_terminal() => stream::Style::Bar,
            _ => stream::Style::Lines,
        }
    }

    /// Begins to log.
    ///
    /// # Errors
    /// Io; Usage: the file is no log of this program's.
    pub fn start(&self) -> Result<()> {
        let level = match (self.quiet, self.verbose) {
            (true, _) => Level::WARN,
            (_, true) => Level::DEBUG,
            _ => Level::INFO,
        };
        let own = Targets::new()
            .with_default(Level::WARN)
            .with_target("crocuta", level);
        let on_stderr = own
            .clone()
            .with_target(FILE_ONLY, tracing::level_filters::LevelFilter::OFF);
        let json = self.log_format == LogFormat::Json;
        // A log that cannot be written is lost; to say so on stderr would panic.
        let layer = || {
            tracing_subscriber::fmt::layer()
                .with_target(false)
                .with_ansi(false)
                .log_internal_errors(false)
        };
        let stderr = layer().with_writer(std::io::stderr);
        let stderr = if json {
            stderr.json().boxed()
        } else {
            stderr.event_format(Lines { timed: false }).boxed()
        };
        let mut layers = vec![stderr.with_filter(on_stderr).boxed()];
        if let Some(path) = &self.log_file {
            let file = layer().with_writer(Arc::new(open(path)?));
            let file = if json {
                file.json().boxed()
            } else {
                file.event_format(Lines { timed: true }).boxed()
            };
            layers.push(file.with_filter(own).boxed());
        }
        let all = tracing_subscriber::registry().with(layers);
        // Fails only if a logger was set before.
        let _ = all.try_init();
        Ok(())
    }
}

/// Opens a log to go on with. What holds anything else is left alone: a table or a genome that is
/// named by mistake.
fn open(path: &Path) -> Result<File> {
    let failed = |e: std::io::Error| Error::io(path, &e);
    let mut options = File::options();
    let mut file = options
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .map_err(failed)?;
    let mut start = [0; 64];
    let length = file.read(&mut start).map_err(failed)?;
    let start = String::from_utf8_lossy(&start[..length]);
    let text = start
        .split_once(' ')
        .is_some_and(|(time, rest)| time.ends_with('Z') && rest.starts_with("crocuta: "));
    if length > 0 && !text && !start.starts_with("{\"timestamp\":") {
        let error = Error::usage("exists, and is no log of crocuta's").file(path.display());
        return Err(error.todo("give another name to --log-file"));
    }
    file.seek(SeekFrom::End(0)).map_err(failed)?;
    Ok(file)
}

/// `crocuta: warning: …`, one line an event.
struct Lines {
    /// After the time.
    timed: bool,
}

impl<S, N> tracing_subscriber::fmt::FormatEvent<S, N> for Lines
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    N: for<'a> tracing_subscriber::fmt::FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &tracing_subscriber::fmt::FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            _ => "",
        };
        let mut fields = String::new();
        use tracing_subscriber::fmt::FormatFields as _;
        context.format_fields(Writer::new(&mut fields), event)?;
        if self.timed {
            SystemTime.format_time(&mut writer)?;
            writer.write_char(' ')?;
        }
        let text = crate::error::printable(&fields);
        writeln!(writer, "crocuta: {level}{text}")
    }
}

/// Reports an error, on stderr in any case, which may be closed.
pub fn fail(error: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "crocuta: error: {error}");
    tracing::error!(target: FILE_ONLY, "{error}");
}
