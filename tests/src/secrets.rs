//! Every secret that the suite uses, and everything in which none of them may stand.
//!
//! Both are collected where `TEST_EVIDENCE` says: the secrets in one file, and beside it the logs of all proxies, the
//! bodies of all errors and all pages of metrics that tests have seen. When the suite is through, `tests/checks/secrets.py`
//! looks for the ones in the others. Without the variable nothing is collected.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// A shorter text might stand anywhere without being a secret there.
const SHORTEST: usize = 12;

/// The fields of replies that hold secrets.
const FIELDS: [&str; 3] = ["access_token", "refresh_token", "login_token"];

/// From now on nobody may tell of this text.
pub fn register(secret: &str) {
    if secret.len() >= SHORTEST
        && let Some(directory) = evidence("")
    {
        append(directory.join("secrets"), format!("{secret}\n").as_bytes());
    }
}

/// Registers what a reply gives to its client alone.
pub(crate) fn register_those_in(reply: &Value) {
    for secret in FIELDS.iter().filter_map(|field| reply[field].as_str()) {
        register(secret);
    }
}

/// Keeps the body of an error, or a page of metrics, if a test has fetched one.
pub(crate) fn keep_reply(path: &str, status: u16, body: &[u8]) {
    let kind = match status {
        400.. => "errors",
        _ if path.ends_with("/metrics") => "metrics",
        _ => return,
    };
    if let Some(directory) = evidence(kind) {
        let entry = [format!("{status} {path} ").as_bytes(), body, b"\n"].concat();
        append(directory.join(std::process::id().to_string()), &entry);
    }
}

/// Keeps an answer that was read from a connection as it came, if it is an error.
pub fn keep_answer(answer: &str) {
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    if let Some(status) = status {
        keep_reply("a connection", status, answer.as_bytes());
    }
}

/// Where a proxy writes its log, if it is collected.
pub fn log() -> Option<PathBuf> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    Some(evidence("logs")?.join(format!("proxy-{}-{number}.log", std::process::id())))
}

/// Which of the secrets stand in a text, as they are or in hexadecimal.
pub fn found_in<'a>(text: &str, secrets: &[&'a str]) -> Vec<&'a str> {
    let stands_in = |secret: &str| {
        let hexadecimal =
            secret.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        text.contains(secret) || text.contains(&hexadecimal)
    };
    secrets.iter().copied().filter(|secret| stands_in(secret)).collect()
}

fn evidence(kind: &str) -> Option<PathBuf> {
    let directory = PathBuf::from(std::env::var_os("TEST_EVIDENCE")?).join(kind);
    fs::create_dir_all(&directory).unwrap();
    Some(directory)
}

/// One write a line: several processes append at the same time.
fn append(path: PathBuf, bytes: &[u8]) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}
