//! The command line as a whole.

use super::*;
use clap::{Arg, Command as Clap};
use std::collections::BTreeMap;

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

/// Fails for each option that takes a value, of each command, but not a number after a minus.
fn take_negative_numbers(command: &Clap) {
    let arguments = command.get_arguments();
    for arg in arguments.filter(|arg| arg.get_long().is_some() && !arg.is_global_set()) {
        let takes = arg.get_action().takes_values();
        let name = command.get_bin_name().unwrap_or_default();
        let negative = arg.is_allow_negative_numbers_set() || arg.is_allow_hyphen_values_set();
        assert!(negative || !takes, "{name}: {arg}");
    }
    command.get_subcommands().for_each(take_negative_numbers);
}

#[test]
fn a_negative_number_is_the_value_of_the_option_before_it() {
    let mut command = Cli::command();
    command.build();
    command.get_subcommands().for_each(take_negative_numbers);
    let line = "crocuta predict a.fa --bed b.bed --threshold -1.4 --tracks -1";
    let parsed = Cli::command()
        .try_get_matches_from(line.split(' '))
        .unwrap();
    let (_, predict) = parsed.subcommand().unwrap();
    assert_eq!(predict.get_one("threshold"), Some(&-1.4f32));
}

/// Options of which commands say different things, and why.
const SAID_DIFFERENTLY: &[(&str, &str)] = &[
    ("chunk", "in training gradients flow over it"),
    (
        "columns",
        "of the table, of its numbers, or of the labels beside it",
    ),
    ("config", "to make weights, or to convert some"),
    ("context", "before a region, or before a variant"),
    (
        "device",
        "says what each of several GPUs takes, or learns from",
    ),
    ("dtype", "of vectors, or of weights"),
    (
        "feature",
        "one type that is counted, or several that are learned",
    ),
    ("force", "says what is replaced"),
    ("head", "of bases or sequences, or of reads"),
    ("json", "says what is printed"),
    (
        "labels",
        "required by an objective, or instead of the next base",
    ),
    ("layer", "one that is compared, or several that are written"),
    (
        "length",
        "of the model's context, or of the pilot's own choice",
    ),
    ("mask-every", "to predict bases, or to score them"),
    ("model", "one that runs, or one that is trained further"),
    ("output", "says what is written"),
    ("pool", "of a bin, or of a read"),
    ("reference", "says of what"),
    ("resume", "says where the checkpoints lie"),
    ("seed", "the only one, or the first"),
    ("shard-by", "contigs are cut into bases, or into variants"),
    ("steps", "instead of epochs, or of a budget"),
    ("strand", "that are read, or trained on"),
    ("summary", "of a run, or of a judgement"),
    ("table", "to train on, or to learn a part of"),
    (
        "tsv",
        "a file beside the table, or the format of the one that is written",
    ),
    (
        "validate-table",
        "chooses the step, or is a part of the table",
    ),
];

/// Options whose values have different names: a directory or a file; a file or none.
const VALUED_DIFFERENTLY: [&str; 2] = ["output", "tsv"];

/// What an option is: its short forms, the names of its values, and its help.
type Spelling = (Vec<char>, Vec<String>, String);

fn spelling(arg: &Arg) -> Spelling {
    let mut short: Vec<char> = arg.get_short().into_iter().collect();
    short.extend(arg.get_all_short_aliases().unwrap_or_default());
    let takes_values = arg.get_action().takes_values();
    let names = arg.get_value_names().filter(|_| takes_values);
    let values = names.unwrap_or_default().iter();
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    (short, values.map(ToString::to_string).collect(), help)
}

/// Every option that is shown, of every command: its long name, and by what it is, the commands.
type Options = BTreeMap<String, BTreeMap<Spelling, Vec<String>>>;

fn options(command: &Clap, found: &mut Options) {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    for arg in shown {
        if let Some(long) = arg.get_long() {
            let spelled = found.entry(long.to_string()).or_default();
            let commands = spelled.entry(spelling(arg)).or_default();
            commands.push(command.get_bin_name().unwrap_or_default().to_string());
        }
    }
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        options(below, found);
    }
}

#[test]
fn an_option_has_one_spelling_and_one_meaning_in_all_commands() {
    let mut command = Cli::command();
    command.build();
    let mut found = Options::new();
    options(&command, &mut found);
    let differing = |same: &dyn Fn(&Spelling, &Spelling) -> bool| {
        let differs = |spelled: &BTreeMap<Spelling, Vec<String>>| {
            let first = spelled.keys().next();
            spelled
                .keys()
                .any(|other| !first.is_some_and(|first| same(first, other)))
        };
        let differing = found.iter().filter(|(_, spelled)| differs(spelled));
        differing.map(|(long, _)| long.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(differing(&|a, b| a.0 == b.0), [""; 0], "short forms");
    assert_eq!(differing(&|a, b| a.1 == b.1), VALUED_DIFFERENTLY, "values");
    let listed: Vec<&str> = SAID_DIFFERENTLY.iter().map(|(long, _)| *long).collect();
    assert_eq!(differing(&|a, b| a.2 == b.2), listed, "help");
    // One letter is one option's.
    let mut letters = BTreeMap::<char, Vec<&str>>::new();
    for (long, spelled) in &found {
        for letter in spelled.keys().flat_map(|(short, ..)| short) {
            letters.entry(*letter).or_default().push(long);
        }
    }
    for (letter, mut longs) in letters {
        longs.dedup();
        assert_eq!(longs.len(), 1, "-{letter}: {longs:?}");
    }
}
