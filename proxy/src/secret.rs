//! Sealing access tokens at rest, and the keyed hash that they are looked up by.
//!
//! The key comes from the operator's secret and never goes anywhere. A sealed token is bound to its
//! hash: rows cannot be swapped.

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf, hmac,
    rand::{SecureRandom, SystemRandom},
};

use crate::upstream::AccessToken;

/// The keys derived from the operator's secret.
pub(crate) struct Sealer {
    seal: LessSafeKey,
    hash: hmac::Key,
    random: SystemRandom,
}

/// The keyed hash of an access token: what it is looked up by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash(pub(crate) [u8; 32]);

/// The random source gave nothing.
#[derive(Debug, thiserror::Error)]
#[error("no randomness to seal an access token with")]
pub(crate) struct SealError;

impl Sealer {
    /// Derives the keys from a 32-byte secret.
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, b"syncv3 access tokens").extract(secret);
        let key = |info: &'static [u8]| -> [u8; 32] {
            let mut key = [0; 32];
            let info = [info];
            // 32 bytes are within what HKDF-SHA256 may give (255 times 32).
            if let Ok(okm) = derived.expand(&info, hkdf::HKDF_SHA256) {
                let filled = okm.fill(&mut key);
                debug_assert!(filled.is_ok(), "the key has the algorithm's own length");
            }
            key
        };
        Self {
            seal: LessSafeKey::new(
                UnboundKey::new(&CHACHA20_POLY1305, &key(b"seal"))
                    .expect("the key has the length that ChaCha20-Poly1305 takes"),
            ),
            hash: hmac::Key::new(hmac::HMAC_SHA256, &key(b"hash")),
            random: SystemRandom::new(),
        }
    }

    /// The hash of a token.
    pub(crate) fn hash(&self, token: &AccessToken) -> TokenHash {
        let tag = hmac::sign(&self.hash, token.expose().as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(tag.as_ref());
        TokenHash(hash)
    }

    /// Seals a token: nonce, then ciphertext.
    pub(crate) fn seal(&self, token: &AccessToken) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError)?;
        let mut sealed = token.expose().as_bytes().to_vec();
        let hash = self.hash(token);
        self.seal
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(hash.0),
                &mut sealed,
            )
            .map_err(|_| SealError)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens a sealed token; `None` if it was sealed with another secret or tampered with.
    pub(crate) fn open(&self, token_hash: &[u8], sealed: &[u8]) -> Option<AccessToken> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let token = self.seal.open_in_place(nonce, Aad::from(token_hash), &mut sealed).ok()?;
        String::from_utf8(token.to_vec()).ok().map(AccessToken::new)
    }
}

/// Whether `secret` is the one that a stored token was sealed with.
pub fn can_open(secret: &[u8; 32], token_hash: &[u8], sealed: &[u8]) -> bool {
    Sealer::new(secret).open(token_hash, sealed).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_token_opens_with_its_secret_and_hash_only() {
        let sealer = Sealer::new(&[7; 32]);
        let token = AccessToken::new(String::from("syt_secret"));
        let hash = sealer.hash(&token);
        let sealed = sealer.seal(&token).expect("randomness");
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(sealer.open(&hash.0, &sealed).expect("opens").expose(), "syt_secret");
        assert!(sealer.open(&[0; 32], &sealed).is_none());
        assert!(!can_open(&[8; 32], &hash.0, &sealed));
        assert!(can_open(&[7; 32], &hash.0, &sealed));
        assert_ne!(sealer.seal(&token).expect("randomness"), sealed, "each seal has its own nonce");
    }
}
