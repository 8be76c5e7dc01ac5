//! A server of files on loopback, with ranges, redirects and what goes wrong.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What goes wrong.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// So many answers end after half of their bytes.
    Cut(usize),
    /// All files in the second half of the requests are other ones of the same size.
    Changes(usize),
    /// Ranges are not understood.
    NoRanges,
}

/// Files below `/`, and again below `/moved/`, from where a client is sent to them.
pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

struct Served {
    files: BTreeMap<String, Vec<u8>>,
    trouble: Trouble,
    answers: AtomicUsize,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn new(files: BTreeMap<String, Vec<u8>>, trouble: Trouble) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let served = Arc::new(Served {
            files,
            trouble,
            answers: AtomicUsize::new(0),
            asked: Arc::clone(&asked),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let served = Arc::clone(&served);
                // A client that is gone is no failure of the server.
                std::thread::spawn(move || served.answer(&stream.unwrap()).ok());
            }
        });
        Self { address, asked }
    }

    /// The URL of a file.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// What was asked since the last call: path and range of each request.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Served {
    fn answer(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap()?;
        let mut range = String::new();
        for line in lines {
            let line = line?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("range: bytes=") {
                range = value.to_string();
            }
        }
        let path = first
            .split([' ', '?'])
            .nth(1)
            .unwrap()
            .trim_start_matches('/');
        self.asked.lock().unwrap().push(format!("{path} {range}"));
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        let close = "Connection: close\r\n";
        if let Some(name) = path.strip_prefix("moved/") {
            let head = format!(
                "HTTP/1.1 302 Found\r\n{close}Location: /{name}\r\nContent-Length: 0\r\n\r\n"
            );
            return stream.write_all(head.as_bytes());
        }
        let Some(bytes) = self.files.get(path) else {
            let head = format!("HTTP/1.1 404 Not Found\r\n{close}Content-Length: 0\r\n\r\n");
            return stream.write_all(head.as_bytes());
        };
        let mut bytes = bytes.clone();
        if matches!(self.trouble, Trouble::Changes(after) if number >= after) {
            bytes.iter_mut().for_each(|byte| *byte ^= 1);
        }
        let all = bytes.len();
        let start = range
            .strip_suffix('-')
            .and_then(|start| start.parse::<usize>().ok());
        let start = start.filter(|_| self.trouble != Trouble::NoRanges);
        let status = match start {
            Some(start) => format!(
                "206 Partial Content\r\nContent-Range: bytes {start}-{}/{all}",
                all - 1
            ),
            None => "200 OK".to_string(),
        };
        let rest = &bytes[start.unwrap_or(0)..];
        let length = rest.len();
        let sent = match self.trouble {
            Trouble::Cut(times) if number < times => length / 2,
            _ => length,
        };
        let head = format!("HTTP/1.1 {status}\r\n{close}Content-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(&rest[..sent])
    }
}
