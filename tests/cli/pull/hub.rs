//! A server that speaks the hub's protocol, and the program that talks to it.

use crate::harness::{Case, sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The commit of all that is served.
pub const COMMIT: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// What goes wrong.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Trouble {
    #[default]
    None,
    /// The first answer with a large file's bytes ends after so many.
    Cut(usize),
    /// Every such answer does.
    CutAlways(usize),
    /// The bytes of large files are not those of their digests.
    OtherBytes,
    /// No server states an ETag.
    NoETag,
    /// The model is for those with a token.
    Gated,
    /// Large files are larger than any disk.
    Huge,
    /// The first answers are errors of the server.
    Busy(usize),
    /// Ranges are not understood.
    NoRanges,
}

/// A hub on loopback.
pub struct Hub {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

struct Served {
    address: SocketAddr,
    files: BTreeMap<&'static str, Vec<u8>>,
    trouble: Trouble,
    answers: AtomicUsize,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// Serves a model called zoo/hyena.
    pub fn new(files: &[(&'static str, Vec<u8>)], trouble: Trouble) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let served = Arc::new(Served {
            address,
            files: files.iter().cloned().collect(),
            trouble,
            answers: AtomicUsize::new(0),
            asked: Arc::clone(&asked),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let served = Arc::clone(&served);
                // A client that is gone is no failure of the server.
                std::thread::spawn(move || served.answer(stream.unwrap()).ok());
            }
        });
        Self { address, asked }
    }

    /// What was asked since the last call: method, path and range of each request.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Runs the program against the hub, with more variables: exit code, stdout, stderr.
    pub fn run(&self, case: &Case, variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
        let mut command = case.command();
        command
            .env("HF_ENDPOINT", format!("http://{}/", self.address))
            .env("HF_HOME", case.path("hf"))
            .envs(variables.iter().copied());
        let out = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (out.status.code(), text(out.stdout), text(out.stderr))
    }

    /// As [`Self::run`], which must end with `code` and say all of `words`.
    pub fn ends(
        &self,
        case: &Case,
        variables: &[(&str, &str)],
        code: i32,
        words: &[&str],
    ) -> String {
        let (found, stdout, said) = self.run(case, variables);
        assert_eq!(found, Some(code), "{said}");
        for word in words {
            assert!(said.contains(word), "not said: {word}\n{said}");
        }
        stdout
    }
}

impl Served {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap()?;
        let mut headers = BTreeMap::new();
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_string());
        }
        let words: Vec<&str> = first.split(' ').collect();
        let (method, path) = (words[0], words[1].split('?').next().unwrap());
        let range = headers.get("range").cloned().unwrap_or_default();
        let asked = format!("{method} {path} {range}");
        self.asked
            .lock()
            .unwrap()
            .push(asked.trim_end().to_string());
        let token = headers.get("authorization").map(String::as_str);
        let mut response = self.response(method, path, &range, token);
        if method == "HEAD" {
            response.1.clear();
        }
        (&stream).write_all(response.0.as_bytes())?;
        (&stream).write_all(&response.1)
    }

    fn response(
        &self,
        method: &str,
        path: &str,
        range: &str,
        token: Option<&str>,
    ) -> (String, Vec<u8>) {
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        let plain = |status: &str, headers: &str, body: Vec<u8>| {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
            );
            (head, body)
        };
        if matches!(self.trouble, Trouble::Busy(times) if number < times) {
            return plain("503 Busy", "", Vec::new());
        }
        if let Some(digest) = path.strip_prefix("/cdn/") {
            // The token is the hub's alone.
            assert_eq!(token, None);
            return self.large(digest, range);
        }
        if self.trouble == Trouble::Gated && token != Some("Bearer hf_secret") {
            return plain(
                "401 Unauthorized",
                "X-Error-Code: GatedRepo\r\n",
                Vec::new(),
            );
        }
        if let Some(revision) = path.strip_prefix("/api/models/zoo/hyena/revision/") {
            if !["main", "v1", COMMIT].contains(&revision) {
                return plain(
                    "404 Not Found",
                    "X-Error-Code: RevisionNotFound\r\n",
                    Vec::new(),
                );
            }
            let siblings: Vec<_> = self
                .files
                .keys()
                .map(|name| serde_json::json!({"rfilename": name}))
                .collect();
            let about = serde_json::json!({"sha": COMMIT, "cardData": {"license": "bsd-3-clause"}, "siblings": siblings});
            return plain("200 OK", "", about.to_string().into_bytes());
        }
        let file = path.strip_prefix(&format!("/zoo/hyena/resolve/{COMMIT}/"));
        let Some((name, bytes)) = file.and_then(|file| self.files.get_key_value(file)) else {
            return plain(
                "404 Not Found",
                "X-Error-Code: RepoNotFound\r\n",
                Vec::new(),
            );
        };
        let digest = sha256(bytes);
        let commit = format!("X-Repo-Commit: {COMMIT}\r\n");
        if name.ends_with(".json") || name.ends_with(".md") {
            let etag = if self.trouble == Trouble::NoETag {
                String::new()
            } else {
                format!("ETag: W/\"{}\"\r\n", &digest[..40])
            };
            return plain("200 OK", &(commit + &etag), bytes.clone());
        }
        let size = if self.trouble == Trouble::Huge {
            1 << 60
        } else {
            bytes.len() as u64
        };
        let headers = format!(
            "{commit}Location: http://localhost:{}/cdn/{digest}\r\nX-Linked-Etag: \"{digest}\"\r\nX-Linked-Size: {size}\r\n",
            self.address.port()
        );
        assert!(method == "HEAD" || method == "GET");
        plain("302 Found", &headers, Vec::new())
    }

    fn large(&self, digest: &str, range: &str) -> (String, Vec<u8>) {
        let bytes = self
            .files
            .values()
            .find(|bytes| sha256(bytes) == digest)
            .unwrap();
        let mut bytes = bytes.clone();
        if self.trouble == Trouble::OtherBytes {
            bytes[10] ^= 1;
        }
        let from = range
            .strip_prefix("bytes=")
            .and_then(|range| range.strip_suffix('-'));
        let from = from.filter(|_| self.trouble != Trouble::NoRanges);
        let start = from.map_or(0, |from| from.parse::<usize>().unwrap());
        let (all, rest) = (bytes.len(), &bytes[start..]);
        let status = if from.is_some() {
            format!(
                "206 Partial Content\r\nContent-Range: bytes {start}-{}/{all}",
                all - 1
            )
        } else {
            "200 OK".to_string()
        };
        let sent = match self.trouble {
            Trouble::Cut(length) if start == 0 => length,
            Trouble::CutAlways(length) => length,
            Trouble::NoRanges if !range.is_empty() => rest.len(),
            Trouble::NoRanges => 500,
            _ => rest.len(),
        };
        let length = rest.len();
        let head =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        (head, rest[..sent.min(length)].to_vec())
    }
}
