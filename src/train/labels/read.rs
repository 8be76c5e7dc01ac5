//! Labels out of files.

use super::place::{Bases, OnGenomes};
use super::{Labels, Targets};
use crate::error::{Error, Result};
use crate::genes;
use crate::io::{bed, bedgraph, bigwig, gff};
use crate::sequence::region::Region;
use crate::train::{DataFile, Genomes};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Classes that a base can have at a time, at most: the bits of a mark.
const MOST: usize = 32;

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
    /// Usage: a file that is no annotation. Input: a damaged file, a contig that the genomes lack,
    /// or a coding sequence beyond a contig's end.
    pub fn genes(paths: &[PathBuf], genomes: &Genomes) -> Result<Self> {
        let (mut features, mut files) = (Vec::new(), Vec::new());
        for path in paths {
            if Format::of(path)? != Format::Features {
                let what = "genes are learned from GFF3 or GTF";
                return Err(Error::usage(what).file(path.display()));
            }
            let read = gff::read(path)?;
            let contigs = read.iter().map(|feature| feature.region.contig.as_str());
            let place = OnGenomes::new(genomes, path, contigs, genes::circles(&read))?;
            let learned = |kind: &str| kind == "CDS" || kind == "pseudogene";
            for feature in read.iter().filter(|feature| learned(&feature.kind)) {
                place.bases(&feature.region, Some(feature.line))?;
            }
            files.push(DataFile::read(path, read.len() as u64)?);
            features.extend(read);
        }
        let contigs = genomes.contigs.iter().map(|contig| contig.name.as_str());
        let contigs: Vec<_> = contigs.zip(genomes.each_bases()).collect();
        let labels = genes::labels(&features, &contigs);
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
    /// a damaged file, a contig that the genomes lack, or a label beyond a contig's end.
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
        let (mut marked, mut files) = (Vec::new(), Vec::new());
        for (path, format) in paths.iter().zip(formats) {
            let before = marked.len();
            match format {
                Format::Features => features(path, wanted, genomes, &mut marked)?,
                _ => regions(path, genomes, &mut marked)?,
            }
            files.push(DataFile::read(path, (marked.len() - before) as u64)?);
        }
        let classes: BTreeSet<&String> = marked.iter().map(|(_, class)| class).collect();
        let outputs: Vec<String> = classes.into_iter().cloned().collect();
        if let Some(missing) = wanted.iter().find(|class| !outputs.contains(class)) {
            return Err(Error::input(format!("no feature is of type \"{missing}\"")));
        }
        if !(1..=MOST).contains(&outputs.len()) {
            let what = format!("{} classes of labels, expected 1 to {MOST}", outputs.len());
            return Err(Error::usage(what).todo("choose types with --feature"));
        }
        let mut marks = genomes.each(|bases| vec![0u32; bases.len()]);
        for (bases, class) in &marked {
            let class = outputs.binary_search(class).unwrap_or_default();
            let here = bases.of(&mut marks[bases.contig], 1);
            here.for_each(|mark| *mark |= 1 << class);
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
            let records: Vec<(Region, f32, Option<u64>)> = match format {
                Format::BigWig => {
                    let records = bigwig::read(path)?.into_iter();
                    records
                        .map(|(region, value)| (region, value, None))
                        .collect()
                }
                _ => {
                    let records = bedgraph::read(path)?.into_iter();
                    let of = |r: bedgraph::Record| (r.region, r.value, Some(r.line));
                    records.map(of).collect()
                }
            };
            let contigs = records.iter().map(|(region, ..)| region.contig.as_str());
            let place = OnGenomes::new(genomes, path, contigs, BTreeMap::new())?;
            for (region, value, line) in &records {
                let bases = place.bases(region, *line)?;
                let here = bases.of(&mut values[bases.contig], k);
                here.skip(i).step_by(k).for_each(|x| *x = *value);
            }
            files.push(DataFile::read(path, records.len() as u64)?);
        }
        Ok(Self {
            outputs,
            files,
            targets: Targets::Values(values),
        })
    }
}

/// The features of GFF3 or GTF whose types are `wanted`, or all of them, by their types.
fn features(
    path: &Path,
    wanted: &[String],
    genomes: &Genomes,
    marked: &mut Vec<(Bases, String)>,
) -> Result<()> {
    let read = gff::read(path)?;
    let of_type = |kind: &String| wanted.is_empty() || wanted.contains(kind);
    let chosen = || read.iter().filter(|feature| of_type(&feature.kind));
    let contigs = chosen().map(|feature| feature.region.contig.as_str());
    let place = OnGenomes::new(genomes, path, contigs, genes::circles(&read))?;
    for feature in chosen() {
        let bases = place.bases(&feature.region, Some(feature.line))?;
        marked.push((bases, feature.kind.clone()));
    }
    Ok(())
}

/// The regions of BED by their names; those without one go by the file's.
fn regions(path: &Path, genomes: &Genomes, marked: &mut Vec<(Bases, String)>) -> Result<()> {
    let records = bed::read(path, false)?.warned();
    let contigs = records.iter().map(|record| record.region.contig.as_str());
    let place = OnGenomes::new(genomes, path, contigs, BTreeMap::new())?;
    for record in records {
        let bases = place.bases(&record.region, Some(record.line))?;
        marked.push((bases, record.name.unwrap_or_else(|| stem(path))));
    }
    Ok(())
}

/// A file's name without its endings.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_string()
}
