//! Where the database is and how to reach it: the meaning of the `-db` setting.
//!
//! Both forms that libpq knows are understood: `key=value` pairs and `postgres://` URLs. The driver
//! knows neither `sslmode=verify-*` nor `sslrootcert`, so these are taken out first (`parse`) and
//! become a rustls configuration (`tls`); all else is the driver's.
//!
//! Parameters and their meaning: <https://www.postgresql.org/docs/current/libpq-connect.html>.

#[cfg(test)]
mod fuzz;
mod parse;
mod tls;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use deadpool_postgres::{ClientWrapper, Hook, HookError, Manager, Pool, Runtime};
use futures_util::TryFutureExt;
use tokio_postgres::{
    Client, Socket,
    config::{Config, Host, SslMode},
    error::SqlState,
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::tls::Check;
use crate::{Error, tx};

/// What drives a connection that is nobody's but its owner's.
pub(crate) type Connection =
    tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// Debian's default place for the socket of a Postgres server, which libpq there looks in first.
const DEFAULT_SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// So that a database host that swallows packets is an error in the log and not a silent wait.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How soon a server is asked after that says nothing, and how often before it counts as gone; and for how long one that
/// confirms nothing is believed to be there.
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVE_PAUSE: Duration = Duration::from_secs(3);
const KEEPALIVE_TRIES: u32 = 3;
const UNHEARD: Duration = Duration::from_secs(14);

/// What the driver does where the settings say nothing.
const DRIVERS_KEEPALIVE: Duration = Duration::from_hours(2);

/// How to reach the database. `Debug` does not show the password.
#[derive(Clone)]
pub struct Settings {
    config: Config,
    check: Check,
    roots: tls::Roots,
}

/// Why a `-db` value cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The value follows neither of the two forms, or names a parameter that is not supported.
    #[error("the connection string cannot be read")]
    Syntax(#[source] tokio_postgres::Error),
    /// A quote is not closed, a `=` is missing, or the like.
    #[error("the connection string cannot be read: {0}")]
    Malformed(&'static str),
    /// `sslmode` has a value that libpq does not know.
    #[error(
        "`sslmode={0}` is not one of disable, allow, prefer, require, verify-ca and verify-full"
    )]
    SslMode(String),
    /// The file named by `sslrootcert` is missing, unreadable, or holds no certificate.
    #[error("`sslrootcert` {path} holds no usable certificate", path = path.display())]
    RootCertificate {
        /// The file as it was named.
        path: PathBuf,
        /// What reading it ended in, where that was an error.
        source: Option<rustls::pki_types::pem::Error>,
    },
    /// `sslmode=verify-*` without `sslrootcert` on a machine that has no certificate store.
    #[error("this machine has no trusted root certificates, and `sslrootcert` is not set")]
    NoRootCertificates,
    /// rustls refused the configuration.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

impl Settings {
    /// Reads a `-db` value in either of libpq's forms.
    ///
    /// As in libpq, a missing user is the operating system's, and a missing database has the name
    /// of the user. Without a host, the local socket is tried first and then `localhost`.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let parse::Parsed { rest, sslmode, sslrootcert } = parse::split(text)?;
        let mut config = Config::from_str(&rest).map_err(SettingsError::Syntax)?;

        let roots = tls::Roots::named(sslrootcert.as_deref());
        let (mode, check) = meaning_of(sslmode.as_deref(), &roots)?;
        config.ssl_mode(mode);

        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host_path(DEFAULT_SOCKET_DIRECTORY);
            config.host("localhost");
        }
        if config.get_hosts().iter().all(is_socket) && config.get_hostaddrs().is_empty() {
            // There is no TLS on Unix sockets: libpq ignores `sslmode` there, the driver refuses.
            config.ssl_mode(SslMode::Disable);
        }
        Ok(Self::with_defaults(config, check, roots))
    }

    /// The server whose socket lies in `directory`, as the private Postgres of `syncv3` has it.
    pub fn for_socket(directory: &Path, user: &str, dbname: &str) -> Self {
        let mut config = Config::new();
        config.host_path(directory);
        config.user(user);
        config.dbname(dbname);
        config.ssl_mode(SslMode::Disable);
        Self::with_defaults(config, Check::Nothing, tls::Roots::System)
    }

    /// A pool of at most `max_connections` on these settings. Reads the certificates that
    /// `sslmode` asks for, and opens no connection yet.
    pub(crate) fn pool(&self, max_connections: usize) -> Result<Pool, SettingsError> {
        let tls = MakeRustlsConnect::new(tls::client_config(self.check, &self.roots)?);
        let pool = Pool::builder(Manager::new(self.config.clone(), tls))
            .runtime(Runtime::Tokio1)
            .max_size(max_connections)
            .post_create(Hook::async_fn(|client: &mut ClientWrapper, _| {
                Box::pin(prepare(client).map_err(HookError::Backend))
            }))
            .build()
            .expect("a pool is refused only if it has time limits and no runtime");
        Ok(pool)
    }

    /// A connection of its own, outside any pool, and what drives it. Reads the certificates that `sslmode` asks for.
    pub(crate) async fn connect(&self) -> Result<(Client, Connection), Error> {
        let tls = tls::client_config(self.check, &self.roots)?;
        let connected = self.config.connect(MakeRustlsConnect::new(tls)).await;
        connected.map_err(|source| Error::Db { name: "connect::connect", source })
    }

    fn with_defaults(mut config: Config, check: Check, roots: tls::Roots) -> Self {
        if config.get_application_name().is_none() {
            config.application_name("syncv3");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(DEFAULT_CONNECT_TIMEOUT);
        }
        // A server that is gone without a word, as when its machine is, is noticed within fifteen seconds: the
        // system would take a quarter of an hour. What the settings say themselves stands.
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNHEARD);
        }
        if config.get_keepalives_idle() == DRIVERS_KEEPALIVE {
            config.keepalives_idle(KEEPALIVE);
        }
        if config.get_keepalives_interval().is_none() {
            config.keepalives_interval(KEEPALIVE_PAUSE);
        }
        if config.get_keepalives_retries().is_none() {
            config.keepalives_retries(KEEPALIVE_TRIES);
        }
        Self { config, check, roots }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The driver's `Debug` leaves the password out.
        f.debug_struct("Settings")
            .field("config", &self.config)
            .field("check", &self.check)
            .field("roots", &self.roots)
            .finish()
    }
}

/// Whether TLS is used and what is checked, for a value of `sslmode`.
///
/// `require` with a root certificate checks the chain, as libpq does for the sake of old
/// configurations. `allow` would try without TLS first; offering TLS first is never weaker.
fn meaning_of(
    sslmode: Option<&str>,
    roots: &tls::Roots,
) -> Result<(SslMode, Check), SettingsError> {
    let require = match roots {
        tls::Roots::File(_) => Check::Chain,
        tls::Roots::System => Check::Nothing,
    };
    Ok(match sslmode.unwrap_or("prefer") {
        "disable" => (SslMode::Disable, Check::Nothing),
        "allow" | "prefer" => (SslMode::Prefer, Check::Nothing),
        "require" => (SslMode::Require, require),
        "verify-ca" => (SslMode::Require, Check::Chain),
        "verify-full" => (SslMode::Require, Check::ChainAndName),
        other => return Err(SettingsError::SslMode(other.to_owned())),
    })
}

/// What each connection of the pool begins with.
async fn prepare(client: &ClientWrapper) -> Result<(), tokio_postgres::Error> {
    // On one way there and back.
    let (asked, wished) =
        tokio::join!(client.batch_execute(tx::ON_CONNECT), client.batch_execute(tx::IF_KNOWN));
    asked?;
    let unknown = [SqlState::UNDEFINED_OBJECT, SqlState::INVALID_PARAMETER_VALUE];
    match wished {
        // The server does without.
        Err(error) if error.code().is_some_and(|code| unknown.contains(code)) => Ok(()),
        wished => wished,
    }
}

fn is_socket(host: &Host) -> bool {
    matches!(host, Host::Unix(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a `-db` value came to: hosts, database, TLS and check in one line.
    fn describe(settings: &Settings) -> String {
        let config = &settings.config;
        let hosts: Vec<String> = config
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        format!(
            "{} {:?} {:?} {:?} {:?} {:?}",
            hosts.join(","),
            config.get_ports(),
            config.get_user().unwrap_or("-"),
            config.get_dbname().unwrap_or("-"),
            config.get_ssl_mode(),
            settings.check,
        )
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let settings = Settings::parse(text).expect("the value is good");
        assert_eq!(describe(&settings), expected, "{text}");
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        let error = Settings::parse(text).expect_err("the value is bad");
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            message = format!("{message}: {inner}");
            source = inner.source();
        }
        assert!(message.contains(expected), "{text}: {message}");
    }

    #[test]
    fn a_server_that_is_gone_without_a_word_is_noticed_before_long() {
        let check = |text: &str, idle: u64, unheard: u64| {
            let config = Settings::parse(text).expect("the value is good").config;
            assert_eq!(config.get_keepalives_idle(), Duration::from_secs(idle), "{text}");
            let found = config.get_tcp_user_timeout().copied();
            assert_eq!(found, Some(Duration::from_secs(unheard)), "{text}");
        };
        check("host=db user=a", 5, 14);
        check("host=db user=a keepalives_idle=60 tcp_user_timeout=30", 60, 30);
    }

    #[test]
    fn key_value_pairs() {
        check(
            "user=syncv3 dbname=syncv3 sslmode=disable host=db port=5433",
            r#"db [5433] "syncv3" "syncv3" Disable Nothing"#,
        );
        check(
            r"host = 'db' user='o\'brien' dbname=a\ b",
            r#"db [] "o'brien" "a b" Prefer Nothing"#,
        );
        check("host=/run/pg user=a sslmode=require", r#"/run/pg [] "a" "-" Disable Nothing"#);
    }

    #[test]
    fn a_missing_host_is_the_local_server() {
        check("postgres:///b", r#"/var/run/postgresql,localhost [] "-" "b" Prefer Nothing"#);
    }

    #[test]
    fn urls() {
        check(
            "postgres://a:p%40ss@db:5433/b?sslmode=verify-full&connect_timeout=3",
            r#"db [5433] "a" "b" Require ChainAndName"#,
        );
        check("postgresql://%2Frun%2Fpg/b?user=a", r#"/run/pg [5432] "a" "b" Disable Nothing"#);
    }

    #[test]
    fn sslmode() {
        check("host=db user=a", r#"db [] "a" "-" Prefer Nothing"#);
        for (mode, expected) in [
            ("disable", "Disable Nothing"),
            ("allow", "Prefer Nothing"),
            ("prefer", "Prefer Nothing"),
            ("require", "Require Nothing"),
            ("require sslrootcert=/ca.pem", "Require Chain"),
            ("require sslrootcert=system", "Require Nothing"),
            ("verify-ca", "Require Chain"),
            ("verify-full", "Require ChainAndName"),
        ] {
            check(
                &format!("host=db user=a sslmode={mode}"),
                &format!(r#"db [] "a" "-" {expected}"#),
            );
        }
    }

    #[test]
    fn faults_say_what_is_wrong() {
        check_refused("host=db sslmode=on", "sslmode=on");
        check_refused("postgres://db/b?sslmode=on", "sslmode=on");
        check_refused("host=db colour=red", "unknown option `colour`");
        check_refused("host='db", "quote");
        check_refused("not a connection string", "`=`");
        check_refused("host=db port=http", "port");
    }

    #[test]
    fn the_password_stays_hidden() {
        for text in ["host=db password=hunter2", "postgres://a:hunter2@db/b"] {
            let settings = Settings::parse(text).expect("the value is good");
            assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
        }
    }

    #[test]
    fn a_missing_root_certificate_is_named() {
        let settings = Settings::parse("host=db sslmode=verify-ca sslrootcert=/nowhere/ca.pem")
            .expect("the value is good");
        let error = settings.pool(1).expect_err("there is no such file");
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }
}
