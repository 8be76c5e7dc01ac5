//! Files that lie elsewhere, by htslib's connections: as it, they take keys from the environment
//! (`AWS_ACCESS_KEY_ID` and its like, `GCS_OAUTH_TOKEN`) and from `~/.aws/credentials`.

use crate::error::{Error, Kind, Result};
use rust_htslib::htslib as hts;
use std::ffi::{CString, c_void};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

/// How often a connection that was cut is made anew, and how long is waited before.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(4),
];

/// Where systems keep the certificates that they trust.
const CERTIFICATES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Names the system's certificates to htslib, unless `CURL_CA_BUNDLE` does.
pub fn find_certificates() {
    if std::env::var_os("CURL_CA_BUNDLE").is_some() {
        return;
    }
    if let Some(path) = CERTIFICATES.iter().find(|path| Path::new(path).exists()) {
        // SAFETY: the program has one thread when it calls this.
        unsafe { std::env::set_var("CURL_CA_BUNDLE", path) };
    }
}

/// A connection, which closes when it goes. The block reader of htslib lends its way to read a
/// file's bytes as they are.
struct Connection(*mut hts::BGZF);

// SAFETY: a connection belongs to no thread; it is used by one at a time, through `&mut`.
unsafe impl Send for Connection {}

impl Connection {
    fn open(address: &CString) -> io::Result<Self> {
        static QUIET: Once = Once::new();
        // SAFETY: a call without conditions.
        QUIET.call_once(|| unsafe { hts::hts_set_log_level(hts::htsLogLevel_HTS_LOG_OFF) });
        // SAFETY: texts that end in NUL; a file that no reader takes is closed here.
        unsafe {
            let file = hts::hopen(address.as_ptr(), c"r".as_ptr());
            if file.is_null() {
                return Err(io::Error::last_os_error());
            }
            let reader = hts::bgzf_hopen(file, c"r".as_ptr());
            if reader.is_null() {
                let error = io::Error::last_os_error();
                hts::hclose_abruptly(file);
                return Err(error);
            }
            Ok(Self(reader))
        }
    }

    fn seek(&mut self, offset: i64, whence: i32) -> io::Result<u64> {
        // SAFETY: the connection is open, and its file with it.
        let place = unsafe { hts::hseek((*self.0).fp, offset, whence) };
        u64::try_from(place).map_err(|_| io::Error::last_os_error())
    }

    /// Fills `out`, or reads up to the file's end.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the connection is open, and `out` has room for its length.
        let got = unsafe {
            let to = out.as_mut_ptr().cast::<c_void>();
            hts::bgzf_raw_read(self.0, to, out.len())
        };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: it is open, and not used again.
        unsafe { hts::bgzf_close(self.0) };
    }
}

/// A remote file: reads and seeks, over connections that are made anew when they are cut.
///
/// Memory: 200 KB.
pub struct Remote {
    address: CString,
    connection: Connection,
    size: Option<u64>,
    /// Where the next byte is read, and where the connection stands.
    position: u64,
    at: u64,
}

impl Remote {
    /// Opens a URL.
    ///
    /// # Errors
    /// Io: not there, not allowed, no server.
    pub fn open(url: &Path) -> Result<Self> {
        let address = CString::new(url.as_os_str().as_encoded_bytes());
        let address = address.map_err(|_| Error::usage("no URL holds a NUL"))?;
        let connection = patiently(|| Connection::open(&address));
        let mut connection = connection.map_err(|error| said(error, 0))?;
        let size = size(&mut connection);
        let at = size.map_or(0, |size| size - 1);
        Ok(Self {
            address,
            connection,
            size,
            position: 0,
            at,
        })
    }

    /// Its size in bytes; `None` if the server states none, or gives no ranges.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Reads where the next byte is, over a connection that is still good.
    fn try_read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at != self.position {
            self.connection.seek(self.position as i64, libc::SEEK_SET)?;
            self.at = self.position;
        }
        let got = self.connection.read(out)?;
        if got == 0 && self.size.is_some() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += got as u64;
        Ok(got)
    }

    fn connect_again(&mut self) -> io::Result<()> {
        self.connection = Connection::open(&self.address)?;
        let size = size(&mut self.connection);
        self.at = size.map_or(0, |size| size - 1);
        match size {
            None => Err(io::ErrorKind::UnexpectedEof.into()),
            _ if size == self.size => Ok(()),
            _ => Err(io::Error::other(Error::input(
                "it changed while it was read",
            ))),
        }
    }
}

/// Makes an attempt again while the connection is at fault, and not what is asked for.
fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for wait in AGAIN {
        match attempt() {
            Err(error) if is_cut(&error) => std::thread::sleep(wait),
            other => return other,
        }
    }
    attempt()
}

fn is_cut(error: &io::Error) -> bool {
    use io::ErrorKind;
    let cut = [
        ErrorKind::BrokenPipe,
        ErrorKind::ConnectionAborted,
        ErrorKind::ConnectionReset,
        ErrorKind::NotSeekable,
        ErrorKind::ResourceBusy,
        ErrorKind::TimedOut,
        ErrorKind::UnexpectedEof,
    ];
    cut.contains(&error.kind())
}

/// What is said of a connection that was cut; other errors as they are.
fn said(error: io::Error, position: u64) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) if is_cut(&error) => {
            let what = format!("the connection was cut at byte {position}: {error}");
            Error::new(Kind::Io, what).caused_by(error)
        }
        Err(error) => Error::because(Kind::Io, error),
    }
}

/// The file's size, by asking for its last byte: only a server that gives ranges can answer.
fn size(connection: &mut Connection) -> Option<u64> {
    connection
        .seek(-1, libc::SEEK_END)
        .ok()
        .map(|last| last + 1)
}

impl Read for Remote {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self
            .size
            .map_or(u64::MAX, |size| size.saturating_sub(self.position));
        let wanted = usize::try_from(left).map_or(out.len(), |left| left.min(out.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let out = &mut out[..wanted];
        let mut read = self.try_read(out);
        // Without ranges nothing can be read from its middle on.
        if self.size.is_some() && read.as_ref().is_err_and(is_cut) {
            read = patiently(|| {
                self.connect_again()?;
                self.try_read(out)
            });
        }
        let got = read.map_err(|error| io::Error::other(said(error, self.position)))?;
        self.position += got as u64;
        Ok(got)
    }
}

impl Seek for Remote {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match (to, self.size) {
            (SeekFrom::Start(place), _) => Some(place),
            (SeekFrom::Current(by), _) => self.position.checked_add_signed(by),
            (SeekFrom::End(by), Some(size)) => size.checked_add_signed(by),
            (SeekFrom::End(_), None) => None,
        };
        self.position = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
