//! `syncv3 ping`: asks the proxy that runs with the same settings whether it answers.
//!
//! For health checks: an image that holds nothing but this program has no other client. It speaks
//! just enough HTTP for one question, and none through TLS: there, a connection must do.

use std::{
    error::Error,
    io,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::config::{Bind, Listen};

const PATIENCE: Duration = Duration::from_secs(5);
const QUESTION: &[u8] =
    b"GET /_syncv3/ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const GOOD_ANSWER: &[u8] = b"HTTP/1.1 200 ";

/// Why the proxy counts as not answering.
#[derive(Debug, thiserror::Error)]
enum PingError {
    #[error("cannot ask the proxy at `{bind}`")]
    Connection { bind: Bind, source: io::Error },
    #[error("the proxy at `{bind}` does not answer within {} seconds", PATIENCE.as_secs())]
    Timeout { bind: Bind },
    #[error("what listens at `{bind}` answers, but not as a syncv3 proxy does")]
    Stranger { bind: Bind },
}

/// Succeeds if the proxy answers.
pub(crate) async fn run(listen: Listen) -> Result<ExitCode, Box<dyn Error>> {
    let bind = listen.bind;
    match timeout(PATIENCE, answers(&bind, listen.tls.is_some())).await {
        Ok(Ok(true)) => Ok(ExitCode::SUCCESS),
        Ok(Ok(false)) => Err(PingError::Stranger { bind }.into()),
        Ok(Err(source)) => Err(PingError::Connection { bind, source }.into()),
        Err(_) => Err(PingError::Timeout { bind }.into()),
    }
}

async fn answers(bind: &Bind, tls: bool) -> io::Result<bool> {
    let tcp = match bind {
        Bind::Socket(path) => return ask(UnixStream::connect(path).await?).await,
        Bind::AnyAddress(port) => TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await?,
        Bind::Address(address) => connect(address).await?,
    };
    if tls {
        return Ok(true);
    }
    ask(tcp).await
}

/// An address to listen on may be a wildcard, which nobody can connect to everywhere.
async fn connect(address: &str) -> io::Result<TcpStream> {
    match address.parse::<SocketAddr>() {
        Ok(place) if place.ip().is_unspecified() => {
            TcpStream::connect((Ipv4Addr::LOCALHOST, place.port())).await
        }
        _ => TcpStream::connect(address).await,
    }
}

async fn ask(mut connection: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<bool> {
    connection.write_all(QUESTION).await?;
    let mut start = [0; GOOD_ANSWER.len()];
    connection.read_exact(&mut start).await?;
    Ok(start == GOOD_ANSWER)
}
