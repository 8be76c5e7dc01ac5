//! What holds for the options of all commands.

use super::params::{built, called};
use crate::error::{Error, Result};
use clap::{Arg, ArgMatches, Command};
use std::collections::HashSet;

/// A number such as -1 or -1.4 is the value of the option before it, whatever the option: what may
/// not be negative is refused by its value, not for want of one.
pub fn with_negative_numbers(command: Command) -> Command {
    let takes = |arg: &Arg| arg.get_action().takes_values() && !arg.is_positional();
    command
        .mut_args(|arg| {
            let negative = takes(&arg);
            arg.allow_negative_numbers(negative)
        })
        .mut_subcommands(with_negative_numbers)
}

/// Fails if a list, such as that of columns, names one thing twice.
///
/// # Errors
/// Usage.
pub fn must_be_named_once(matches: &ArgMatches) -> Result<()> {
    let (command, matches) = called(&built(), matches);
    let lists = command.get_arguments();
    for list in lists.filter(|arg| arg.get_value_delimiter().is_some()) {
        let values = matches.get_raw(list.get_id().as_str());
        let mut seen = HashSet::new();
        if let Some(again) = values
            .into_iter()
            .flatten()
            .find(|name| !seen.insert(*name))
        {
            let option = list.get_long().unwrap_or_default();
            let what = format!("--{option} names {} twice", again.display());
            return Err(Error::usage(what).todo("name it once"));
        }
    }
    Ok(())
}
