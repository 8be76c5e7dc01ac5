//! The index of an annotated VCF, built while its lines are written.

use crate::error::{Error, Kind, Result};
use crate::io::atomic::{AtomicFile, OutputSet};
use noodles::bgzf::VirtualPosition;
use noodles::core::Position;
use noodles::csi::binning_index::index::header::Builder;
use noodles::csi::binning_index::index::reference_sequence::bin::Chunk;
use noodles::csi::binning_index::index::reference_sequence::index::{BinnedIndex, LinearIndex};
use noodles::csi::binning_index::{Indexer, index::Header};
use noodles::{csi, tabix};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Bins of 2^14 bases at the least, as tabix has them.
const SHIFT: u8 = 14;
/// The last position of a `.tbi`, and the levels of its bins.
const TABIX: (u64, u8) = (1 << 29, 5);
/// The same of our `.csi`: room for any contig.
const CSI: (u64, u8) = (1 << 35, 7);
/// A `.tbi` has an entry for every 2^14 bases up to the last record, of every contig: 2^24 are
/// 274 billion bases and 128 MiB. Made-up positions on many contigs could ask for any number.
const MAX_WINDOWS: u64 = 1 << 24;

/// Both indexes of a file, until it is known which one serves.
pub(super) struct Index {
    vcf: PathBuf,
    outputs: OutputSet,
    force: bool,
    file: AtomicFile,
    names: Vec<String>,
    seen: HashSet<String>,
    /// The last record's start, 1-based.
    start: u64,
    /// The last base that a record of the current contig covers, 1-based.
    end: u64,
    /// Entries that a `.tbi` has for the contigs before.
    windows: u64,
    tabix: Option<Indexer<LinearIndex>>,
    csi: Option<Indexer<BinnedIndex>>,
    /// Of a BCF, which has a `.csi`: the places of its contigs in the header.
    contigs: Option<HashMap<String, usize>>,
}

impl Index {
    /// Reserves the index of `vcf` among the outputs of a run. `contigs`: of a BCF, their places in
    /// the header.
    pub(super) fn create(
        vcf: &Path,
        outputs: &OutputSet,
        force: bool,
        contigs: Option<HashMap<String, usize>>,
    ) -> Result<Self> {
        // Tools prefer a .csi, so one of an earlier file would be taken for the new file's.
        let csi = beside(vcf, "csi");
        if contigs.is_none() && csi.exists() && !force {
            return Err(Error::new(Kind::Usage, "output exists")
                .file(csi.display())
                .todo("give --force to replace it"));
        }
        Ok(Self {
            vcf: vcf.to_path_buf(),
            outputs: outputs.clone(),
            force,
            file: outputs.create(
                &beside(vcf, contigs.as_ref().map_or("tbi", |_| "csi")),
                force,
            )?,
            names: Vec::new(),
            seen: HashSet::new(),
            start: 0,
            end: 0,
            windows: 0,
            tabix: Indexer::new(SHIFT, TABIX.1).filter(|_| contigs.is_none()),
            csi: Indexer::new(SHIFT, CSI.1),
            contigs,
        })
    }

    /// Adds a record: its bases, 1-based and closed, and where its line begins and ends.
    pub(super) fn add(
        &mut self,
        chrom: &str,
        start: u64,
        end: u64,
        (from, to): (VirtualPosition, VirtualPosition),
    ) {
        if self.names.last().is_none_or(|name| name != chrom) {
            self.names.push(chrom.to_string());
            self.windows += self.end.div_ceil(1 << SHIFT);
            (self.start, self.end) = (0, 0);
            if !self.seen.insert(chrom.to_string()) {
                return self.give_up("it is not sorted");
            }
        }
        if start < self.start {
            return self.give_up("it is not sorted");
        }
        (self.start, self.end) = (start, self.end.max(end));
        if end > CSI.0 {
            return self.give_up("a position is beyond what indexes can hold");
        }
        if end > TABIX.0 || self.windows + self.end.div_ceil(1 << SHIFT) > MAX_WINDOWS {
            self.tabix = None;
        }
        let position = |at: u64| Position::try_from(at as usize).unwrap_or(Position::MIN);
        let place = match &self.contigs {
            Some(contigs) => contigs.get(chrom).copied().unwrap_or_default(),
            None => self.names.len() - 1,
        };
        let context = Some((place, position(start), position(end), true));
        let chunk = Chunk::new(from, to);
        let tabix = self
            .tabix
            .as_mut()
            .map(|index| index.add_record(context, chunk));
        let csi = self
            .csi
            .as_mut()
            .map(|index| index.add_record(context, chunk));
        if let Some(Err(error)) = tabix.or(csi) {
            self.give_up(&error.to_string());
        }
    }

    fn give_up(&mut self, why: &str) {
        if self.csi.is_some() {
            tracing::warn!("{}: no index is written: {why}", self.vcf.display());
        }
        (self.tabix, self.csi) = (None, None);
    }

    /// Writes the index that serves; those of an earlier file of that name go.
    pub(super) fn finish(self) -> Result<()> {
        let (tbi, csi) = (beside(&self.vcf, "tbi"), beside(&self.vcf, "csi"));
        let count = self.names.len();
        let names = self.names.iter().map(|name| name.as_str().into());
        let header = Builder::vcf().set_reference_sequence_names(names.collect());
        let header: Header = header.build();
        let stale = match (self.tabix, self.csi) {
            (Some(tabix), _) => {
                let index = tabix.set_header(header).build(count);
                let mut writer = tabix::io::Writer::new(self.file);
                let written = writer.write_index(&index);
                let file = written.and_then(|()| writer.into_inner().finish());
                file.map_err(|e| Error::io(&tbi, &e))?.finish()?;
                vec![csi]
            }
            (None, Some(indexer)) => {
                let (index, file) = if let Some(contigs) = self.contigs {
                    (indexer.build(contigs.len()), self.file)
                } else {
                    self.file.withdraw();
                    let index = indexer.set_header(header).build(count);
                    (index, self.outputs.create(&csi, self.force)?)
                };
                let mut writer = csi::io::Writer::new(file);
                let written = writer.write_index(&index);
                let file = written.and_then(|()| writer.into_inner().finish());
                file.map_err(|e| Error::io(&csi, &e))?.finish()?;
                vec![tbi]
            }
            (None, None) => {
                self.file.withdraw();
                vec![tbi, csi]
            }
        };
        for path in stale.into_iter().filter(|_| self.force) {
            self.outputs.remove_stale(path);
        }
        Ok(())
    }
}

/// The path of a file's index.
fn beside(vcf: &Path, extension: &str) -> PathBuf {
    let mut path = OsString::from(vcf);
    path.push(".");
    path.push(extension);
    path.into()
}
