//! `completions`: scripts that shells understand, and a page for each command.

use crate::harness::Case;
use std::process::Command;

/// What bash completes after the words of a command line.
fn completed(line: &str) -> String {
    let script = Case::new("completions bash").run().succeeds(&[]).stdout;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("crocuta.bash");
    std::fs::write(&path, script).unwrap();
    let ask = format!(
        "source {}; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
         _crocuta crocuta \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; \
         echo \"${{COMPREPLY[*]}}\"",
        path.display()
    );
    let out = Command::new("bash").args(["-c", &ask]).output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn bash_completes_commands_options_and_their_values() {
    assert_eq!(completed("crocuta em").trim(), "embed");
    assert!(completed("crocuta embed --prec").contains("--precision"));
    assert!(completed("crocuta score --precision b").contains("bf16"));
}

#[test]
fn every_shell_has_a_script_that_names_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let out = Case::new(&format!("completions {shell}")).run();
        let script = String::from_utf8(out.succeeds(&[]).stdout).unwrap();
        for command in ["embed", "predict", "score", "reads", "fit", "models"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn each_command_has_a_page_and_all_are_written_or_none() {
    let commands = "check check-embed check-fit check-predict check-reads check-score completions \
                    embed fit models models-compare models-convert models-list models-merge models-new \
                    models-pull models-show models-verify pilot predict reads score table \
                    table-concat table-export table-join table-show table-summarise version";
    let pages = commands.split_whitespace();
    let mut pages: Vec<_> = pages.map(|name| format!("crocuta-{name}.1")).collect();
    pages.push("crocuta.1".to_string());
    let names: Vec<_> = pages.iter().map(String::as_str).collect();
    let out = Case::new("completions --man .").run().succeeds(&names);
    for page in &pages {
        let text = String::from_utf8_lossy(out.file(page));
        assert!(text.contains(".SH SYNOPSIS"), "{page}\n{text}");
    }
    let scripts = [
        "share/bash-completion/completions/crocuta",
        "share/zsh/site-functions/_crocuta",
        "share/fish/vendor_completions.d/crocuta.fish",
    ];
    let folders = [
        "share",
        "share/bash-completion",
        "share/bash-completion/completions",
        "share/fish",
        "share/fish/vendor_completions.d",
        "share/man",
        "share/man/man1",
        "share/zsh",
        "share/zsh/site-functions",
    ];
    let shared: Vec<_> = names
        .iter()
        .map(|name| format!("share/man/man1/{name}"))
        .chain(scripts.map(String::from))
        .chain(folders.map(String::from))
        .collect();
    let shared: Vec<_> = shared.iter().map(String::as_str).collect();
    Case::new("completions --share share")
        .run()
        .succeeds(&shared);
    let there = || Case::new("completions --man .").file("crocuta-score.1", "x");
    there().run().fails(2, &["crocuta-score.1", "--force"]);
    assert_eq!(
        there().args("completions --man . --force").run().code,
        Some(0)
    );
}
