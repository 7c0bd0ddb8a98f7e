//! A client's access token in memory.
//!
//! Neighbours: `auth_header` reads it from a request, the account registry unseals it from the store, the clients send
//! it. It must not reach a log: that is why it is a type.

use std::fmt;

use hyper::header::HeaderValue;
use ring::digest::{SHA256, digest};

use super::Error;

/// An access token of the homeserver. `Debug` does not show it and there is no `Display`.
#[derive(Clone)]
pub struct AccessToken(String);

/// By digest: how long it takes says nothing of how much of two tokens is the same.
impl PartialEq for AccessToken {
    fn eq(&self, other: &Self) -> bool {
        let digest = |token: &Self| digest(&SHA256, token.0.as_bytes());
        digest(self).as_ref() == digest(other).as_ref()
    }
}

impl Eq for AccessToken {}

impl AccessToken {
    /// Takes a token as a client sent it.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The token itself, for hashing and sealing.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The value of an `Authorization` header that carries the token, marked sensitive for whoever prints headers.
    pub(crate) fn to_header(&self) -> Result<HeaderValue, Error> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0))
            .map_err(|_| Error::Unsendable { what: "access token" })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_token() {
        let token = AccessToken::new("syt_secret");
        assert!(!format!("{token:?}").contains("secret"));
        let header = token.to_header().expect("a plain token fits a header");
        assert!(!format!("{header:?}").contains("secret"));
    }

    #[test]
    fn tokens_are_the_same_when_their_texts_are() {
        assert!(AccessToken::new("syt_a") == AccessToken::new("syt_a"));
        assert!(AccessToken::new("syt_a") != AccessToken::new("syt_b"));
    }

    #[test]
    fn a_token_that_would_split_the_header_is_refused() {
        assert!(AccessToken::new("a\r\nX-Other: b").to_header().is_err());
    }
}
