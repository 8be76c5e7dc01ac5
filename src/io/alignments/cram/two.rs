//! CRAM 2, which htslib decodes whole: container by container it makes BAM records of it.

use super::super::header::Header;
use super::super::record::Record;
use crate::error::{Error, Kind, Result};
use crate::io::source::shown;
use crate::sequence::region::Span;
use rust_htslib::htslib as hts;
use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr::null_mut;

/// Reads CRAM 2. Memory: as htslib's, a container and the reference's contig.
pub struct Two {
    file: *mut hts::htsFile,
    header: *mut hts::sam_hdr_t,
    record: *mut hts::bam1_t,
    records: u64,
    /// Only records that overlap these, if there are any.
    spans: Vec<Span>,
}

// SAFETY: nothing of htslib's readers belongs to a thread; one at a time uses them, through `&mut`.
unsafe impl Send for Two {}

impl Two {
    /// Opens a file. Without `reference`, htslib looks for one by itself, as samtools would.
    ///
    /// # Errors
    /// Input: damaged, or cut; Usage: a name with a NUL.
    pub fn open(path: &Path, reference: Option<&Path>) -> Result<(Self, Header)> {
        let text = |path: &Path| {
            let text = CString::new(path.as_os_str().as_encoded_bytes());
            text.map_err(|_| Error::usage("no path holds a NUL"))
        };
        let name = text(path)?;
        // SAFETY: texts that end in NUL.
        let file = unsafe {
            hts::hts_set_log_level(hts::htsLogLevel_HTS_LOG_OFF);
            hts::hts_open(name.as_ptr(), c"r".as_ptr())
        };
        if file.is_null() {
            return Err(Error::because(Kind::Io, std::io::Error::last_os_error()));
        }
        let mut opened = Self {
            file,
            header: null_mut(),
            record: null_mut(),
            records: 0,
            spans: Vec::new(),
        };
        if let Some(reference) = reference {
            let name = text(reference)?;
            // SAFETY: the file is open, and the text ends in NUL.
            let set = unsafe { hts::hts_set_fai_filename(file, name.as_ptr()) };
            if set != 0 {
                return Err(Error::input("cannot be read").file(shown(reference)));
            }
        }
        // SAFETY: the file is open.
        opened.header = unsafe { hts::sam_hdr_read(file) };
        if opened.header.is_null() {
            return Err(Error::input("damaged CRAM header"));
        }
        // SAFETY: the file is open. 0 says that its end is not there.
        if unsafe { hts::hts_check_EOF(file) } == 0 {
            let what = "missing CRAM EOF container: the file is truncated";
            return Err(Error::input(what));
        }
        // SAFETY: a call without conditions.
        opened.record = unsafe { hts::bam_init1() };
        // SAFETY: the header is there, and its text ends in NUL.
        let text = unsafe { CStr::from_ptr(hts::sam_hdr_str(opened.header)) };
        let header = Header::of_text(text.to_string_lossy().into_owned())?;
        Ok((opened, header))
    }

    /// Leaves out records that overlap none of these. All of the file is read for them.
    pub fn keep(&mut self, spans: Vec<Span>) {
        self.spans = spans;
    }

    /// The next record.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        loop {
            // SAFETY: all three are there until `self` goes.
            match unsafe { hts::sam_read1(self.file, self.header, self.record) } {
                0.. => {}
                -1 => return Ok(None),
                _ => {
                    let what = "cannot be decoded: damaged, or its reference is missing";
                    let place = format!("record {}", self.records + 1);
                    let todo = "give the reference with --reference";
                    return Err(Error::input(what).place(place).todo(todo));
                }
            }
            self.records += 1;
            // SAFETY: the record was filled.
            let record = Record::new(bam(unsafe { &*self.record })?)?;
            let overlaps = |span: &Span| {
                record.position().is_some_and(|(contig, start)| {
                    let end = start + record.span();
                    span.contig == contig && start < span.end && span.start < end
                })
            };
            if self.spans.is_empty() || self.spans.iter().any(overlaps) {
                return Ok(Some(record));
            }
        }
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        // SAFETY: each is null, which these calls pass over, or belongs to `self`.
        unsafe {
            hts::bam_destroy1(self.record);
            hts::sam_hdr_destroy(self.header);
            hts::hts_close(self.file);
        }
    }
}

/// A record as the bytes that BAM has of it (SAM specification, section 4.2), without their size.
fn bam(record: &hts::bam1_t) -> Result<Vec<u8>> {
    let core = &record.core;
    let operations = u16::try_from(core.n_cigar);
    let operations = operations.map_err(|_| Error::input("a CIGAR of too many operations"))?;
    let place = |at: i64| i32::try_from(at).map_err(|_| Error::input("a position beyond BAM's"));
    // SAFETY: htslib keeps so many bytes there.
    let data = unsafe { std::slice::from_raw_parts(record.data, record.l_data as usize) };
    // The name is padded with NULs, of which BAM has one.
    let padded = usize::from(core.l_qname);
    let name = &data[..padded - usize::from(core.l_extranul)];
    let mut bytes = Vec::with_capacity(32 + data.len());
    bytes.extend(core.tid.to_le_bytes());
    bytes.extend(place(core.pos)?.to_le_bytes());
    bytes.extend([name.len() as u8, core.qual]);
    bytes.extend(core.bin.to_le_bytes());
    bytes.extend(operations.to_le_bytes());
    bytes.extend(core.flag.to_le_bytes());
    bytes.extend(core.l_qseq.to_le_bytes());
    bytes.extend(core.mtid.to_le_bytes());
    bytes.extend(place(core.mpos)?.to_le_bytes());
    bytes.extend(place(core.isize_)?.to_le_bytes());
    bytes.extend(name);
    bytes.extend(&data[padded..]);
    Ok(bytes)
}
