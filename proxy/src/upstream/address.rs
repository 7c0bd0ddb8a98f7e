//! Where the homeserver is: a URL or a Unix socket.
//!
//! Neighbours: `cmd` parses the `-server` flag with it; both upstream clients are built from it. It must not open
//! anything: a well-formed address may lead nowhere.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;

/// The address of the homeserver's client API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An `http` or `https` URL without trailing slash; a path prefix is kept.
    Url(String),
    /// The path of a Unix socket that speaks HTTP.
    Unix(PathBuf),
}

/// Why an address cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing was given.
    #[error(
        "is empty: give the homeserver's URL, such as `https://matrix.example.org`, or the path of its Unix socket"
    )]
    Empty,
    /// A bare host name: we do not guess whether it speaks TLS.
    #[error(
        "`{0}` has no scheme: write `https://{0}` (or `http://{0}` if the homeserver speaks plain HTTP there)"
    )]
    MissingScheme(String),
    /// A scheme other than `http` or `https`.
    #[error(
        "`{address}` has the scheme `{scheme}`: use `https`, `http`, or the path of a Unix socket"
    )]
    UnsupportedScheme {
        /// What was given.
        address: String,
        /// Its scheme.
        scheme: String,
    },
    /// A URL with parts that an address of a server cannot have.
    #[error("`{address}` must not contain {part}")]
    UnexpectedPart {
        /// What was given, without any password.
        address: String,
        /// The part that is too much.
        part: &'static str,
    },
    /// Not a URL at all.
    #[error("`{0}` is neither a URL nor the absolute path of a Unix socket")]
    Malformed(String),
}

impl Address {
    /// Reads an address as operators write it: `https://host[:port][/prefix]`, `http://…`, or `/path/of/a.sock`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(AddressError::MissingScheme(text.trim_end_matches('/').to_owned()));
        };
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            return Err(AddressError::UnsupportedScheme { address: text.to_owned(), scheme });
        }
        if let Some((_, host)) = rest.split('/').next().unwrap_or_default().rsplit_once('@') {
            // The password must not come back in a message that lands in a log.
            return Err(AddressError::UnexpectedPart {
                address: format!("{scheme}://…@{host}"),
                part: "a user name or password",
            });
        }
        for (mark, part) in [('?', "a query"), ('#', "a fragment")] {
            if rest.contains(mark) {
                return Err(AddressError::UnexpectedPart { address: text.to_owned(), part });
            }
        }
        let url = format!("{scheme}://{}", rest.trim_end_matches('/'));
        match Uri::from_str(&url) {
            Ok(uri)
                if uri.host().is_some_and(|host| !host.is_empty()) && !ends_in_bad_port(&uri) =>
            {
                Ok(Self::Url(url))
            }
            _ => Err(AddressError::Malformed(text.to_owned())),
        }
    }

    /// What URLs of this server begin with. A Unix socket has no name, so it gets one that every server accepts.
    pub(crate) fn base_url(&self) -> &str {
        match self {
            Self::Url(url) => url,
            Self::Unix(_) => "http://localhost",
        }
    }
}

/// The URI parser leaves `host:` and `host:99999` alone; the dialler would then choose a port on its own.
fn ends_in_bad_port(uri: &Uri) -> bool {
    let Some(authority) = uri.authority() else {
        return true;
    };
    let after_host = authority.as_str().rsplit(']').next().unwrap_or_default();
    after_host.contains(':') && authority.port_u16().is_none()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match Address::parse(text) {
            Ok(Address::Url(url)) => format!("url {url}"),
            Ok(Address::Unix(path)) => format!("unix {}", path.display()),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "`{text}` gave `{found}`, wanted `{expected}`");
    }

    #[test]
    fn urls_keep_their_prefix_and_lose_trailing_slashes() {
        check("https://matrix.example.org", "url https://matrix.example.org");
        check("https://matrix.example.org//", "url https://matrix.example.org");
        check("  HTTP://localhost:8008/ ", "url http://localhost:8008");
        check("https://example.org/hs/", "url https://example.org/hs");
        check("http://[::1]:8008", "url http://[::1]:8008");
        check("http://[::1]", "url http://[::1]");
    }

    #[test]
    fn paths_are_unix_sockets() {
        check("/run/synapse/client.sock", "unix /run/synapse/client.sock");
    }

    #[test]
    fn faults_say_how_to_mend_them() {
        check("", "is empty");
        check("matrix.example.org/", "write `https://matrix.example.org`");
        check("localhost:8008", "write `https://localhost:8008`");
        check("unix:///run/a.sock", "use `https`, `http`, or the path");
        check("ftp://example.org", "scheme `ftp`");
        check("https://", "neither a URL");
        check("https://a b", "neither a URL");
        check("https://example.org:99999", "neither a URL");
        check("https://example.org:", "neither a URL");
        check("https://example.org/?a=b", "a query");
        check("https://example.org/#a", "a fragment");
    }

    #[test]
    fn a_password_does_not_come_back_in_the_message() {
        check("https://me:hush@example.org", "user name or password");
        let message =
            Address::parse("https://me:hush@example.org").map_err(|error| error.to_string());
        assert!(!format!("{message:?}").contains("hush"));
    }
}
