//! Opens the place where clients connect.

use std::{fs, io, net::Ipv4Addr, net::Ipv6Addr, os::unix::fs::PermissionsExt, path::Path};

use proxy::Listener;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::config::{Bind, Listen};

/// Why nobody can connect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot listen on `{bind}`")]
    Bind { bind: Bind, source: io::Error },
    #[error("`-tls-cert` does not go with a Unix socket: leave it out, or listen on a port")]
    TlsOnSocket,
}

/// Listens, and says where.
pub(crate) async fn open(listen: &Listen) -> Result<(Listener, String), Error> {
    let fault = |source| Error::Bind { bind: listen.bind.clone(), source };
    let tcp = match &listen.bind {
        Bind::AnyAddress(port) => any_address(*port).await,
        Bind::Address(address) => TcpListener::bind(address).await,
        Bind::Socket(_) if listen.tls.is_some() => return Err(Error::TlsOnSocket),
        Bind::Socket(path) => {
            let listener = socket(path).await.map_err(fault)?;
            return Ok((Listener::Unix(listener), path.display().to_string()));
        }
    };
    let tcp = tcp.map_err(fault)?;
    let place = tcp.local_addr().map_err(fault)?;
    Ok(match &listen.tls {
        Some(tls) => (Listener::Tls(tcp, tls.clone()), format!("https://{place}")),
        None => (Listener::Tcp(tcp), format!("http://{place}")),
    })
}

/// Removes the socket after use, so that nobody tries to connect to it.
pub(crate) fn tidy_up(listen: &Listen) {
    if let Bind::Socket(path) = &listen.bind
        && let Err(error) = fs::remove_file(path)
    {
        tracing::debug!("`{}` was not removed: {error}", path.display());
    }
}

/// Both families through one listener, or IPv4 alone where the machine has no IPv6.
async fn any_address(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

/// A socket that everybody who can reach its directory may connect to, as with a port.
async fn socket(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::Error::from(io::ErrorKind::AddrInUse));
    }
    if is_socket(path) {
        // Left behind by a run that was killed: nobody listens on it.
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}
