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
fn each_command_has_a_page_which_is_replaced_only_if_that_is_asked_for() {
    let pages = [
        "crocuta.1",
        "crocuta-embed.1",
        "crocuta-predict.1",
        "crocuta-score.1",
        "crocuta-reads.1",
        "crocuta-fit.1",
        "crocuta-models-new.1",
        "crocuta-check-embed.1",
    ];
    let mut case = Case::new("completions --man .");
    let out = case.run();
    for page in pages {
        let text = String::from_utf8_lossy(out.file(page));
        assert!(text.contains(".SH SYNOPSIS"), "{page}\n{text}");
    }
    case.run().fails(2, &["crocuta.1", "--force"]);
}
