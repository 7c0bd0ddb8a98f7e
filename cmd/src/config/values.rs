//! What single settings mean: each function reads one kind of value and knows its own mend.

use std::{fmt, path::PathBuf};

use proxy::upstream::Address;

use super::Hidden;

/// Why a value is refused: the problem and the mend.
pub(super) type Refusal = (String, String);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bind {
    /// This port on all addresses of the machine, of both families where it has both.
    AnyAddress(u16),
    /// `address:port`, where the address may be a name.
    Address(String),
    /// A Unix socket.
    Socket(PathBuf),
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyAddress(port) => write!(f, ":{port}"),
            Self::Address(address) => f.write_str(address),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

/// Which database to use.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    /// The server that `-db` names.
    External(Box<store::Settings>),
    /// A Postgres of our own.
    Private,
}

/// Where the secret comes from.
#[derive(Debug, Clone)]
pub(crate) enum SecretSource {
    /// `-secret` itself.
    Given(Hidden),
    /// `-secret-file`, which must exist.
    File(PathBuf),
    /// The key file in the data directory, made when it is first needed.
    Generated(PathBuf),
}

/// Reads where to listen.
pub(super) fn bind(text: &str) -> Result<Bind, Refusal> {
    if text.starts_with('/') {
        return Ok(Bind::Socket(PathBuf::from(text)));
    }
    let refusal = || {
        (
            format!("`{text}` is no address to listen on"),
            String::from(
                "write a port (8008), `:8008`, `127.0.0.1:8008`, `[::1]:8008` or the absolute path of a Unix socket",
            ),
        )
    };
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().map_err(|_| refusal())?;
    let bare_ipv6 = host.contains(':') && !host.starts_with('[');
    if bare_ipv6 || host.contains(char::is_whitespace) || host.contains('/') {
        return Err(refusal());
    }
    Ok(match host {
        "" => Bind::AnyAddress(port),
        _ => Bind::Address(text.to_owned()),
    })
}

/// Reads the homeserver's address.
pub(super) fn server(text: &str) -> Result<Address, Refusal> {
    Address::parse(text).map_err(|error| {
        let mend = "give the homeserver's address: `https://…`, `http://…` or the absolute path of a Unix socket";
        (error.to_string(), String::from(mend))
    })
}

/// Reads the URL that clients know us by.
pub(super) fn public_url(text: &str) -> Result<String, Refusal> {
    let mend = "give the URL that clients use, such as `https://matrix.example.org`";
    match Address::parse(text) {
        Ok(Address::Url(url)) => Ok(url),
        Ok(Address::Unix(_)) => Err((format!("`{text}` is no URL"), String::from(mend))),
        Err(error) => Err((error.to_string(), String::from(mend))),
    }
}

/// Reads a whole number that must be at least one.
pub(super) fn positive<N: TryFrom<u64>>(text: &str) -> Result<N, Refusal> {
    text.parse::<u64>()
        .ok()
        .filter(|&number| number > 0)
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| {
            (
                format!("`{text}` is not a whole number above zero"),
                String::from("write digits alone, without a unit"),
            )
        })
}

/// Reads the URL of a collector of traces.
pub(super) fn collector(text: &str) -> Result<String, Refusal> {
    let mend = "give the base URL of its OTLP/HTTP, such as `http://localhost:4318`";
    match Address::parse(text) {
        Ok(Address::Url(url)) => Ok(url),
        Ok(Address::Unix(_)) => Err((format!("`{text}` is no URL"), String::from(mend))),
        Err(error) => Err((error.to_string(), String::from(mend))),
    }
}

/// Reads a share of the whole.
pub(super) fn share(text: &str) -> Result<f64, Refusal> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| {
        (format!("`{text}` is no share"), String::from("write a number from 0 to 1, such as 0.05"))
    })
}

/// Reads a limit: a whole number, of which 0 means that there is none.
pub(super) fn limit(text: &str) -> Result<Option<u32>, Refusal> {
    let number: u32 = text.parse().map_err(|_| {
        (
            format!("`{text}` is not a whole number"),
            String::from("write digits alone, without a unit; 0 means no limit"),
        )
    })?;
    Ok((number > 0).then_some(number))
}

/// Reads a switch.
pub(super) fn switch(text: &str) -> Result<bool, Refusal> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err((
            format!("`{text}` is neither true nor false"),
            String::from("write `true` or `false`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_bind(text: &str, expected: Option<&str>) {
        let bind = bind(text).ok().map(|bind| format!("{bind:?}"));
        assert_eq!(bind.as_deref(), expected, "{text}");
    }

    #[test]
    fn places_to_listen() {
        check_bind("8008", Some("AnyAddress(8008)"));
        check_bind(":8008", Some("AnyAddress(8008)"));
        check_bind("127.0.0.1:0", Some(r#"Address("127.0.0.1:0")"#));
        check_bind("localhost:80", Some(r#"Address("localhost:80")"#));
        check_bind("[::1]:80", Some(r#"Address("[::1]:80")"#));
        check_bind("/run/syncv3.sock", Some(r#"Socket("/run/syncv3.sock")"#));
        for text in ["", ":", "localhost", ":http", "::1:80", "a b:80", ":65536", "http://a:80"] {
            check_bind(text, None);
        }
    }

    #[test]
    fn homeservers() {
        assert!(server("/run/hs.sock").is_ok());
        assert!(server("matrix.example.org").is_err());
        assert_eq!(public_url("https://a.b/").ok().as_deref(), Some("https://a.b"));
        assert!(public_url("/run/hs.sock").is_err());
    }

    #[test]
    fn numbers_and_switches() {
        assert_eq!(positive::<usize>("16").ok(), Some(16));
        for text in ["", "0", "-1", "1.5", "1MiB", "99999999999999999999"] {
            assert!(positive::<usize>(text).is_err(), "{text}");
        }
        assert_eq!(share("0.25").ok(), Some(0.25));
        for text in ["", "-0.1", "1.1", "NaN", "5%"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert_eq!(limit("10").ok(), Some(Some(10)));
        assert_eq!(limit("0").ok(), Some(None));
        assert!(limit("-1").is_err() && limit("10s").is_err() && limit("").is_err());
        assert_eq!(switch("TRUE").ok(), Some(true));
        assert_eq!(switch("0").ok(), Some(false));
        assert!(switch("maybe").is_err());
    }
}
