//! Everything that is not a sync passes through: bodies streamed, paths and headers as they were, with the few changes
//! that a proxy must make.

mod bodies;
mod doors;
mod headers;
mod plain;

use std::fmt::Write;

use tests::proxy::Proxy;
use tests::scripted_homeserver::ScriptedHomeserver;
use tests::secrets::keep_answer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends a request exactly as written, which HTTP libraries do not, and returns the whole answer as text.
async fn raw_request(
    proxy: &Proxy,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> String {
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", proxy.address());
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    request.push_str("Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    keep_answer(&answer);
    answer
}

fn targets(homeserver: &ScriptedHomeserver) -> Vec<String> {
    homeserver.seen().into_iter().map(|seen| seen.target).collect()
}
