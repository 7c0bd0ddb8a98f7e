//! TLS towards the database: how much of the server's certificate is checked.
//!
//! libpq's `sslmode` has degrees that rustls does not offer by itself: encryption with no check at
//! all, and a check of the chain without the name.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use super::SettingsError;

/// What is demanded of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Encryption alone (`prefer`, `require`).
    Nothing,
    /// A chain to a trusted root (`verify-ca`).
    Chain,
    /// The chain, and the host's name in the certificate (`verify-full`).
    ChainAndName,
}

/// Where the trusted roots come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// The machine's certificate store.
    System,
    /// A PEM file.
    File(PathBuf),
}

impl Roots {
    /// The meaning of `sslrootcert`, where `system` and nothing both name the machine's store.
    pub(super) fn named(sslrootcert: Option<&str>) -> Self {
        match sslrootcert {
            None | Some("" | "system") => Self::System,
            Some(path) => Self::File(PathBuf::from(path)),
        }
    }

    fn load(&self) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
        match self {
            Self::File(path) => load_file(path),
            Self::System => {
                let certificates = rustls_native_certs::load_native_certs().certs;
                if certificates.is_empty() {
                    return Err(SettingsError::NoRootCertificates);
                }
                Ok(certificates)
            }
        }
    }
}

/// The client side of TLS for a degree of checking. Reads the roots only if they are needed.
pub(super) fn client_config(check: Check, roots: &Roots) -> Result<ClientConfig, SettingsError> {
    let provider = Arc::new(ring::default_provider());
    let trusted = match check {
        Check::Nothing => Vec::new(),
        Check::Chain | Check::ChainAndName => roots.load()?,
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(trusted.iter().cloned());
    let verifier = Verifier { check, roots: store, trusted, provider: provider.clone() };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

fn load_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let fault = |source| SettingsError::RootCertificate { path: path.to_owned(), source };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fault(Some(error)))?;
    if certificates.is_empty() {
        return Err(fault(None));
    }
    Ok(certificates)
}

/// A verifier with a degree. Signatures are always checked: without that, TLS is no encryption.
#[derive(Debug)]
struct Verifier {
    check: Check,
    roots: RootCertStore,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.check == Check::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        // A self-signed server certificate that is itself the configured root is common with
        // Postgres, and accepted by libpq; webpki refuses it as "a CA used as an end entity".
        if !self.trusted.iter().any(|trusted| trusted == end_entity) {
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        if self.check == Check::ChainAndName {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
