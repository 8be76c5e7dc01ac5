//! The hub's protocol: what a repository holds, what a file is, and its bytes.

use super::{Name, variable};
use crate::error::{Error, Kind, Result};
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::time::Duration;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

/// The hub, if `HF_ENDPOINT` names no other.
const HUB: &str = "https://huggingface.co";

/// Bytes of JSON at most.
const MAX_JSON: u64 = 1 << 24;

/// Redirects at most, from one server to the next.
const REDIRECTS: usize = 5;

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// A connection to the hub.
pub struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// A file as the hub has it.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Where its bytes are asked for.
    url: String,
    /// What names its content: the SHA-256 of a large file, in hex; of others a hash of git's.
    pub etag: String,
    /// Bytes.
    pub size: u64,
}

/// Why the hub did not give what was asked for.
pub struct Failed {
    /// The error.
    pub error: Box<Error>,
    /// It may do so when it is asked once more.
    pub passing: bool,
}

impl Failed {
    /// For good.
    pub fn last(error: Error) -> Self {
        Self {
            error: Box::new(error),
            passing: false,
        }
    }

    /// For now.
    pub fn passing(error: Error) -> Self {
        Self {
            error: Box::new(error),
            passing: true,
        }
    }
}

impl Client {
    /// A client with the endpoint, the token and the proxies that the environment names, as Hugging
    /// Face's tools do.
    ///
    /// # Errors
    /// Usage: the environment forbids connections.
    pub fn from_environment() -> Result<Self> {
        let text = |name| variable(name).and_then(|value| value.into_string().ok());
        let offline = text("HF_HUB_OFFLINE").unwrap_or_default().to_uppercase();
        if ["1", "ON", "YES", "TRUE"].contains(&&*offline) {
            return Err(Error::usage("HF_HUB_OFFLINE forbids connections")
                .todo("unset it, or bring the model into the cache where there is a network"));
        }
        let stored = || {
            let path = super::home()?.join("token");
            fs::read_to_string(path).ok()
        };
        let token = text("HF_TOKEN").or_else(stored);
        let token = token.map(|token| token.trim().to_string());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| HUB.to_string());
        let config = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("crocuta/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            agent: config.into(),
            endpoint: endpoint.trim_end_matches('/').to_string(),
            token: token.filter(|token| !token.is_empty()),
        })
    }

    /// The page of a model.
    pub fn page(&self, name: &Name) -> String {
        format!("{}/{}", self.endpoint, name.repository)
    }

    /// What a repository holds.
    pub fn repository(&self, name: &Name) -> Result<Value, Failed> {
        let (repository, revision) = (&name.repository, name.revision());
        let url = format!(
            "{}/api/models/{repository}/revision/{revision}?blobs=true",
            self.endpoint
        );
        let response = self.get(&url, 0)?;
        let response = self.expect(response, name, "")?;
        let mut text = String::new();
        let body = response.into_body().into_reader();
        body.take(MAX_JSON)
            .read_to_string(&mut text)
            .map_err(|e| Failed::passing(Error::because(Kind::Io, e).file(&url)))?;
        serde_json::from_str(&text).map_err(|e| {
            let what = "the answer is not JSON: is this a hub?";
            Failed::last(Error::new(Kind::Io, what).file(&url).caused_by(e))
        })
    }

    /// What a file of a commit is.
    pub fn describe(&self, name: &Name, commit: &str, file: &str) -> Result<Remote, Failed> {
        let mut url = format!("{}/resolve/{commit}/{file}", self.page(name));
        for _ in 0..REDIRECTS {
            let request = self.agent.head(&url).header("Accept-Encoding", "identity");
            let request = match &self.token {
                Some(token) => request.header("Authorization", format!("Bearer {token}")),
                None => request,
            };
            let response = request.call().map_err(|e| unreachable(&url, e))?;
            // Within the hub, as of a repository that was renamed; elsewhere its bytes lie.
            let onward = header(&response, "Location").filter(|to| {
                let described = header(&response, "X-Linked-Etag").is_some();
                response.status().is_redirection() && to.starts_with('/') && !described
            });
            match onward {
                Some(to) => url = joined(&url, to),
                None => return self.described(response, name, file, url),
            }
        }
        Err(Failed::last(circle(&url)))
    }

    fn described(
        &self,
        response: Response<Body>,
        name: &Name,
        file: &str,
        url: String,
    ) -> Result<Remote, Failed> {
        let response = if response.status().is_redirection() {
            response
        } else {
            self.expect(response, name, file)?
        };
        let either = |linked, own| header(&response, linked).or_else(|| header(&response, own));
        let etag = either("X-Linked-Etag", "ETag");
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_string());
        // It becomes a file's name.
        let word = |etag: &String| {
            let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            !etag.is_empty() && etag.len() <= 128 && etag.bytes().all(known)
        };
        let size = either("X-Linked-Size", "Content-Length").and_then(|size| size.parse().ok());
        match (etag.filter(word), size) {
            (Some(etag), Some(size)) => Ok(Remote { url, etag, size }),
            _ => {
                let what = "the server states no ETag and size, so that nothing could be verified";
                let error = Error::new(Kind::Io, what).file(url);
                Err(Failed::last(error.todo("is HF_ENDPOINT a hub?")))
            }
        }
    }

    /// The bytes of a file from one of them on, if the server can; else from the first. Where they
    /// begin, and the bytes.
    pub fn open(
        &self,
        name: &Name,
        remote: &Remote,
        from: u64,
    ) -> Result<(u64, impl Read), Failed> {
        let mut response = self.get(&remote.url, from)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            response = self.get(&remote.url, 0)?;
        }
        let response = self.expect(response, name, &remote.url)?;
        let range = header(&response, "Content-Range").and_then(|range| {
            let (start, _) = range.strip_prefix("bytes ")?.split_once('-')?;
            start.parse::<u64>().ok()
        });
        let start = match response.status().as_u16() {
            206 => range.unwrap_or(from),
            _ => 0,
        };
        Ok((start, response.into_body().into_reader()))
    }

    /// Follows redirects. The token is for the hub alone.
    fn get(&self, url: &str, from: u64) -> Result<Response<Body>, Failed> {
        let mut url = url.to_string();
        for _ in 0..REDIRECTS {
            let mut request = self.agent.get(&url).header("Accept-Encoding", "identity");
            if let (Some(token), true) = (&self.token, self.owns(&url)) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|e| unreachable(&url, e))?;
            match header(&response, "Location") {
                Some(to) if response.status().is_redirection() => url = joined(&url, to),
                _ => return Ok(response),
            }
        }
        Err(Failed::last(circle(&url)))
    }

    fn owns(&self, url: &str) -> bool {
        let rest = url.strip_prefix(&self.endpoint);
        rest.is_some_and(|rest| rest.starts_with('/'))
    }

    /// The response, unless it is a refusal.
    fn expect(
        &self,
        response: Response<Body>,
        name: &Name,
        file: &str,
    ) -> Result<Response<Body>, Failed> {
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(response);
        }
        let page = self.page(name);
        let code = header(&response, "X-Error-Code").unwrap_or_default();
        let model = |what: String| Error::model(what).file(name);
        let (error, passing) = match (status, code) {
            (401 | 403, _) => {
                let gated = if code == "GatedRepo" {
                    "its licence must be accepted first".to_string()
                } else {
                    "no such model, or it is private or behind a licence".to_string()
                };
                let todo = format!(
                    "look at {page}, accept its licence there, and give a token in HF_TOKEN"
                );
                (
                    model(format!("refused ({status}): {gated}")).todo(todo),
                    false,
                )
            }
            (404, "RevisionNotFound") => {
                let what = format!("no revision {}", name.revision());
                (model(what).todo(format!("look at {page}")), false)
            }
            (404, _) if !file.is_empty() && code != "RepoNotFound" => (
                model(format!("no file {file}")).todo(format!("look at {page}")),
                false,
            ),
            (404, _) => {
                let todo = format!("look for its name at {}", self.endpoint);
                (
                    model("no such model, or no such revision of it".into()).todo(todo),
                    false,
                )
            }
            (429 | 500..=599, _) => {
                let what = format!("the server has trouble ({status})");
                let error = Error::new(Kind::Io, what).file(name);
                (error.todo("try again later"), true)
            }
            _ => {
                let what = format!("the server answered {status}");
                (Error::new(Kind::Io, what).file(name), false)
            }
        };
        Err(Failed {
            error: Box::new(error),
            passing,
        })
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// A `Location`, as it is meant at `url`.
fn joined(url: &str, location: &str) -> String {
    if !location.starts_with('/') {
        return location.to_string();
    }
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let host = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{host}{location}")
}

fn unreachable(url: &str, error: ureq::Error) -> Failed {
    let what = format!("cannot be reached: {error}");
    let error = Error::new(Kind::Io, what).file(url).caused_by(error);
    let todo = "is there a network? HF_ENDPOINT and HTTPS_PROXY name another hub, and a proxy";
    Failed::passing(error.todo(todo))
}

fn circle(url: &str) -> Error {
    Error::new(Kind::Io, "more redirects than can be right").file(url)
}
