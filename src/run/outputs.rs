//! The outputs of a run: declared before any work, none of them an input, all named together.

use crate::error::{Error, Result};
use crate::io::atomic::{AtomicFile, OutputSet, is_stdout, must_be_in_a_directory};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A table.
    Parquet,
    /// Columns separated by tabs.
    Tsv,
    /// Columns separated by commas.
    Csv,
    /// Columns in Arrow's format.
    Ipc,
    /// A NumPy array.
    Npy,
    /// Alignments.
    Bam,
    /// The index of alignments.
    Bai,
    /// The index of variants.
    Tbi,
    /// Variants.
    Vcf,
    /// Columns separated by tabs, compressed if the name says so.
    Text,
    /// A picture.
    Picture,
    /// The summary.
    Json,
    /// Genes.
    Gff3,
    /// Regions.
    Bed,
    /// A track.
    BigWig,
    /// bedGraph text.
    BedGraph,
}

impl Format {
    /// Its name, and the extensions that promise it.
    fn named(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Parquet => ("Parquet", &["parquet", "pq"]),
            Self::Tsv => ("TSV", &["tsv", "txt"]),
            Self::Csv => ("CSV", &["csv", "txt"]),
            Self::Ipc => ("Arrow IPC", &["arrow", "feather", "ipc"]),
            Self::Npy => ("a NumPy array", &["npy"]),
            Self::Bam => ("BAM", &["bam"]),
            Self::Bai => ("a BAM index", &["bai"]),
            Self::Tbi => ("an index of variants", &["tbi", "csi"]),
            Self::Vcf => ("VCF or BCF", &["vcf", "bcf", "gz", "bgz"]),
            Self::Text => ("TSV", &["tsv", "txt", "gz", "bgz"]),
            Self::Picture => ("SVG or PNG", &["svg", "png"]),
            Self::Json => ("JSON", &["json", "txt"]),
            Self::Gff3 => ("GFF3", &["gff3", "gff", "txt"]),
            Self::Bed => ("BED", &["bed", "txt", "tsv"]),
            Self::BigWig => ("bigWig", &["bw", "bigwig"]),
            Self::BedGraph => ("bedGraph", &["bedgraph", "bdg"]),
        }
    }
}

/// Extensions that promise a format.
const KNOWN: [&str; 41] = [
    "parquet", "pq", "bam", "sam", "cram", "bai", "csi", "tbi", "fai", "gzi", "vcf", "bcf", "gz",
    "bgz", "zst", "svg", "png", "pdf", "html", "json", "jsonl", "txt", "tsv", "csv", "gff3", "gff",
    "gtf", "bed", "bedgraph", "bdg", "bw", "bigwig", "fa", "fasta", "fq", "fastq", "npy", "h5",
    "arrow", "feather", "ipc",
];

/// The outputs of a run.
pub struct Outputs {
    set: OutputSet,
    force: bool,
    /// Device and inode of each file that is read.
    inputs: Vec<(u64, u64)>,
    /// Path, device and inode of each output.
    claimed: Vec<(PathBuf, Option<(u64, u64)>)>,
    /// Files that are open before anything else is.
    early: Vec<AtomicFile>,
}

impl Outputs {
    /// Outputs of a run that reads these files; those that stand there already are replaced if
    /// `force`.
    pub fn new(inputs: &[PathBuf], force: bool) -> Self {
        Self {
            set: OutputSet::default(),
            force,
            inputs: inputs.iter().filter_map(|path| identity(path)).collect(),
            claimed: Vec::new(),
            early: Vec::new(),
        }
    }

    /// Claims these outputs before any work, and opens their files: a run must not end at one that
    /// it may not write.
    ///
    /// # Errors
    /// As [`Self::check`] and [`AtomicFile::create`]; Usage, if two have the same name.
    pub fn open(&mut self, outputs: &[(PathBuf, Format)]) -> Result<()> {
        self.must_be_free(outputs)?;
        for (path, _) in outputs {
            self.early.push(self.set.create(path, self.force)?);
        }
        Ok(())
    }

    /// Claims these outputs, and refuses those that cannot be; opens none.
    ///
    /// # Errors
    /// As [`Self::check`]; Usage, if two have the same name; Io: no such directory.
    pub fn must_be_free(&mut self, outputs: &[(PathBuf, Format)]) -> Result<()> {
        for (path, _) in outputs {
            self.claim(path)?;
        }
        for (path, format) in outputs {
            self.check(path, *format)?;
            must_be_in_a_directory(path)?;
        }
        Ok(())
    }

    /// Refuses an output that cannot be.
    ///
    /// # Errors
    /// Usage: it is an input, by whatever path; it exists, and nothing forces; its name promises
    /// another format.
    pub fn check(&self, path: &Path, format: Format) -> Result<()> {
        let refused = |what: String, todo: &str| {
            let error = Error::usage(what).file(path.display());
            Err(error.todo(todo))
        };
        let found = identity(path);
        if found.is_some_and(|found| self.inputs.contains(&found)) {
            return refused(
                "output is also an input".to_string(),
                "choose another output",
            );
        }
        let (name, own) = format.named();
        let extension = path.extension().and_then(OsStr::to_str);
        let extension = extension.map(str::to_ascii_lowercase);
        if let Some(extension) = &extension
            && KNOWN.contains(&extension.as_str())
            && !own.contains(&extension.as_str())
        {
            let what = format!("the output is {name}, and its name says .{extension}");
            return refused(what, &format!("name it .{}", own[0]));
        }
        if found.is_some() && !self.force {
            return refused("output exists".to_string(), "give --force to replace it");
        }
        Ok(())
    }

    /// Claims a path for one output.
    fn claim(&mut self, path: &Path) -> Result<()> {
        let (real, found) = (resolved(path), identity(path));
        let same = |(name, file): &(PathBuf, Option<(u64, u64)>)| {
            *name == real || (found.is_some() && *file == found)
        };
        if self.claimed.iter().any(same) {
            let what = "two outputs have the same name, or are the same file";
            return Err(Error::usage(what).file(path.display()));
        }
        self.claimed.push((real, found));
        Ok(())
    }

    /// The file that gets this name with the others: one that is open already, or a new one.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn create(&mut self, path: &Path, format: Format) -> Result<AtomicFile> {
        let is_same = |file: &AtomicFile| file.path() == path;
        if let Some(place) = self.early.iter().position(is_same) {
            return Ok(self.early.swap_remove(place));
        }
        self.claim(path)?;
        self.check(path, format)?;
        self.set.create(path, self.force)
    }

    /// Those that get their names together.
    pub fn set(&self) -> &OutputSet {
        &self.set
    }

    /// Whether outputs that exist are replaced.
    pub fn force(&self) -> bool {
        self.force
    }

    /// The files that are complete, and their bytes.
    pub fn written(&self) -> Vec<(PathBuf, u64)> {
        self.set.complete()
    }

    /// Gives all outputs their names.
    ///
    /// # Errors
    /// As [`OutputSet::commit`].
    pub fn commit(self) -> Result<()> {
        self.set.commit()
    }
}

/// Device and inode of a regular file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some((found.dev(), found.ino()))
}

/// The path without links and dots, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    if is_stdout(path) {
        return PathBuf::from("-");
    }
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let parent = fs::canonicalize(parent.unwrap_or(Path::new(".")));
    match (parent, path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_no_input_and_is_what_its_name_says() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("g.fa.fai"), "c\t1\t3\t1\t2\n").unwrap();
        fs::hard_link(at("g.fa.fai"), at("linked")).unwrap();
        std::os::unix::fs::symlink(at("g.fa.fai"), at("symbolic")).unwrap();
        let mut outputs = Outputs::new(&[at("g.fa.fai")], true);
        for name in ["g.fa.fai", "linked", "symbolic", "./linked"] {
            let error = outputs.check(&at(name), Format::Json).unwrap_err();
            assert!(error.to_string().contains("also an input"), "{error}");
        }
        for (name, format) in [
            ("a.tsv", Format::Parquet),
            ("a.TSV", Format::Parquet),
            ("a.parquet", Format::Json),
            ("a.bed", Format::Gff3),
        ] {
            let error = outputs.check(&at(name), format).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("its name says"), "{error}");
        }
        let table = |name: &str| [(at(name), Format::Parquet)];
        outputs.open(&table("a.parquet")).unwrap();
        outputs.open(&table("a.1k-d256")).unwrap();
        let again = outputs.open(&table("./a.parquet"));
        assert!(again.unwrap_err().to_string().contains("the same name"));
        outputs.create(&at("a.parquet"), Format::Parquet).unwrap();
    }
}
