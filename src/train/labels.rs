//! What is known of each base: classes and values out of annotations and tracks.

use super::split::{Genomes, Source};
use crate::error::{Error, Result};
use crate::genes;
use crate::head::{Link, Shape, Task, Unit};
use crate::io::{bed, bedgraph, bigwig, gff};
use crate::sequence::contigs::compare;
use crate::sequence::region::{Region, Span};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Classes that a base can have at a time, at most: the bits of a mark.
const MOST: usize = 32;

/// Labels of all bases of some genomes.
pub struct Labels {
    /// What each number of a head stands for.
    pub outputs: Vec<String>,
    /// The files that were read.
    pub files: Vec<Source>,
    targets: Targets,
}

/// By contig, then base.
enum Targets {
    /// A class of [`genes::CLASSES`], or [`genes::UNKNOWN`].
    Genes(Vec<Vec<u8>>),
    /// A bit for each class.
    Marks(Vec<Vec<u32>>),
    /// A number for each output: (bases, K); NaN where there is none.
    Values(Vec<Vec<f32>>),
}

/// What a file of labels holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Features,
    Bed,
    BedGraph,
    BigWig,
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        let ending = [".gz", ".bgz", ".zst"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        match ending.unwrap_or(&name).rsplit('.').next() {
            Some("gff" | "gff3" | "gtf") => Ok(Self::Features),
            Some("bed") => Ok(Self::Bed),
            Some("bedgraph" | "bdg" | "bg") => Ok(Self::BedGraph),
            Some("bw" | "bigwig") => Ok(Self::BigWig),
            _ => Err(Error::usage("no format of labels is called so")
                .file(path.display())
                .todo("give .gff3, .gtf, .bed, .bedgraph or .bw; all but .bw may be compressed")),
        }
    }

    fn has_values(self) -> bool {
        matches!(self, Self::BedGraph | Self::BigWig)
    }
}

impl Labels {
    /// The classes of bases that genes give them.
    ///
    /// # Errors
    /// Usage: a file that is no annotation. Input: a damaged file, or a contig that the genomes
    /// lack.
    pub fn genes(paths: &[PathBuf], genomes: &Genomes) -> Result<Self> {
        let (mut features, mut files) = (Vec::new(), Vec::new());
        for path in paths {
            if Format::of(path)? != Format::Features {
                let what = "genes are learned from GFF3 or GTF";
                return Err(Error::usage(what).file(path.display()));
            }
            let read = gff::read(path)?;
            known(path, read.iter().map(|feature| &feature.region), genomes)?;
            files.push(Source::read(path, read.len() as u64)?);
            // An error names its line: each file by itself.
            genes::labels(&read, &named(genomes)).map_err(|error| error.file(path.display()))?;
            features.extend(read);
        }
        let contigs = named(genomes);
        let labels = genes::labels(&features, &contigs)?;
        for ((name, _), labels) in contigs.iter().zip(&labels) {
            if labels.iter().all(|label| *label == genes::UNKNOWN) {
                tracing::warn!("{name}: no coding sequences are annotated: it is not learned from");
            }
        }
        Ok(Self {
            outputs: genes::CLASSES.map(str::to_string).to_vec(),
            files,
            targets: Targets::Genes(labels),
        })
    }

    /// The types of features (those of `wanted`, if there are any), the names of BED regions, or
    /// the values of tracks.
    ///
    /// # Errors
    /// Usage: a format that is not known, classes and values together, no class or too many. Input:
    /// a damaged file, or a contig that the genomes lack.
    pub fn read(paths: &[PathBuf], wanted: &[String], genomes: &Genomes) -> Result<Self> {
        let formats: Vec<Format> = paths
            .iter()
            .map(|path| Format::of(path))
            .collect::<Result<_>>()?;
        let values = formats.iter().filter(|format| format.has_values()).count();
        match values {
            0 => Self::marks(paths, &formats, wanted, genomes),
            _ if values < formats.len() => Err(Error::usage(
                "classes and values cannot be learned in one run",
            )),
            _ if !wanted.is_empty() => Err(Error::usage("--feature is for GFF3 and GTF")),
            _ => Self::values(paths, &formats, genomes),
        }
    }

    fn marks(
        paths: &[PathBuf],
        formats: &[Format],
        wanted: &[String],
        genomes: &Genomes,
    ) -> Result<Self> {
        let (mut regions, mut files) = (Vec::new(), Vec::new());
        for (path, format) in paths.iter().zip(formats) {
            let named: Vec<(Region, String)> = match format {
                Format::Features => gff::read(path)?
                    .into_iter()
                    .filter(|feature| wanted.is_empty() || wanted.contains(&feature.kind))
                    .map(|feature| (feature.region, feature.kind))
                    .collect(),
                _ => bed::read(path)?
                    .into_iter()
                    .map(|record| (record.region, record.name.unwrap_or_else(|| stem(path))))
                    .collect(),
            };
            known(path, named.iter().map(|(region, _)| region), genomes)?;
            files.push(Source::read(path, named.len() as u64)?);
            regions.extend(named);
        }
        let classes: BTreeSet<&String> = regions.iter().map(|(_, class)| class).collect();
        let outputs: Vec<String> = classes.into_iter().cloned().collect();
        if let Some(missing) = wanted.iter().find(|class| !outputs.contains(class)) {
            return Err(Error::input(format!("no feature is of type \"{missing}\"")));
        }
        if !(1..=MOST).contains(&outputs.len()) {
            let what = format!("{} classes of labels, expected 1 to {MOST}", outputs.len());
            return Err(Error::usage(what).todo("choose types with --feature"));
        }
        let mut marks = genomes.each(|bases| vec![0u32; bases.len()]);
        for (region, class) in &regions {
            let class = outputs
                .iter()
                .position(|output| output == class)
                .unwrap_or_default();
            if let Some(contig) = genomes.place(&region.contig) {
                for mark in within(&mut marks[contig], region, 1) {
                    *mark |= 1 << class;
                }
            }
        }
        Ok(Self {
            outputs,
            files,
            targets: Targets::Marks(marks),
        })
    }

    fn values(paths: &[PathBuf], formats: &[Format], genomes: &Genomes) -> Result<Self> {
        let outputs: Vec<String> = paths.iter().map(|path| stem(path)).collect();
        if outputs.iter().collect::<BTreeSet<_>>().len() < outputs.len() {
            return Err(Error::usage("two tracks of one name"));
        }
        let k = outputs.len();
        let mut values = genomes.each(|bases| vec![f32::NAN; bases.len() * k]);
        let mut files = Vec::new();
        for (i, (path, format)) in paths.iter().zip(formats).enumerate() {
            let records = match format {
                Format::BigWig => bigwig::read(path)?,
                _ => bedgraph::read(path)?,
            };
            known(path, records.iter().map(|(region, _)| region), genomes)?;
            for (region, value) in &records {
                if let Some(contig) = genomes.place(&region.contig) {
                    let here = within(&mut values[contig], region, k);
                    here.iter_mut().skip(i).step_by(k).for_each(|x| *x = *value);
                }
            }
            files.push(Source::read(path, records.len() as u64)?);
        }
        Ok(Self {
            outputs,
            files,
            targets: Targets::Values(values),
        })
    }

    /// The head that can learn these labels.
    pub fn task(&self, shape: Shape, both_strands: bool) -> Task {
        let (name, link) = match &self.targets {
            Targets::Genes(_) => ("genes", Link::Softmax),
            Targets::Marks(_) => ("tracks", Link::Sigmoid),
            Targets::Values(_) => ("tracks", Link::Identity),
        };
        Task {
            name: name.to_string(),
            unit: Unit::Base,
            link,
            outputs: self.outputs.clone(),
            shape,
            both_strands,
        }
    }

    /// Appends the targets of a base, read on the forward strand or on the other: of genes its
    /// class as one number, NaN if it is unknown; else a number for each output: 0 or 1 of classes,
    /// NaN where there is no value.
    pub fn target(&self, contig: usize, base: u64, reverse: bool, out: &mut Vec<f32>) {
        let (i, k) = (base as usize, self.outputs.len());
        match &self.targets {
            Targets::Genes(all) => out.push(match all[contig][i] {
                genes::UNKNOWN => f32::NAN,
                class if reverse => genes::MIRROR[usize::from(class)] as f32,
                class => f32::from(class),
            }),
            Targets::Marks(all) => {
                let bits = all[contig][i];
                out.extend((0..k).map(|class| ((bits >> class) & 1) as f32));
            }
            Targets::Values(all) => out.extend_from_slice(&all[contig][i * k..][..k]),
        }
    }

    /// For each class the weights of its bases and of all others, so that the classes count alike
    /// on `spans`; 1 where it has none. Of genes only the first is used.
    pub fn balance(&self, spans: &[Span]) -> Vec<[f32; 2]> {
        let k = self.outputs.len();
        let (mut counts, mut all, mut row) = (vec![0u64; k], 0, Vec::new());
        for span in spans {
            for base in span.start..span.end {
                row.clear();
                self.target(span.contig, base, false, &mut row);
                match (&self.targets, &row[..]) {
                    (Targets::Genes(_), [class]) if class.is_nan() => continue,
                    (Targets::Genes(_), [class]) => counts[*class as usize] += 1,
                    _ => counts
                        .iter_mut()
                        .zip(&row)
                        .for_each(|(n, x)| *n += u64::from(*x > 0.0)),
                }
                all += 1;
            }
        }
        let groups = match &self.targets {
            Targets::Genes(_) => counts.iter().filter(|n| **n > 0).count(),
            _ => 2,
        };
        let weight = |n: u64| match n {
            0 => 1.0,
            n => (all as f64 / groups as f64 / n as f64) as f32,
        };
        counts
            .iter()
            .map(|n| [weight(*n), weight(all - n)])
            .collect()
    }
}

/// Fails if a label stands on a contig that the genomes lack.
fn known<'a>(
    path: &Path,
    regions: impl Iterator<Item = &'a Region>,
    genomes: &Genomes,
) -> Result<()> {
    let names = regions.map(|region| region.contig.as_str());
    match compare(names, &genomes.contigs).report() {
        Some(report) => Err(Error::input(report)
            .file(path.display())
            .todo("rename the contigs of the labels or of the FASTA file")),
        None => Ok(()),
    }
}

fn named(genomes: &Genomes) -> Vec<(&str, &[u8])> {
    let names = genomes.contigs.iter().map(|contig| contig.name.as_str());
    names.zip(genomes.each_bases()).collect()
}

/// The part of a contig's labels, `k` a base, that lies within a region.
fn within<'a, T>(labels: &'a mut [T], region: &Region, k: usize) -> &'a mut [T] {
    let bases = labels.len() / k;
    let [from, to] = [region.start, region.end].map(|at| (at as usize).min(bases) * k);
    &mut labels[from..to.max(from)]
}

/// A file's name without its endings.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A genome of contigs c (20 bases) and d (4), and label files.
    fn read(files: &[(&str, &str)], wanted: &[&str]) -> Result<Labels> {
        let dir = tempfile::tempdir().unwrap();
        let fasta = dir.path().join("g.fa");
        std::fs::write(&fasta, ">c\nACGTACGTACGTACGTACGT\n>d\nACGT\n").unwrap();
        let genomes = Genomes::read(&[fasta]).unwrap();
        let paths: Vec<PathBuf> = files
            .iter()
            .map(|(name, _)| dir.path().join(name))
            .collect();
        for (path, (_, text)) in paths.iter().zip(files) {
            std::fs::write(path, text).unwrap();
        }
        let wanted: Vec<String> = wanted.iter().map(|x| x.to_string()).collect();
        Labels::read(&paths, &wanted, &genomes)
    }

    fn targets(labels: &Labels, contig: usize, bases: std::ops::Range<u64>) -> Vec<f32> {
        let mut out = Vec::new();
        bases.for_each(|i| labels.target(contig, i, false, &mut out));
        out
    }

    const FEATURES: &str = "c\ts\tgene\t3\t5\t.\t+\t.\tID=a\nc\ts\texon\t5\t30\t.\t+\t.\tID=b\n";

    #[test]
    fn types_of_features_and_names_of_regions_are_classes_that_may_overlap() {
        let labels = read(
            &[("a.gff3", FEATURES), ("b.bed", "d\t0\t1\tgene\nd\t1\t2\n")],
            &[],
        )
        .unwrap();
        assert_eq!(labels.outputs, ["b", "exon", "gene"]);
        assert_eq!(
            targets(&labels, 0, 3..6),
            [0., 0., 1., 0., 1., 1., 0., 1., 0.]
        );
        assert_eq!(targets(&labels, 1, 0..2), [0., 0., 1., 1., 0., 0.]);
        let one = read(&[("a.gtf", FEATURES)], &["exon"]).unwrap();
        assert_eq!(one.outputs, ["exon"]);
        assert_eq!(
            one.balance(&[Span {
                contig: 0,
                start: 0,
                end: 20
            }]),
            [[0.625, 2.5]]
        );
        assert!(read(&[("a.gtf", FEATURES)], &["intron"]).is_err());
        assert!(read(&[("a.txt", FEATURES)], &[]).is_err());
    }

    #[test]
    fn tracks_have_values_and_gaps() {
        let labels = read(
            &[
                ("x.bedgraph", "c 0 2 1.5\nc 3 4 -1\n"),
                ("y.bg", "c\t1\t2\t9\n"),
            ],
            &[],
        )
        .unwrap();
        assert_eq!(labels.outputs, ["x", "y"]);
        let found = targets(&labels, 0, 0..4);
        let known = found.iter().map(|x| if x.is_nan() { 0.0 } else { *x });
        let expected = [1.5, 0.0, 1.5, 9.0, 0.0, 0.0, -1.0, 0.0];
        assert_eq!(known.collect::<Vec<_>>(), expected);
        assert_eq!(found.iter().filter(|x| x.is_nan()).count(), 4);
        assert!(read(&[("x.bg", "c 0 2 1\n"), ("a.gff", FEATURES)], &[]).is_err());
        assert!(read(&[("x.bg", "c 0 2 1\n"), ("x.bedgraph", "c 0 2 1\n")], &[]).is_err());
    }

    #[test]
    fn contigs_that_the_genome_lacks_are_an_error_that_names_the_nearest() {
        let error = read(&[("b.bed", "chrC\t0\t1\tgene\n")], &[])
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("\"chrC\" (\"c\"?)") && error.contains("b.bed"),
            "{error}"
        );
    }
}
