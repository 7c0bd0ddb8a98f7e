//! The settings: flags and environment variables in, one typed configuration out.
//!
//! clap only collects text here. What the text means is decided in `config/sections.rs`, which
//! goes on after a fault, so that an operator hears of all faults at once.

mod admin;
mod argv;
mod client_limits;
mod defaults;
mod faults;
mod files;
#[cfg(test)]
mod fuzz;
mod sections;
#[cfg(test)]
mod taken;
mod values;

use std::ffi::OsString;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub(crate) use self::{
    admin::Admin,
    faults::Faults,
    sections::{AdminConfig, Config, Limits, Listen, LogFormat, Logging, Storage},
    values::{Bind, Database, SecretSource},
};

/// Reads the command line and the environment. An error is what clap would print.
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
) -> Result<(Command, Flags), clap::Error> {
    let mut command = command();
    command.build();
    let args = argv::with_two_dashes(args, &long_names(&command));
    let cli = Cli::from_arg_matches(&command.try_get_matches_from(args)?)?;
    Ok((cli.command.unwrap_or(Command::Serve), cli.flags))
}

/// The settings may stand before and after the subcommand.
fn command() -> clap::Command {
    Cli::command().mut_args(|arg| arg.global(true))
}

fn long_names(command: &clap::Command) -> Vec<String> {
    let own = command
        .get_arguments()
        .flat_map(|arg| arg.get_long_and_visible_aliases().unwrap_or_default())
        .map(str::to_owned);
    own.chain(command.get_subcommands().flat_map(long_names)).collect()
}

/// A sync proxy for Matrix: answers the syncs of all clients of a homeserver from Postgres.
#[derive(Debug, Parser)]
#[command(
    name = "syncv3",
    version,
    max_term_width = 100,
    after_help = "One dash does as well as two: `syncv3 -server https://matrix.example.org -port :8008`"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    flags: Flags,
}

/// What the program is asked to do.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Run the proxy (the default)
    Serve,
    /// Probe the homeserver, the database and the secret, say what is wrong, and exit
    Check,
    /// Bring the database's schema up to date and exit
    Migrate,
    /// Ask a running proxy whether it answers, for health checks
    Ping,
    /// List accounts, devices and sessions, end a session, or have an account begin anew
    #[command(subcommand, disable_help_subcommand = true)]
    Admin(Admin),
}

/// The settings as text. An empty value counts as unset.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The homeserver: `https://…`, `http://…` or the path of a Unix socket. Required
    #[arg(long, env = "SYNCV3_SERVER", value_name = "URL")]
    server: Option<String>,

    /// The database: `key=value` pairs as libpq has them, or a `postgres://` URL. Without it, a private Postgres runs in `-data-dir`
    #[arg(long, env = "SYNCV3_DB", value_name = "CONNECTION", hide_env_values = true)]
    db: Option<String>,

    /// Where to listen: a port, `:port`, `address:port` or the path of a Unix socket
    #[arg(long, visible_alias = "bindaddr", env = "SYNCV3_BINDADDR", value_name = "ADDRESS", default_value = defaults::PORT)]
    port: String,

    /// The secret that seals access tokens in the database: any string
    #[arg(long, env = "SYNCV3_SECRET", value_name = "SECRET", hide_env_values = true)]
    secret: Option<Hidden>,

    /// A file that holds the secret. Without `-secret` and this, `secret.key` in `-data-dir` is made and used
    #[arg(long, env = "SYNCV3_SECRET_FILE", value_name = "FILE")]
    secret_file: Option<String>,

    /// Where the private Postgres and `secret.key` live [default: /var/lib/syncv3 for root, else $XDG_DATA_HOME/syncv3 or ~/.local/share/syncv3]
    #[arg(long, env = "SYNCV3_DATA_DIR", value_name = "DIR")]
    data_dir: Option<String>,

    /// Where large replies of the homeserver wait in files until they are stored
    #[arg(long, env = "SYNCV3_SPOOL_DIR", value_name = "DIR", default_value = defaults::SPOOL_DIR)]
    spool_dir: String,

    /// How much to log: `error`, `warn`, `info`, `debug`, `trace`, or a list of `target=level`
    #[arg(long, env = "SYNCV3_LOG_LEVEL", value_name = "LEVEL", default_value = defaults::LOG_LEVEL)]
    log_level: String,

    /// The shape of log lines: `text` or `json`
    #[arg(long, env = "SYNCV3_LOG_FORMAT", value_name = "FORMAT", default_value = defaults::LOG_FORMAT)]
    log_format: String,

    /// How many database connections to open at most
    #[arg(long, env = "SYNCV3_MAX_DB_CONN", value_name = "N", default_value = defaults::MAX_DB_CONN)]
    max_db_conn: String,

    /// Serve TLS with this certificate chain (PEM). Needs `-tls-key`
    #[arg(long, env = "SYNCV3_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<String>,

    /// The private key of `-tls-cert` (PEM)
    #[arg(long, env = "SYNCV3_TLS_KEY", value_name = "FILE")]
    tls_key: Option<String>,

    /// The proxy's own URL as clients see it, told to them at login [default: from each request's headers]
    #[arg(long, env = "SYNCV3_PUBLIC_BASEURL", value_name = "URL")]
    public_baseurl: Option<String>,

    /// The longest that a sync may wait, in seconds
    #[arg(long, env = "SYNCV3_MAX_TIMEOUT", value_name = "SECONDS", default_value = defaults::MAX_TIMEOUT)]
    max_timeout: String,

    /// How long an unused v3 session is kept, in days
    #[arg(long, env = "SYNCV3_SESSION_EXPIRY", value_name = "DAYS", default_value = defaults::SESSION_EXPIRY)]
    session_expiry: String,

    /// How many v3 sessions a device has at most; the least recently used goes
    #[arg(long, env = "SYNCV3_SESSIONS_PER_DEVICE", value_name = "N", default_value = defaults::SESSIONS_PER_DEVICE)]
    sessions_per_device: String,

    /// How long after its last request a device is still polled, unless it runs its account's main poll, in seconds
    #[arg(long, env = "SYNCV3_DEVICE_IDLE", value_name = "SECONDS", default_value = defaults::DEVICE_IDLE)]
    device_idle: String,

    /// How long after its last request an account is still polled, in days
    #[arg(long, env = "SYNCV3_ACCOUNT_IDLE", value_name = "DAYS", default_value = defaults::ACCOUNT_IDLE)]
    account_idle: String,

    /// The largest body of a v3 sync, in bytes
    #[arg(long, env = "SYNCV3_MAX_REQUEST_BYTES", value_name = "BYTES", default_value = defaults::MAX_REQUEST_BYTES)]
    max_request_bytes: String,

    /// How many polls of the homeserver may run at once
    #[arg(long, env = "SYNCV3_MAX_POLLS", value_name = "N", default_value = defaults::MAX_POLLS)]
    max_polls: String,

    /// How many first polls, which cost the homeserver most, may run at once
    #[arg(long, env = "SYNCV3_MAX_FIRST_POLLS", value_name = "N", default_value = defaults::MAX_FIRST_POLLS)]
    max_first_polls: String,

    /// Pass all of `/_synapse/` on to the homeserver, its administration included
    #[arg(long, env = "SYNCV3_FORWARD_ADMIN", value_name = "BOOL", default_value = defaults::FORWARD, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    forward_admin: String,

    /// Pass `/_matrix/federation` and `/_matrix/key` on to the homeserver
    #[arg(long, env = "SYNCV3_FORWARD_FEDERATION", value_name = "BOOL", default_value = defaults::FORWARD, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    forward_federation: String,

    /// Where `/metrics`, `/health` and `/ready` are served: as `-port`, but a port alone is one of the loopback address [default: nowhere]
    #[arg(long, env = "SYNCV3_METRICS", value_name = "ADDRESS")]
    metrics: Option<String>,

    /// Send traces to this OpenTelemetry collector: the base URL of its OTLP/HTTP, such as `http://localhost:4318` [default: none]
    #[arg(long, env = "SYNCV3_OTLP", value_name = "URL")]
    otlp: Option<String>,

    /// The share of requests and polls that are traced, from 0 to 1
    #[arg(long, env = "SYNCV3_OTLP_SAMPLE", value_name = "SHARE", default_value = defaults::OTLP_SAMPLE)]
    otlp_sample: String,
    #[command(flatten)]
    client_limits: client_limits::ClientLimitFlags,
    /// How long a client may stay away and still go on from where it was, in days
    #[arg(long, env = "SYNCV3_RETENTION", value_name = "DAYS", default_value = defaults::RETENTION)]
    retention: String,
    /// The longest reply of the homeserver that is taken, in bytes
    #[arg(long, env = "SYNCV3_MAX_REPLY_BYTES", value_name = "BYTES", default_value = defaults::MAX_REPLY_BYTES)]
    max_reply_bytes: String,
}

impl Flags {
    /// Variables that look like settings and are none: misspelt, or meant for the Go proxy.
    pub(crate) fn unknown_environment() -> Vec<String> {
        let command = command();
        let known: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_env).collect();
        std::env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| !known.contains(&name.as_os_str()))
            .filter_map(|name| name.into_string().ok())
            .filter(|name| name.starts_with("SYNCV3_"))
            .collect()
    }
}

/// Text that `Debug` does not show.
#[derive(Clone)]
pub(crate) struct Hidden(String);

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Hidden {
    /// The text, for whom it is meant.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}
