//! Settings whose meaning depends on the machine: files, directories, the user who runs us.

use std::{
    env,
    path::{Path, PathBuf, absolute as std_absolute},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{
    Faults,
    values::{Database, Refusal},
};
use crate::private_postgres::is_root;

/// Reads `-db`.
pub(super) fn database(text: &str) -> Result<Database, Refusal> {
    match store::Settings::parse(text) {
        Ok(settings) => Ok(Database::External(Box::new(settings))),
        Err(error) => Err((
            crate::with_sources(&error),
            String::from("write `user=… dbname=… host=…` or `postgres://user@host/dbname`"),
        )),
    }
}

/// A path that stays the same whatever the working directory is.
pub(super) fn absolute(text: &str) -> Result<PathBuf, Refusal> {
    std_absolute(text).map_err(|error| {
        (
            format!("`{text}` cannot be made absolute: {error}"),
            String::from("give an absolute path"),
        )
    })
}

/// Where files go when nobody said where.
pub(super) fn default_data_dir() -> Result<PathBuf, Refusal> {
    if is_root() {
        return Ok(PathBuf::from("/var/lib/syncv3"));
    }
    let from = |variable: &str| env::var_os(variable).map(PathBuf::from);
    from("XDG_DATA_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| from("HOME").map(|home| home.join(".local/share")))
        .filter(|path| path.is_absolute())
        .map(|path| path.join("syncv3"))
        .ok_or_else(|| {
            (
                String::from("not set, and there is no home directory to take instead"),
                String::from("give a directory for the private Postgres and the key file"),
            )
        })
}

/// Reads the certificate and the key that clients are served with.
pub(super) fn tls(certificate: &str, key: &str, faults: &mut Faults) -> Option<Arc<ServerConfig>> {
    let chain = faults.keep("tls-cert", read_chain(Path::new(certificate)));
    let key = faults.keep("tls-key", read_key(Path::new(key)));
    let (chain, key) = chain.zip(key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| {
            (
                format!("does not go with `-tls-key`: {error}"),
                String::from("give the certificate that was issued for this key"),
            )
        });
    let mut config = faults.keep("tls-cert", config)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(Arc::new(config))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Refusal> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(path, &error, "certificates"))
        .and_then(|chain| {
            if chain.is_empty() {
                Err(unreadable(path, &"it holds none", "certificates"))
            } else {
                Ok(chain)
            }
        })
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Refusal> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable(path, &error, "a private key"))
}

fn unreadable(path: &Path, error: &impl std::fmt::Display, what: &str) -> Refusal {
    (
        format!("`{}` cannot be used: {error}", path.display()),
        format!("give a readable file with {what} in PEM"),
    )
}
