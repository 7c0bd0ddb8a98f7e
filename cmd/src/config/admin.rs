//! What `syncv3 admin` is asked to do.

use clap::Subcommand;

/// One question or order.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Admin {
    /// List the accounts in the order of their users
    Accounts {
        /// Only the account of this user
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// One JSON object a line; times in milliseconds
        #[arg(long)]
        json: bool,
    },
    /// List the devices of a user
    Devices {
        /// `@user:example.org`
        user: String,
        /// One JSON object a line; times in milliseconds
        #[arg(long)]
        json: bool,
    },
    /// List the sync sessions of a user, or of one device, and how many to-device messages each holds back
    Sessions {
        /// `@user:example.org`
        user: String,
        /// Only those of this device
        device: Option<String>,
        /// One JSON object a line; times in milliseconds
        #[arg(long)]
        json: bool,
    },
    /// End a v3 session: its client begins a new one
    DropSession {
        /// `@user:example.org`
        user: String,
        /// Its number in the list of sessions
        session: i64,
    },
    /// Forget that a device syncs with v2, until it does so again
    DropV2 {
        /// `@user:example.org`
        user: String,
        /// The device's ID
        device: String,
    },
    /// Ask the homeserver for everything anew: each room gets a gap
    Resync {
        /// `@user:example.org`
        user: String,
    },
}
