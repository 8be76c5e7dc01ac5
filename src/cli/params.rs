//! `--params` and `--write-params`: the options of a command in a file of YAML or JSON.

use super::Cli;
use crate::error::{Error, Result};
use crate::io::atomic::OutputSet;
use crate::io::yaml::{self, Named};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

/// Options of a command in a file.
#[derive(clap::Args, Clone, Debug)]
pub struct Params {
    /// Read options from this file of YAML or JSON: their long names without --, and those of the
    /// inputs, with values, lists of them, true or false. What the command line says wins.
    #[arg(long, value_name = "FILE", global = true, help_heading = "Parameters")]
    params: Option<PathBuf>,
    /// Write all options of this run to a file that --params reads.
    #[arg(long, value_name = "FILE", global = true, help_heading = "Parameters")]
    write_params: Option<PathBuf>,
}

/// What no file of parameters says.
const NOT_PARAMETERS: [&str; 4] = ["help", "version", "params", "write_params"];

/// Names that are more alike than this, of 1,000, are one name misspelt.
const ALIKE: u32 = 800;

impl Params {
    /// Begins the file of `--write-params`, which takes its name with the commit.
    ///
    /// # Errors
    /// Usage: it exists; Io.
    pub fn write(&self, matches: &ArgMatches) -> Result<OutputSet> {
        let files = OutputSet::default();
        if let Some(path) = &self.write_params {
            let (command, matches) = called(&built(), matches);
            let mut file = files.create(path, false)?;
            let text = written(&command, matches)?;
            file.write_all(text.as_bytes())
                .map_err(|e| Error::io(path, &e))?;
            file.finish()?;
        }
        Ok(files)
    }
}

/// The words of a command line, and for each option that the file of its `--params` has and they
/// have not, words that say the same; and that file.
///
/// # Errors
/// Those of the file; Usage: the command has no such option, or not with such a value.
pub fn expand(mut words: Vec<OsString>) -> Result<(Vec<OsString>, Option<PathBuf>)> {
    let lenient = Cli::command().ignore_errors(true);
    // Help and versions are asked for: no file is read.
    let Ok(matches) = lenient.try_get_matches_from(&words) else {
        return Ok((words, None));
    };
    let (command, matches) = called(&built(), &matches);
    let Some(path) = matches.get_one::<PathBuf>("params") else {
        return Ok((words, None));
    };
    let (mut options, mut inputs) = (Vec::new(), Vec::new());
    for named in yaml::read(path)? {
        let arg = find(&command, &named).map_err(|error| error.file(path.display()))?;
        if matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine) {
            continue;
        }
        match arg.get_index() {
            Some(index) => inputs.push((index, named.values)),
            None => {
                let said = said(arg, named).map_err(|error| error.file(path.display()))?;
                options.extend(said);
            }
        }
    }
    inputs.sort();
    let inputs: Vec<OsString> = inputs
        .into_iter()
        .flat_map(|(_, values)| values)
        .map(OsString::from)
        .collect();
    let end = words.iter().position(|word| word == "--");
    let at = end.unwrap_or(words.len());
    words.splice(at..at, options);
    if end.is_none() && !inputs.is_empty() {
        words.push("--".into());
    }
    words.extend(inputs);
    Ok((words, Some(path.clone())))
}

/// The program's commands, with what clap adds to them.
pub fn built() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// The innermost subcommand that is called, and what was said to it.
pub fn called<'a>(command: &Command, matches: &'a ArgMatches) -> (Command, &'a ArgMatches) {
    match matches.subcommand() {
        Some((name, below)) => match command.find_subcommand(name) {
            Some(command) => called(command, below),
            None => (command.clone(), matches),
        },
        None => (command.clone(), matches),
    }
}

/// The options and inputs that a file may name.
fn parameters(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !NOT_PARAMETERS.contains(&arg.get_id().as_str()))
}

/// An option's long name, or an input's.
fn name(arg: &Arg) -> &str {
    arg.get_long().unwrap_or(arg.get_id().as_str())
}

fn find<'a>(command: &'a Command, named: &Named) -> Result<&'a Arg> {
    let found = parameters(command).find(|arg| name(arg) == named.name);
    found.ok_or_else(|| {
        let likeness = |name: &&str| (strsim::jaro_winkler(name, &named.name) * 1000.0) as u32;
        let nearest = parameters(command).map(name).max_by_key(likeness);
        let nearest = nearest.filter(|name| likeness(name) > ALIKE);
        let command = command.get_bin_name().unwrap_or("crocuta");
        let what = format!("{command} has no option {}", named.name);
        Error::usage(what)
            .place(format!("line {}", named.line))
            .todo(nearest.map_or_else(
                || format!("see {command} --help"),
                |name| format!("did you mean {name}?"),
            ))
    })
}

/// The words that give an option its values.
fn said(arg: &Arg, named: Named) -> Result<Vec<OsString>> {
    let Named { name, line, values } = named;
    let option = format!("--{name}");
    let wrong = |what: &str| {
        let error = Error::usage(format!("{name} {what}"));
        Err(error.place(format!("line {line}")))
    };
    if !arg.get_action().takes_values() {
        return match values.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["true"] => Ok(vec![option.into()]),
            ["false"] | [] => Ok(Vec::new()),
            _ => wrong("is true or false"),
        };
    }
    let each = |value: &String| OsString::from(format!("{option}={value}"));
    let many = arg
        .get_num_args()
        .is_some_and(|count| count.max_values() > 1);
    if many && !values.is_empty() {
        let words = std::iter::once(option.into()).chain(values.into_iter().map(OsString::from));
        return Ok(words.collect());
    }
    if values.len() > 1 && !matches!(arg.get_action(), ArgAction::Append) {
        return wrong("takes one value");
    }
    Ok(values.iter().map(each).collect())
}

/// What was said to a command, in lines of YAML; options that were not given are comments.
fn written(command: &Command, matches: &ArgMatches) -> Result<String> {
    let bin = command.get_bin_name().unwrap_or("crocuta");
    let mut text = format!("# {bin} --params FILE\n");
    for arg in parameters(command) {
        let (id, name) = (arg.get_id().as_str(), name(arg));
        let given = matches
            .value_source(id)
            .is_some_and(|from| from != ValueSource::DefaultValue);
        let mark = if given { "" } else { "# " };
        let mut values = Vec::new();
        for value in matches.get_raw(id).into_iter().flatten() {
            let value = value
                .to_str()
                .ok_or_else(|| Error::usage(format!("--write-params: {name} is not UTF-8")))?;
            values.push(yaml::quoted(value));
        }
        let value = match (&values[..], arg.get_action()) {
            (_, ArgAction::SetTrue) => matches.get_flag(id).to_string(),
            ([], _) => String::new(),
            ([one], _) => one.clone(),
            (many, _) => format!("[{}]", many.join(", ")),
        };
        text.push_str(format!("{mark}{name}: {value}").trim_end());
        text.push('\n');
    }
    Ok(text)
}
