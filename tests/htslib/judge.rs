//! htslib reads a file, and writes what it understood as text, as BAM or as CRAM.

use rust_htslib::htslib as hts;
use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::Once;

static QUIET: Once = Once::new();

/// Says nothing on stderr, and looks for references nowhere but where it is told.
fn be_quiet() {
    // SAFETY: htslib is not at work yet, and nothing else here reads the environment but by Rust,
    // which locks it.
    unsafe {
        hts::hts_set_log_level(hts::htsLogLevel_HTS_LOG_OFF);
        std::env::set_var("REF_PATH", "/nowhere/%s");
        std::env::remove_var("REF_CACHE");
    }
}

/// Why a file was not read whole.
pub type Refused = String;

/// A file that htslib has open; closed when it goes.
struct File(*mut hts::htsFile);

impl File {
    fn open(path: &Path, mode: &CStr, options: &[String]) -> Result<Self, Refused> {
        QUIET.call_once(be_quiet);
        let name = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: both are texts that end in NUL.
        let file = unsafe { hts::hts_open(name.as_ptr(), mode.as_ptr()) };
        if file.is_null() {
            return Err("cannot be opened".to_string());
        }
        let file = Self(file);
        for option in options {
            let text = CString::new(option.as_str()).unwrap();
            let mut list = null_mut();
            // SAFETY: the file is open; htslib makes the list, which is freed once it was used.
            let applied = unsafe {
                let added = hts::hts_opt_add(&mut list, text.as_ptr());
                let applied = hts::hts_opt_apply(file.0, list);
                hts::hts_opt_free(list);
                added == 0 && applied == 0
            };
            if !applied {
                return Err(format!("{option} does not apply"));
            }
        }
        Ok(file)
    }

    /// Closes a file that was written, which may fail.
    fn close(self) -> Result<(), Refused> {
        let file = self.0;
        std::mem::forget(self);
        // SAFETY: it was open, and is not used again.
        let closed = unsafe { hts::hts_close(file) };
        if closed == 0 {
            Ok(())
        } else {
            Err("cannot be written".to_string())
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: it is open, and goes.
        unsafe { hts::hts_close(self.0) };
    }
}

/// Whether a call that reads found a record (true) or the end.
fn found(code: i32, records: u64) -> Result<bool, Refused> {
    match code {
        0.. => Ok(true),
        -1 => Ok(false),
        _ => Err(format!("record {} cannot be read", records + 1)),
    }
}

/// Alignments of `from` to `to`, written with `mode` (`w` SAM, `wb` BAM, `wc` CRAM) and `options`;
/// how many. CRAM is read by `reference`.
pub fn copy_alignments(
    from: &Path,
    reference: Option<&Path>,
    to: &Path,
    mode: &CStr,
    options: &[&str],
) -> Result<u64, Refused> {
    let by = |path: &Path| {
        // Of SAM without a header it would be taken for a list of contigs.
        let is_cram = path.extension().is_some_and(|end| end == "cram");
        let reference = reference.filter(|_| is_cram);
        reference.map(|reference| format!("reference={}", reference.display()))
    };
    let options = options.iter().map(|option| option.to_string());
    let written: Vec<String> = options.chain(by(to)).collect();
    let input = File::open(from, c"r", by(from).as_slice())?;
    // SAFETY: both files are open; header and record come from htslib, are used only while they
    // live, and freed once.
    unsafe {
        let header = hts::sam_hdr_read(input.0);
        if header.is_null() {
            return Err("its header cannot be read".to_string());
        }
        let record = hts::bam_init1();
        let copied = (|| {
            let output = File::open(to, mode, &written)?;
            if hts::sam_hdr_write(output.0, header) < 0 {
                return Err("its header cannot be written".to_string());
            }
            let mut records = 0;
            while found(hts::sam_read1(input.0, header, record), records)? {
                if hts::sam_write1(output.0, header, record) < 0 {
                    return Err(format!("record {} cannot be written", records + 1));
                }
                records += 1;
            }
            output.close()?;
            Ok(records)
        })();
        hts::bam_destroy1(record);
        hts::sam_hdr_destroy(header);
        copied
    }
}

/// Variants of `from` to the VCF `to`; how many.
pub fn copy_variants(from: &Path, to: &Path) -> Result<u64, Refused> {
    let input = File::open(from, c"r", &[])?;
    // SAFETY: as above.
    unsafe {
        let header = hts::bcf_hdr_read(input.0);
        if header.is_null() {
            return Err("its header cannot be read".to_string());
        }
        let record = hts::bcf_init();
        let copied = (|| {
            let output = File::open(to, c"w", &[])?;
            if hts::bcf_hdr_write(output.0, header) < 0 {
                return Err("its header cannot be written".to_string());
            }
            let mut records = 0;
            while found(hts::bcf_read(input.0, header, record), records)? {
                if hts::bcf_write(output.0, header, record) < 0 {
                    return Err(format!("record {} cannot be written", records + 1));
                }
                records += 1;
            }
            output.close()?;
            Ok(records)
        })();
        hts::bcf_destroy(record);
        hts::bcf_hdr_destroy(header);
        copied
    }
}

/// Indexes a FASTA file.
pub fn index_fasta(path: &Path) {
    let name = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a text that ends in NUL.
    let built = unsafe { hts::fai_build(name.as_ptr()) };
    assert_eq!(built, 0, "{}", path.display());
}
