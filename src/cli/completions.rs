//! `crocuta completions`: what shells complete, and the manual's pages.

use super::Cli;
use super::process::print;
use crate::error::{Error, Result};
use crate::io::atomic::OutputSet;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use std::path::{Path, PathBuf};

/// Options of `crocuta completions`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  crocuta completions bash > ~/.local/share/bash-completion/completions/crocuta\n  \
crocuta completions --man ~/.local/share/man/man1"
)]
pub struct Completions {
    /// The shell to print a completion script for.
    #[arg(required_unless_present = "man")]
    shell: Option<Shell>,
    /// Write the manual's pages into this directory, one for each command.
    #[arg(long, value_name = "DIR", conflicts_with = "shell")]
    man: Option<PathBuf>,
    /// Replace the output if it exists.
    #[arg(long, requires = "man")]
    force: bool,
}

impl Completions {
    /// Prints the script, or writes the pages.
    ///
    /// # Errors
    /// Usage: a page is there already; Io.
    pub fn run(&self) -> Result<()> {
        let mut command = Cli::command();
        if let Some(shell) = self.shell {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "crocuta", &mut script);
            print(&String::from_utf8_lossy(&script))?;
        }
        match &self.man {
            Some(directory) => {
                // Else each command would have a page of its help.
                let mut command = command.disable_help_subcommand(true);
                command.build();
                let pages = OutputSet::default();
                self.pages(&command, directory, &pages)?;
                pages.commit()
            }
            None => Ok(()),
        }
    }

    /// The page of a command, and those of the commands below it.
    fn pages(&self, command: &Command, directory: &Path, pages: &OutputSet) -> Result<()> {
        let page = Man::new(command.clone());
        let path = directory.join(page.get_filename());
        let mut file = pages.create(&path, self.force)?;
        page.render(&mut file).map_err(|e| Error::io(&path, &e))?;
        file.finish()?;
        let below = command.get_subcommands();
        let mut below = below.filter(|command| !command.is_hide_set());
        below.try_for_each(|command| self.pages(command, directory, pages))
    }
}
