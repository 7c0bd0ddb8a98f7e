//! The typed configuration, in the sections that the subcommands need.

use std::{path::PathBuf, sync::Arc, time::Duration};

use proxy::upstream::Address;
use tracing_subscriber::EnvFilter;

use super::{
    Faults, Flags, defaults, files,
    values::{self, Bind, Database, SecretSource},
};
use crate::logging;

const DAY: Duration = Duration::from_hours(24);

/// All that `serve` and `check` need.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) server: Address,
    pub(crate) public_base_url: Option<String>,
    pub(crate) secret: SecretSource,
    pub(crate) storage: Storage,
    pub(crate) listen: Listen,
    pub(crate) limits: Limits,
    pub(crate) forward_admin: bool,
    pub(crate) forward_federation: bool,
    /// Where those who watch the process ask, if they are to.
    pub(crate) metrics: Option<Listen>,
    pub(crate) client_limits: proxy::ClientLimits,
}

/// The database and where the program keeps files.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) database: Database,
    pub(crate) max_connections: usize,
    pub(crate) data_dir: PathBuf,
    pub(crate) spool_dir: PathBuf,
}

/// What `admin` works on.
#[derive(Debug)]
pub(crate) struct AdminConfig {
    pub(crate) storage: Storage,
    /// After which sessions hold nothing back any more.
    pub(crate) session_expiry: Duration,
}

/// Where to listen, and with which certificate.
#[derive(Debug)]
pub(crate) struct Listen {
    pub(crate) bind: Bind,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
}

/// What bounds the load on us and on the homeserver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_timeout: Duration,
    pub(crate) session_expiry: Duration,
    pub(crate) sessions_per_device: u32,
    pub(crate) device_idle: Duration,
    pub(crate) account_idle: Duration,
    pub(crate) max_request_bytes: usize,
    pub(crate) max_polls: usize,
    pub(crate) max_first_polls: usize,
    pub(crate) retention: Duration,
    pub(crate) max_reply_bytes: usize,
}

/// What is logged, and in which shape.
#[derive(Debug)]
pub(crate) struct Logging {
    pub(crate) filter: EnvFilter,
    pub(crate) format: LogFormat,
    /// Where traces go, if anywhere. Only of a proxy that serves.
    pub(crate) otlp: Option<Otlp>,
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Otlp {
    /// The base URL of the collector.
    pub(crate) collector: String,
    /// How many of all traces, from 0 to 1.
    pub(crate) share: f64,
}

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for machines.
    Json,
}

impl Flags {
    /// Reads every setting.
    pub(crate) fn serve_config(&self) -> Result<(Config, Logging), Faults> {
        let mut faults = Faults::default();
        let server = self.read_server(&mut faults);
        let public_base_url = match set(self.public_baseurl.as_deref()) {
            None => Some(None),
            Some(text) => faults.keep("public-baseurl", values::public_url(text)).map(Some),
        };
        let storage = self.read_storage(&mut faults);
        let secret = self.read_secret(storage.as_ref());
        let listen = self.read_listen(&mut faults);
        let limits = self.read_limits(&mut faults);
        let forward_admin = faults.keep(
            "forward-admin",
            values::switch(or_default(&self.forward_admin, defaults::FORWARD)),
        );
        let forward_federation = faults.keep(
            "forward-federation",
            values::switch(or_default(&self.forward_federation, defaults::FORWARD)),
        );
        let metrics = self.read_metrics(&mut faults);
        let otlp = self.read_otlp(&mut faults);
        let client_limits = self.client_limits.read(&mut faults);
        let logging = self.read_logging(&mut faults);

        let config = (|| {
            let config = Config {
                server: server?,
                public_base_url: public_base_url?,
                secret: secret?,
                storage: storage?,
                listen: listen?,
                limits: limits?,
                forward_admin: forward_admin?,
                forward_federation: forward_federation?,
                metrics,
                client_limits: client_limits?,
            };
            Some((config, Logging { otlp, ..logging? }))
        })();
        faults.or(config)
    }

    /// Reads only what concerns the database.
    pub(crate) fn storage_config(&self) -> Result<(Storage, Logging), Faults> {
        let mut faults = Faults::default();
        let storage = self.read_storage(&mut faults);
        let logging = self.read_logging(&mut faults);
        faults.or(storage.zip(logging))
    }

    /// Reads what concerns the database, and when sessions expire in it.
    pub(crate) fn admin_config(&self) -> Result<(AdminConfig, Logging), Faults> {
        let mut faults = Faults::default();
        let storage = self.read_storage(&mut faults);
        let session_expiry = self.read_session_expiry(&mut faults);
        let logging = self.read_logging(&mut faults);
        let config = storage
            .zip(session_expiry)
            .map(|(storage, session_expiry)| AdminConfig { storage, session_expiry });
        faults.or(config.zip(logging))
    }

    /// Reads only where the proxy listens.
    pub(crate) fn listen_config(&self) -> Result<(Listen, Logging), Faults> {
        let mut faults = Faults::default();
        let listen = self.read_listen(&mut faults);
        let logging = self.read_logging(&mut faults);
        faults.or(listen.zip(logging))
    }

    fn read_server(&self, faults: &mut Faults) -> Option<Address> {
        let Some(text) = set(self.server.as_deref()) else {
            faults.add(
                "server",
                "not set",
                "give the homeserver's address: `https://…`, `http://…` or the absolute path of a Unix socket",
            );
            return None;
        };
        faults.keep("server", values::server(text))
    }

    fn read_storage(&self, faults: &mut Faults) -> Option<Storage> {
        let database = match set(self.db.as_deref()) {
            None => Some(Database::Private),
            Some(text) => faults.keep("db", files::database(text)),
        };
        let max_connections = faults.keep(
            "max-db-conn",
            values::positive(or_default(&self.max_db_conn, defaults::MAX_DB_CONN)),
        );
        let data_dir = match set(self.data_dir.as_deref()) {
            Some(text) => faults.keep("data-dir", files::absolute(text)),
            None => faults.keep("data-dir", files::default_data_dir()),
        };
        let spool_dir = faults
            .keep("spool-dir", files::absolute(or_default(&self.spool_dir, defaults::SPOOL_DIR)));
        Some(Storage {
            database: database?,
            max_connections: max_connections?,
            data_dir: data_dir?,
            spool_dir: spool_dir?,
        })
    }

    /// `None` only where the storage has a fault, so there is none to add.
    fn read_secret(&self, storage: Option<&Storage>) -> Option<SecretSource> {
        let given = self.secret.as_ref().filter(|secret| !secret.0.is_empty());
        if let Some(secret) = given {
            return Some(SecretSource::Given(secret.clone()));
        }
        if let Some(path) = set(self.secret_file.as_deref()) {
            return Some(SecretSource::File(PathBuf::from(path)));
        }
        storage.map(|storage| SecretSource::Generated(storage.data_dir.join("secret.key")))
    }

    fn read_listen(&self, faults: &mut Faults) -> Option<Listen> {
        let bind = faults.keep("port", values::bind(or_default(&self.port, defaults::PORT)));
        let tls = match (set(self.tls_cert.as_deref()), set(self.tls_key.as_deref())) {
            (None, None) => Some(None),
            (Some(certificate), Some(key)) => files::tls(certificate, key, faults).map(Some),
            (Some(_), None) => {
                faults.add("tls-key", "not set", "`-tls-cert` needs the key that goes with it");
                None
            }
            (None, Some(_)) => {
                faults.add(
                    "tls-cert",
                    "not set",
                    "`-tls-key` needs the certificate that goes with it",
                );
                None
            }
        };
        Some(Listen { bind: bind?, tls: tls? })
    }

    fn read_limits(&self, faults: &mut Faults) -> Option<Limits> {
        let max_timeout = faults.keep(
            "max-timeout",
            values::positive::<u32>(or_default(&self.max_timeout, defaults::MAX_TIMEOUT)),
        );
        let session_expiry = self.read_session_expiry(faults);
        let sessions_per_device = faults.keep(
            "sessions-per-device",
            values::positive::<u32>(or_default(
                &self.sessions_per_device,
                defaults::SESSIONS_PER_DEVICE,
            )),
        );
        let device_idle = faults.keep(
            "device-idle",
            values::positive::<u32>(or_default(&self.device_idle, defaults::DEVICE_IDLE)),
        );
        let account_idle = faults.keep(
            "account-idle",
            values::positive::<u32>(or_default(&self.account_idle, defaults::ACCOUNT_IDLE)),
        );
        let max_request_bytes = faults.keep(
            "max-request-bytes",
            values::positive(or_default(&self.max_request_bytes, defaults::MAX_REQUEST_BYTES)),
        );
        let max_polls = faults
            .keep("max-polls", values::positive(or_default(&self.max_polls, defaults::MAX_POLLS)));
        let max_first_polls = faults.keep(
            "max-first-polls",
            values::positive(or_default(&self.max_first_polls, defaults::MAX_FIRST_POLLS)),
        );
        let retention = faults.keep(
            "retention",
            values::positive::<u32>(or_default(&self.retention, defaults::RETENTION)),
        );
        let max_reply_bytes = faults.keep(
            "max-reply-bytes",
            values::positive(or_default(&self.max_reply_bytes, defaults::MAX_REPLY_BYTES)),
        );
        Some(Limits {
            max_timeout: Duration::from_secs(u64::from(max_timeout?)),
            session_expiry: session_expiry?,
            sessions_per_device: sessions_per_device?,
            device_idle: Duration::from_secs(u64::from(device_idle?)),
            account_idle: DAY * account_idle?,
            max_request_bytes: max_request_bytes?,
            max_polls: max_polls?,
            max_first_polls: max_first_polls?,
            retention: DAY * retention?,
            max_reply_bytes: max_reply_bytes?,
        })
    }

    /// `None` if it is not set, or has a fault, which ends the start. What concerns whoever watches is nobody else's
    /// business: a port alone is one of this machine.
    fn read_metrics(&self, faults: &mut Faults) -> Option<Listen> {
        let text = set(self.metrics.as_deref())?;
        let bind = match faults.keep("metrics", values::bind(text))? {
            Bind::AnyAddress(port) => Bind::Address(format!("127.0.0.1:{port}")),
            bind => bind,
        };
        Some(Listen { bind, tls: None })
    }

    /// `None` as in [`Flags::read_metrics`].
    fn read_otlp(&self, faults: &mut Faults) -> Option<Otlp> {
        let share = or_default(&self.otlp_sample, defaults::OTLP_SAMPLE);
        let share = faults.keep("otlp-sample", values::share(share));
        let text = set(self.otlp.as_deref())?;
        let collector = faults.keep("otlp", values::collector(text));
        Some(Otlp { collector: collector?, share: share? })
    }

    fn read_session_expiry(&self, faults: &mut Faults) -> Option<Duration> {
        let days = faults.keep(
            "session-expiry",
            values::positive::<u32>(or_default(&self.session_expiry, defaults::SESSION_EXPIRY)),
        );
        days.map(|days| DAY * days)
    }

    fn read_logging(&self, faults: &mut Faults) -> Option<Logging> {
        let level = or_default(&self.log_level, defaults::LOG_LEVEL);
        let filter = logging::parse_filter(level);
        if filter.is_none() {
            faults.add(
                "log-level",
                format!("`{level}` is no level"),
                "write `error`, `warn`, `info`, `debug` or `trace`, or a list such as `info,store=debug`",
            );
        }
        let format = match or_default(&self.log_format, defaults::LOG_FORMAT) {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            other => {
                faults.add(
                    "log-format",
                    format!("`{other}` is no format"),
                    "write `text` or `json`",
                );
                None
            }
        };
        Some(Logging { filter: filter?, format: format?, otlp: None })
    }
}

/// A value that is there and not empty.
fn set(value: Option<&str>) -> Option<&str> {
    value.map(str::trim).filter(|value| !value.is_empty())
}

/// A value, or its default where an environment variable is set to nothing.
pub(super) fn or_default<'a>(value: &'a str, default: &'a str) -> &'a str {
    set(Some(value)).unwrap_or(default)
}
