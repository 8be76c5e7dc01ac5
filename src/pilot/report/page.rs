//! The page itself.

use super::pictures::{self, Picture};
use crate::error::Result;
use crate::pilot::results::Results;
use crate::pilot::{Entrant, Kept, Pilot};
use crate::run::units::{number, readable, seconds};
use crate::table::{Experiment, Origin, PilotRow};
use std::fmt::Write;

/// What is written.
pub struct Page<'a> {
    /// What was asked for.
    pub pilot: &'a Pilot<'a>,
    /// What was found.
    pub kept: &'a Kept,
    /// The command line.
    pub command: &'a str,
    /// All rows.
    pub results: &'a Results,
    /// The sentences.
    pub verdict: &'a [String],
}

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:820px;margin:2em auto;padding:0 1em;color:#222}\
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em;border-bottom:1px solid #ddd}\
table{border-collapse:collapse;margin:.5em 0;font-size:.9em;display:block;overflow-x:auto}\
td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #eee;white-space:nowrap}\
td:first-child,th:first-child,.about td{text-align:left}th{white-space:normal;vertical-align:bottom}td.text,th.text{text-align:left;white-space:normal}\
svg{max-width:100%;height:auto}figure{margin:1em 0}figcaption{color:#555;font-size:.9em}\
code{background:#f4f4f4;padding:.1em .3em;word-break:break-all}.beyond{color:#888;font-style:italic}";

impl Page<'_> {
    /// The page as HTML.
    ///
    /// # Errors
    /// Internal.
    pub fn html(&self) -> Result<String> {
        let mut text = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>crocuta pilot</title>\n<style>{STYLE}</style></head>\n<body>\n\
             <h1>Pilot: which architecture serves this data</h1>\n"
        );
        self.verdict(&mut text);
        text += &self.about();
        text += "<h2>Candidates</h2>\n";
        text += &self.candidates();
        for picture in pictures::all(self.results)? {
            figure(&mut text, &picture);
        }
        text += "<h2>Numbers</h2>\n";
        text += &self.costs();
        text += &self.qualities();
        text += &self.recalls();
        self.notes(&mut text);
        text += "</body>\n</html>\n";
        Ok(text)
    }

    fn verdict(&self, text: &mut String) {
        *text += "<ol>\n";
        for sentence in self.verdict {
            *text += &format!("<li>{}</li>\n", escaped(sentence));
        }
        *text += "</ol>\n";
    }

    fn about(&self) -> String {
        let mut table = Table::about();
        for (name, value) in self.pilot.about() {
            table.row([name.to_string(), value]);
        }
        table.row(["Taken".to_string(), format!("{:.0} s", self.kept.clock())]);
        let steps = self.results.of(Experiment::Training, "all", "steps").next();
        if let Some(steps) = steps {
            let said = format!(
                "{} (--steps {} repeats the training)",
                steps.value, steps.value
            );
            table.row(["Steps of a training run".to_string(), said]);
        }
        table.row(["Command".to_string(), self.command.to_string()]);
        table.html()
    }

    fn candidates(&self) -> String {
        let mut table = Table::new(&[
            "candidate",
            "parameters",
            "width",
            "blocks",
            "operations a base",
            "runs on",
            "what it is",
        ]);
        for Entrant { candidate, device } in &self.pilot.entrants {
            let operations = candidate.operations(self.pilot.data.length);
            table.row([
                candidate.name.clone(),
                number(candidate.parameters),
                candidate.facts.width.to_string(),
                candidate.facts.layers.to_string(),
                format!("{:.2} M", operations / 1e6),
                device.name(),
                candidate.about.clone(),
            ]);
        }
        table.html()
    }

    /// Memory, speed and latency.
    fn costs(&self) -> String {
        let mut table = Table::new(&[
            "candidate",
            "memory of the longest",
            "time of the longest",
            "bases a second, short windows",
            "first row, steps of 64",
            "step of 64: p50",
            "p95",
            "p99",
        ]);
        for name in &self.results.names {
            let last = |measure, say: &dyn Fn(f64) -> String| {
                let row = self.results.of(Experiment::Memory, name, measure).last();
                row.map_or_else(none, |row| match row.origin {
                    Origin::Extrapolated => format!("~{}", say(row.value)),
                    _ => say(row.value),
                })
            };
            let step = |measure| {
                let mut rows = self.results.of(Experiment::Latency, name, measure);
                let row = rows.find(|row| row.at == Some(64));
                row.map_or_else(none, |row| seconds(row.value))
            };
            let speed = self.results.throughput(name);
            table.row([
                name.clone(),
                last("peak_memory", &|bytes| readable(bytes as u64)),
                last("seconds", &seconds),
                speed.map_or_else(none, |speed| number(speed as u64)),
                step("first_row"),
                step("step_p50"),
                step("step_p95"),
                step("step_p99"),
            ]);
        }
        table.html() + "<p>~ is extrapolated.</p>\n"
    }

    /// Quality from each seed, after equal bases and after equal operations.
    fn qualities(&self) -> String {
        let Some(measure) = self.results.measure() else {
            return "<p>Nothing was trained.</p>\n".to_string();
        };
        let mut table = Table::new(&[
            "candidate",
            "equal bases: mean",
            "seeds",
            "95 % interval of the first over the data",
            "equal operations: mean",
            "bases read for that",
            "training",
        ]);
        let mut names: Vec<&str> = self.results.ranked("bases").iter().map(|r| r.0).collect();
        let missing = self.results.names.iter().map(String::as_str);
        let missing: Vec<&str> = missing.filter(|name| !names.contains(name)).collect();
        names.extend(missing);
        for name in names {
            let rows = self.results.quality(name, "bases");
            let mean = |budget| {
                let mean = self.results.mean(name, budget);
                mean.map_or_else(none, |mean| format!("{mean:.4}"))
            };
            let seeds: Vec<String> = rows.iter().map(|row| format!("{:.4}", row.value)).collect();
            let interval = rows.first().and_then(|row| row.interval);
            let read = self
                .results
                .quality(name, "operations")
                .first()
                .and_then(|row| row.at);
            let mut times = self.results.of(Experiment::Training, name, "seconds");
            table.row([
                name.to_string(),
                mean("bases"),
                seeds.join(", "),
                interval.map_or_else(none, |[low, high]| format!("{low:.4} to {high:.4}")),
                mean("operations"),
                read.map_or_else(none, |bases| number(bases.unsigned_abs())),
                times.next().map_or_else(none, |row| seconds(row.value)),
            ]);
        }
        format!("<h3>{}</h3>\n{}", measure.words, table.html())
    }

    fn recalls(&self) -> String {
        let of = |name| self.results.of(Experiment::Recall, name, "recall");
        let all = self.results.names.iter().flat_map(|name| of(name));
        let mut distances: Vec<i64> = all.filter_map(|row: &PilotRow| row.at).collect();
        distances.sort_unstable();
        distances.dedup();
        if distances.is_empty() {
            return String::new();
        }
        let mut head = vec!["candidate".to_string()];
        head.extend(distances.iter().map(|d| format!("{d} bases")));
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        let mut table = Table::new(&head);
        for name in &self.results.names {
            let recall = |at: &i64| {
                let row = of(name).find(|row| row.at == Some(*at));
                row.map_or_else(none, |row| format!("{:.3}", row.value))
            };
            table.row(std::iter::once(name.clone()).chain(distances.iter().map(recall)));
        }
        format!("<h3>recall</h3>\n{}", table.html())
    }

    /// What is missing and why, what the numbers do not say, and the digests of weights.
    fn notes(&self, text: &mut String) {
        *text += "<h2>Notes</h2>\n<ul>\n";
        for done in self.kept.all() {
            if let Some(note) = &done.found.note {
                *text += &format!("<li>{}: {}</li>\n", escaped(&done.key), escaped(note));
            }
        }
        for note in NOTES {
            *text += &format!("<li>{note}</li>\n");
        }
        *text += "</ul>\n<h2>Weights</h2>\n";
        let mut table = Table::new(&["training run", "SHA-256 of the weights"]);
        for done in self.kept.all() {
            if let Some(digest) = &done.found.weights {
                table.row([done.key.clone(), digest.clone()]);
            }
        }
        *text += &table.html();
    }
}

/// What the numbers do not say.
const NOTES: [&str; 5] = [
    "Candidates were trained by the same rule, at one rate of learning, for a short time: a longer \
     training, or a rate chosen for each, may order them otherwise.",
    "Better, worse and too close to call are by the 95 % interval of the differences from seed to \
     seed, in which the candidates read the same bases in the same order; with one seed, by the \
     intervals over blocks of what is held out.",
    "Operations are those of matrix products, scans, attention and convolutions, forward and back; \
     a Fourier transform of N numbers counts 5 N log2 N.",
    "Times are of this machine, and of whatever else ran on it.",
    "All numbers, with their seeds, intervals and units: <code>results.parquet</code>.",
];

fn none() -> String {
    "–".to_string()
}

/// A table of cells.
struct Table {
    class: &'static str,
    head: Vec<String>,
    /// Columns that hold words.
    words: Vec<bool>,
    rows: String,
}

impl Table {
    /// Without a head, for words.
    fn about() -> Self {
        Self {
            class: " class=\"about\"",
            ..Self::new(&[])
        }
    }

    fn new(head: &[&str]) -> Self {
        Self {
            class: "",
            head: head.iter().map(|name| escaped(name)).collect(),
            words: vec![false; head.len()],
            rows: String::new(),
        }
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows += "<tr>";
        for (at, cell) in cells.into_iter().enumerate() {
            // Words are read from the left.
            let words =
                cell.contains(' ') && cell.chars().filter(|c| c.is_alphabetic()).count() > 8;
            let class = match (words, cell.starts_with('~')) {
                (true, _) => " class=\"text\"",
                (_, true) => " class=\"beyond\"",
                _ => "",
            };
            if let Some(column) = self.words.get_mut(at) {
                *column |= words;
            }
            let _ = write!(self.rows, "<td{class}>{}</td>", escaped(&cell));
        }
        self.rows += "</tr>\n";
    }

    fn html(self) -> String {
        let cells = self.head.iter().zip(&self.words).map(|(name, words)| {
            let class = if *words { " class=\"text\"" } else { "" };
            format!("<th{class}>{name}</th>")
        });
        let head: String = cells.collect();
        let head = if head.is_empty() {
            head
        } else {
            format!("<tr>{head}</tr>\n")
        };
        format!("<table{}>\n{head}{}</table>\n", self.class, self.rows)
    }
}

fn figure(text: &mut String, picture: &Picture) {
    let Picture {
        title,
        caption,
        svg,
    } = picture;
    let _ = writeln!(
        text,
        "<h2>{title}</h2>\n<figure>\n{svg}<figcaption>{caption}</figcaption></figure>"
    );
}

/// Text as HTML shows it.
fn escaped(text: &str) -> String {
    let text = crate::error::printable(text);
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_files_cannot_become_a_part_of_the_page() {
        let mut table = Table::new(&["a<b"]);
        table.row(["<script>alert(1)</script>".to_string()]);
        let html = table.html();
        assert!(
            !html.contains("<script") && html.contains("&lt;script&gt;"),
            "{html}"
        );
    }
}
