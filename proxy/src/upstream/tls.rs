//! The TLS side of every connection to the homeserver: the system's own certificate roots, one provider.
//!
//! Neighbours: the API client and the pass-through forwarder both use this configuration, so that one cannot reach a
//! homeserver which the other cannot.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::Error;

/// Builds the configuration. Without any root certificate it still serves homeservers behind plain HTTP or a Unix
/// socket, so that is a warning and not a failure.
pub(crate) fn client_config() -> Result<ClientConfig, Error> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "part of the system's certificate roots cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (added, _ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::warn!(
            "no certificate roots found on this system: an `https` homeserver cannot be reached"
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::transport)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
