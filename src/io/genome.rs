//! The sequences of a FASTA input, as the streaming engine pulls them: every contig whole, or
//! regions of contigs with bases of context before them.

use super::bases::Counts;
use super::fai::{beside, read_fai};
use super::fasta::Reader;
use super::indexed::{Access, Indexed};
use super::input::{Format, Input};
use crate::error::{Error, Result};
use crate::sequence::Contig;
use crate::sequence::region::{Query, Span, TO_END, merge};
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

/// What to read of a FASTA input, and what to let pass.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Regions to read; none reads everything.
    pub regions: Vec<Query>,
    /// Bases before a region that are handed out too, as far as there are any.
    pub context: u64,
    /// Keeps regions as they are, instead of joining those that overlap or touch.
    pub keep_overlaps: bool,
    /// Lets a BGZF file pass, with a warning, that lacks its closing block.
    pub allow_missing_eof: bool,
    /// Lets a file without sequences pass.
    pub allow_empty: bool,
}

/// A contig or a region of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The contig's place in the dictionary, which grows as a file is streamed.
    pub contig: usize,
    /// The contig's name.
    pub name: String,
    /// The position of the first base that is handed out, context included.
    pub start: u64,
    /// The positions that are asked for; those before are context. When the contig's length is
    /// not known yet the end may lie beyond it, and is [`TO_END`] for all of a contig.
    pub rows: Range<u64>,
    /// The contig's length, if it is known.
    pub length: Option<u64>,
}

/// A FASTA input of which sequences are pulled, one after the other.
///
/// Everything is read from the start to the end of the input, and checked, unless there are
/// regions and the file can be read at random: a regular file, plain or BGZF, with its indexes.
/// Sequences come in the order of contigs in the file (or its index), then by start. Sequences
/// without bases are counted and warned about, but do not come.
///
/// Memory: names and lengths of contigs, buffers of under 1 MiB, and twice the context at most.
pub struct Genome {
    name: String,
    hint: Option<u64>,
    source: Source,
}

enum Source {
    Stream(Box<Stream>),
    Indexed(Box<Spans>),
}

impl Genome {
    /// Opens a path, or standard input for `-` and `stdin`.
    ///
    /// # Errors
    /// Io when it cannot be opened, Input when it or an index is damaged, Usage when a region
    /// cannot be (at once with an index, else when the file has been read).
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        let input = Input::open(path, options.allow_missing_eof)?;
        let name = input.name().to_string();
        Self::with_input(path, input, options).map_err(|error| error.file(name))
    }

    fn with_input(path: &Path, input: Input, options: Options) -> Result<Self> {
        let name = input.name().to_string();
        if !options.regions.is_empty() {
            match Indexed::open(path, &input, options.allow_missing_eof)? {
                Access::Indexed(reader) => {
                    let spans = Spans::new(*reader, &options)?;
                    return Ok(Self {
                        name,
                        hint: Some(spans.bases()),
                        source: Source::Indexed(Box::new(spans)),
                    });
                }
                Access::Stream(why) => {
                    tracing::info!("reading all of the input to find the regions: {why}");
                }
            }
        }
        for region in &options.regions {
            region.check()?;
        }
        Ok(Self {
            name,
            hint: match options.regions.is_empty() {
                true => whole_hint(path, &input),
                false => None,
            },
            source: Source::Stream(Box::new(Stream::new(input, options))),
        })
    }

    /// The dictionary, if it is known up front: when regions are read at random.
    pub fn contigs(&self) -> Option<&[Contig]> {
        match &self.source {
            Source::Stream(_) => None,
            Source::Indexed(spans) => Some(spans.reader.contigs()),
        }
    }

    /// The contigs whose lengths are known so far; in the end, the dictionary.
    pub fn finished_contigs(&self) -> &[Contig] {
        match &self.source {
            Source::Stream(stream) => &stream.contigs,
            Source::Indexed(spans) => spans.reader.contigs(),
        }
    }

    /// About how many bases will be handed out, for a progress bar: exact with an index, the
    /// file's size for plain text without one.
    pub fn bases_hint(&self) -> Option<u64> {
        self.hint
    }

    /// What was read so far, skipped bases included.
    pub fn counts(&self) -> &Counts {
        match &self.source {
            Source::Stream(stream) => stream.reader.counts(),
            Source::Indexed(spans) => spans.reader.counts(),
        }
    }

    /// The next sequence; `None` when all were handed out and the input ended well. Skips what is
    /// left of the current one.
    pub fn next_sequence(&mut self) -> Result<Option<Sequence>> {
        match &mut self.source {
            Source::Stream(stream) => stream.next_sequence(),
            Source::Indexed(spans) => spans.next_sequence(),
        }
        .map_err(|error| error.file(&self.name))
    }

    /// Appends base codes of the current sequence until it ends or `max` (at least 1) were
    /// appended; returns how many. 0 is the sequence's end.
    pub fn read_bases(&mut self, codes: &mut Vec<u8>, max: usize) -> Result<usize> {
        match &mut self.source {
            Source::Stream(stream) => stream.read_bases(codes, max),
            Source::Indexed(spans) => spans.reader.read_bases(codes, max),
        }
        .map_err(|error| error.file(&self.name))
    }
}

/// Bases of a whole input: from its index if that is good, else the size of plain text.
fn whole_hint(path: &Path, input: &Input) -> Option<u64> {
    let size = input.size()?;
    let plain = input.format() == Format::Plain;
    let text_size = if plain { size } else { i64::MAX.unsigned_abs() };
    let indexed = read_fai(&beside(path, ".fai"), text_size).ok();
    indexed
        .map(|entries| entries.iter().map(|entry| entry.length).sum())
        .or_else(|| plain.then_some(size))
}

/// Spans read at random.
struct Spans {
    reader: Indexed,
    context: u64,
    left: VecDeque<Span>,
}

impl Spans {
    fn new(reader: Indexed, options: &Options) -> Result<Self> {
        let mut spans = Vec::new();
        for region in &options.regions {
            spans.push(region.resolve(reader.contigs())?);
        }
        spans.sort_unstable();
        if !options.keep_overlaps {
            merge(&mut spans);
        }
        Ok(Self {
            reader,
            context: options.context,
            left: spans.into(),
        })
    }

    fn bases(&self) -> u64 {
        let bases = |span: &Span| span.end - span.start.saturating_sub(self.context);
        self.left.iter().map(bases).sum()
    }

    fn next_sequence(&mut self) -> Result<Option<Sequence>> {
        let Some(span) = self.left.pop_front() else {
            return Ok(None);
        };
        let start = span.start.saturating_sub(self.context);
        self.reader.seek(Span { start, ..span })?;
        let contig = &self.reader.contigs()[span.contig];
        Ok(Some(Sequence {
            contig: span.contig,
            name: contig.name.clone(),
            start,
            rows: span.start..span.end,
            length: Some(contig.length),
        }))
    }
}

/// The input read from its start to its end.
struct Stream {
    reader: Reader<Input>,
    options: Options,
    /// The contig that answers to each region.
    answers: Vec<Option<usize>>,
    contigs: Vec<Contig>,
    /// The current contig's name, until all of it was read.
    name: Option<String>,
    /// Spans of the current contig that are still to come, in order.
    left: VecDeque<Span>,
    /// The current span, from the next base to be handed out.
    span: Range<u64>,
    /// How far the current contig was read.
    read: u64,
    /// The last bases read, those that this or a coming span needs again.
    kept: VecDeque<u8>,
}

impl Stream {
    fn new(input: Input, options: Options) -> Self {
        Self {
            reader: Reader::new(input).allow_empty(options.allow_empty),
            answers: vec![None; options.regions.len()],
            options,
            contigs: Vec::new(),
            name: None,
            left: VecDeque::new(),
            span: 0..0,
            read: 0,
            kept: VecDeque::new(),
        }
    }

    fn next_sequence(&mut self) -> Result<Option<Sequence>> {
        loop {
            if let Some(sequence) = self.next_span()? {
                return Ok(Some(sequence));
            }
            self.end_contig()?;
            let Some(name) = self.reader.next_sequence()? else {
                let unanswered = self.answers.iter().position(Option::is_none);
                return match unanswered {
                    Some(i) => Err(self.options.regions[i].unknown(&self.contigs)),
                    None => Ok(None),
                };
            };
            self.begin_contig(name)?;
        }
    }

    /// Finds what is wanted of the contig that begins.
    fn begin_contig(&mut self, name: String) -> Result<()> {
        let contig = self.contigs.len();
        let mut spans = Vec::new();
        if self.options.regions.is_empty() && !self.reader.at_sequence_end()? {
            spans.push(Span {
                contig,
                start: 0,
                end: TO_END,
            });
        }
        for (region, answer) in self.options.regions.iter().zip(&mut self.answers) {
            let Some(wanted) = region.on(&name) else {
                continue;
            };
            if answer.is_some() {
                return Err(region.ambiguous());
            }
            *answer = Some(contig);
            spans.push(Span {
                contig,
                start: wanted.start,
                end: wanted.end,
            });
        }
        spans.sort_unstable();
        if !self.options.keep_overlaps {
            merge(&mut spans);
        }
        if spans.windows(2).any(|pair| pair[1].start < pair[0].end) {
            let what = format!("regions of \"{name}\" overlap, and the input is read only once");
            let todo = "let them be joined, or index the file (bgzip, samtools faidx)";
            return Err(Error::usage(what).todo(todo));
        }
        self.left = spans.into();
        self.name = Some(name);
        self.read = 0;
        self.span = 0..0;
        self.kept.clear();
        Ok(())
    }

    /// Goes to the next span of the current contig.
    fn next_span(&mut self) -> Result<Option<Sequence>> {
        let (Some(name), Some(span)) = (self.name.clone(), self.left.pop_front()) else {
            return Ok(None);
        };
        let start = span.start.saturating_sub(self.options.context);
        let known = self.read - self.kept.len() as u64;
        self.forget(start.saturating_sub(known));
        if self.read < start {
            self.read += self.reader.skip_bases(start - self.read)?;
            if self.read < start {
                self.end_contig()?;
                return Ok(None);
            }
        }
        self.span = start..span.end;
        Ok(Some(Sequence {
            contig: span.contig,
            name,
            start,
            rows: span.start..span.end,
            length: None,
        }))
    }

    fn read_bases(&mut self, codes: &mut Vec<u8>, max: usize) -> Result<usize> {
        let before = codes.len();
        while codes.len() - before < max && !self.span.is_empty() {
            let room = (max - (codes.len() - before)) as u64;
            let room = room.min(self.span.end - self.span.start) as usize;
            let known = self.read - self.kept.len() as u64;
            if self.span.start < self.read {
                let from = (self.span.start - known) as usize;
                let n = room.min(self.kept.len() - from);
                codes.extend(self.kept.range(from..from + n));
                self.span.start += n as u64;
                continue;
            }
            let keep = self.left.front().map_or(TO_END, |next| {
                next.start.saturating_sub(self.options.context)
            });
            self.forget(keep.saturating_sub(known));
            let n = self.reader.read_bases(codes, room)?;
            if n == 0 {
                self.span = 0..0;
                self.end_contig()?;
                break;
            }
            let new = &codes[codes.len() - n..];
            let skipped = keep.saturating_sub(self.read).min(n as u64) as usize;
            self.kept.extend(&new[skipped..]);
            self.read += n as u64;
            self.span.start = self.read;
        }
        Ok(codes.len() - before)
    }

    /// Forgets the first `n` kept bases.
    fn forget(&mut self, n: u64) {
        let n = n.min(self.kept.len() as u64) as usize;
        self.kept.drain(..n);
    }

    /// Reads the current contig to its end; checks what was asked of it against its length.
    fn end_contig(&mut self) -> Result<()> {
        let Some(name) = self.name.take() else {
            return Ok(());
        };
        self.left.clear();
        self.span = 0..0;
        let length = self.reader.finish_sequence()?;
        for region in &self.options.regions {
            if let Some(wanted) = region.on(&name) {
                region.check_start(wanted.start, length)?;
                if wanted.end != TO_END {
                    region.warn_if_clipped(wanted.end, length);
                }
            }
        }
        self.contigs.push(Contig { name, length });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::io::testing::{bgzf, gzi, gzip, logged, zstd};
    use crate::sequence::base;
    use proptest::prelude::*;
    use std::path::PathBuf;

    /// Contigs a (20 bases), empty, b (9) and c:d (4), in lines of 6.
    const FASTA: &str = ">a\nACGTAC\nGGTTNN\nCATGCA\nTC\n>empty\n>b x\nTTTACG\nGGA\n>c:d\nACGT\n";
    const FAI: &str = "a\t20\t3\t6\t7\nempty\t0\t34\t0\t0\nb\t9\t39\t6\t7\nc:d\t4\t55\t4\t5\n";
    const A: &str = "ACGTACGGTTNNCATGCATC";

    /// The same text plain and bgzipped with indexes, and plain, gzipped and zstd without.
    fn forms() -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let text = FASTA.as_bytes();
        let blocks = bgzf(text, 13);
        put(&dir, "i.fa.fai", FAI);
        put(&dir, "b.fa.gz.fai", FAI);
        put(&dir, "b.fa.gz.gzi", gzi(text.len(), 13, &blocks));
        let paths = vec![
            put(&dir, "i.fa", text),
            put(&dir, "b.fa.gz", blocks),
            put(&dir, "p.fa", text),
            put(&dir, "g.fa.gz", gzip(text)),
            put(&dir, "z.fa.zst", zstd(text)),
        ];
        (dir, paths)
    }

    fn put(dir: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn regions(texts: &[&str]) -> Options {
        Options {
            regions: texts
                .iter()
                .map(|text| Query::parse(text).unwrap())
                .collect(),
            ..Options::default()
        }
    }

    /// Name, start, rows and letters of every sequence.
    fn read(path: &Path, options: Options, max: usize) -> Result<Vec<(String, u64, u64, String)>> {
        let mut genome = Genome::open(path, options)?;
        let mut all = vec![];
        while let Some(sequence) = genome.next_sequence()? {
            let mut codes = vec![];
            while genome.read_bases(&mut codes, max)? > 0 {}
            let letter = |&code: &u8| crate::sequence::LETTERS[usize::from(base(code))];
            let letters: String = codes.iter().map(letter).collect();
            all.push((sequence.name, sequence.start, sequence.rows.start, letters));
        }
        assert!(genome.next_sequence()?.is_none());
        let lengths: Vec<_> = genome.finished_contigs().iter().map(|c| c.length).collect();
        assert_eq!(lengths, [20, 0, 9, 4]);
        Ok(all)
    }

    fn row(name: &str, start: u64, rows: u64, letters: &str) -> (String, u64, u64, String) {
        (name.into(), start, rows, letters.into())
    }

    #[test]
    fn a_whole_file_is_read_without_an_index() {
        let (_dir, paths) = forms();
        for path in &paths {
            for max in [1, 4, 1000] {
                let found = read(path, Options::default(), max).unwrap();
                let expected = [
                    row("a", 0, 0, A),
                    row("b", 0, 0, "TTTACGGGA"),
                    row("c:d", 0, 0, "ACGT"),
                ];
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn regions_come_in_order_with_their_context_in_every_form() {
        let (_dir, paths) = forms();
        for path in &paths {
            for max in [1, 3, 1000] {
                let mut options = regions(&["b:8", "a:13-15", "c:d", "a:3-4", "a:1-3", "a:16-18"]);
                options.context = 4;
                let found = read(&path, options, max).unwrap();
                let expected = [
                    row("a", 0, 0, "ACGT"),
                    row("a", 8, 12, "TTNNCATGCA"),
                    row("b", 3, 7, "ACGGGA"),
                    row("c:d", 0, 0, "ACGT"),
                ];
                assert_eq!(found, expected, "{}", path.display());
            }
        }
    }

    #[test]
    fn what_a_caller_skips_is_still_there_for_the_next_region() {
        let (_dir, paths) = forms();
        for path in &paths {
            let mut options = regions(&["a:5-10", "a:12-13", "b:2-3"]);
            options.context = 6;
            let mut genome = Genome::open(&path, options).unwrap();
            let mut codes = vec![];
            genome.next_sequence().unwrap();
            genome.read_bases(&mut codes, 7).unwrap();
            let second = genome.next_sequence().unwrap().unwrap();
            assert_eq!((second.start, second.rows.clone()), (5, 11..13));
            codes.clear();
            assert_eq!(genome.read_bases(&mut codes, 100).unwrap(), 8);
            let letters: String = codes
                .iter()
                .map(|&c| crate::sequence::LETTERS[usize::from(c)])
                .collect();
            assert_eq!(letters, A[5..13]);
            assert_eq!(genome.next_sequence().unwrap().unwrap().name, "b");
            assert!(genome.next_sequence().unwrap().is_none());
        }
    }

    #[test]
    fn regions_that_cannot_be_are_usage_errors_in_every_form() {
        for (text, what) in [
            ("x:1-2", "no such contig"),
            ("a:21-30", "begins at 21 of a contig of 20 bases"),
            ("empty", "begins at 1 of a contig of 0 bases"),
            ("a:8-5", "ends before it begins"),
        ] {
            let (_dir, paths) = forms();
            for path in &paths {
                let mut options = regions(&["b", text]);
                options.context = 30;
                let error = read(&path, options, 3).unwrap_err();
                assert_eq!(error.kind(), Kind::Usage, "{error}");
                let error = error.to_string();
                assert!(error.contains(what), "{error}");
                assert!(error.contains(&format!("\"{text}\"")), "{error}");
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = put(&dir, "x.fa", ">c:1\nA\n>c\nAA\n");
        let mut genome = Genome::open(&path, regions(&["c:1"])).unwrap();
        genome.next_sequence().unwrap();
        let error = genome.next_sequence().unwrap_err();
        assert!(error.to_string().contains("ambiguous"), "{error}");
    }

    #[test]
    fn an_end_beyond_the_contig_is_clipped_with_a_warning() {
        let (_dir, paths) = forms();
        for path in &paths {
            let (found, log) = logged(|| read(&path, regions(&["b:8-100"]), 9).unwrap());
            assert_eq!(found, [row("b", 7, 7, "GA")]);
            assert_eq!(log.matches("clipped").count(), 1, "{log}");
        }
    }

    #[test]
    fn kept_overlaps_come_twice_from_an_index_and_are_refused_in_a_stream() {
        let (_dir, paths) = forms();
        for path in &paths {
            let mut options = regions(&["a:1-6", "a:4-8"]);
            options.keep_overlaps = true;
            let indexed = beside(&path, ".fai").exists();
            match read(&path, options, 5) {
                Ok(found) => {
                    assert!(indexed);
                    assert_eq!(found, [row("a", 0, 0, "ACGTAC"), row("a", 3, 3, "TACGG")]);
                }
                Err(error) => {
                    assert!(!indexed);
                    assert_eq!(error.kind(), Kind::Usage);
                }
            }
        }
    }

    #[test]
    fn damage_after_the_last_region_is_found_when_streaming() {
        let dir = tempfile::tempdir().unwrap();
        let path = put(&dir, "x.fa", ">a\nACGT\n>b\nAC!T\n");
        let error = read(&path, regions(&["a:1-2"]), 5).unwrap_err();
        assert!(
            error.to_string().contains("x.fa: b:3: byte 0x21"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_file_is_an_error_unless_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let path = put(&dir, "x.fa", "");
        let mut genome = Genome::open(&path, Options::default()).unwrap();
        let error = genome.next_sequence().unwrap_err().to_string();
        assert!(error.ends_with("x.fa: no sequences"), "{error}");
        let allow = Options {
            allow_empty: true,
            ..Options::default()
        };
        let mut genome = Genome::open(&path, allow).unwrap();
        assert_eq!(genome.next_sequence().unwrap(), None);
    }

    #[test]
    fn the_hint_is_exact_with_an_index() {
        let (_dir, paths) = forms();
        let hints: Vec<_> = paths
            .iter()
            .map(|path| Genome::open(path, Options::default()).unwrap().bases_hint())
            .collect();
        assert_eq!(
            hints,
            [Some(33), Some(33), Some(FASTA.len() as u64), None, None]
        );
        let mut options = regions(&["a:11-13"]);
        options.context = 5;
        let genome = Genome::open(&paths[0], options).unwrap();
        assert_eq!(genome.bases_hint(), Some(8));
        assert_eq!(genome.contigs().unwrap().len(), 4);
    }

    proptest! {
        /// Streaming with bases kept for the next region gives what random access gives.
        #[test]
        fn a_stream_gives_what_an_index_gives(
            spans in prop::collection::vec((0u64..20, 1u64..9), 1..6),
            context in 0u64..12,
            max in 1usize..8,
        ) {
            let texts: Vec<_> = spans.iter().map(|(start, n)| format!("a:{}-{}", start + 1, (start + n).min(20))).collect();
            let texts: Vec<_> = texts.iter().map(String::as_str).collect();
            let options = Options { context, ..regions(&texts) };
            let (_dir, paths) = forms();
            let indexed = read(&paths[0], options.clone(), max).unwrap();
            for (_, start, rows, letters) in &indexed {
                prop_assert_eq!(*start, rows.saturating_sub(context));
                let start = *start as usize;
                prop_assert_eq!(letters, &A[start..start + letters.len()]);
            }
            prop_assert_eq!(read(&paths[2], options, max).unwrap(), indexed);
        }
    }
}
