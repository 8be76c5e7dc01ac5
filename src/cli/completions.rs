//! `crocuta completions`: what shells complete, and the manual's pages.

use super::Cli;
use super::process::print;
use crate::error::{Error, Result};
use crate::io::atomic::OutputSet;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs::create_dir_all;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where systems look for completion scripts, below `share`.
const SCRIPTS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/crocuta"),
    (Shell::Zsh, "zsh/site-functions/_crocuta"),
    (Shell::Fish, "fish/vendor_completions.d/crocuta.fish"),
];

/// Options of `crocuta completions`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  crocuta completions bash > ~/.local/share/bash-completion/completions/crocuta\n  \
crocuta completions --man ~/.local/share/man/man1\n  \
crocuta completions --share /usr/local/share"
)]
pub struct Completions {
    /// The shell to print a completion script for.
    #[arg(required_unless_present_any = ["man", "share"])]
    shell: Option<Shell>,
    /// Write the manual's pages into this directory, one for each command.
    #[arg(long, value_name = "DIR", conflicts_with = "shell")]
    man: Option<PathBuf>,
    /// Write the manual's pages and the scripts of bash, zsh and fish below this directory, where
    /// systems look for them in their `share`: for packages.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["shell", "man"])]
    share: Option<PathBuf>,
    /// Replace the output if it exists.
    #[arg(long, conflicts_with = "shell")]
    force: bool,
}

impl Completions {
    /// Prints the script, or writes the pages and scripts.
    ///
    /// # Errors
    /// Usage: a file is there already; Io.
    pub fn run(&self) -> Result<()> {
        if let Some(shell) = self.shell {
            print(&String::from_utf8_lossy(&script(shell)))?;
        }
        let files = OutputSet::default();
        if let Some(directory) = &self.man {
            self.pages(&documented(), directory, &files)?;
        }
        if let Some(share) = &self.share {
            let pages = share.join("man/man1");
            create_dir_all(&pages).map_err(|e| Error::io(&pages, &e))?;
            self.pages(&documented(), &pages, &files)?;
            for (shell, place) in SCRIPTS {
                let path = share.join(place);
                let folder = path.parent().unwrap_or(share);
                create_dir_all(folder).map_err(|e| Error::io(folder, &e))?;
                let mut file = files.create(&path, self.force)?;
                let written = file.write_all(&script(shell));
                written.map_err(|e| Error::io(&path, &e))?;
                file.finish()?;
            }
        }
        files.commit()
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

/// What the shell reads.
fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "crocuta", &mut script);
    script
}

/// The commands that have a page each: else each would have one of its help, too.
fn documented() -> Command {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    command
}
