//! What an operator sets arrives in the configuration, each setting in its own place.

use std::{ffi::OsString, time::Duration};

use super::{Config, parse};

const DAY: Duration = Duration::from_hours(24);

/// The configuration of a proxy with these settings.
#[track_caller]
fn config(settings: &[&str]) -> Config {
    let always = ["syncv3", "-server", "https://matrix.example.org"];
    let args = always.iter().chain(settings).map(OsString::from);
    let (_, flags) = parse(args).unwrap_or_else(|error| panic!("{error}"));
    flags.serve_config().unwrap_or_else(|faults| panic!("{faults}")).0
}

#[test]
fn what_bounds_the_load_arrives() {
    let limits = config(&["-retention", "3", "-account-idle", "4", "-device-idle", "5"]).limits;
    assert_eq!(limits.retention, 3 * DAY);
    assert_eq!(limits.account_idle, 4 * DAY);
    assert_eq!(limits.device_idle, Duration::from_secs(5));

    let limits = config(&[]).limits;
    assert_eq!(limits.retention, 30 * DAY);
}

#[test]
fn the_limits_on_clients_arrive() {
    let limits = config(&[
        "-max-connections",
        "11",
        "-max-connections-per-address",
        "12",
        "-max-requests-per-token",
        "13",
        "-max-token-checks",
        "14",
        "-head-timeout",
        "15",
        "-body-timeout",
        "16",
        "-reply-timeout",
        "17",
    ])
    .client_limits;
    assert_eq!(limits.max_connections, Some(11));
    assert_eq!(limits.max_connections_per_address, Some(12));
    assert_eq!(limits.max_requests_per_token, Some(13));
    assert_eq!(limits.max_token_checks, 14);
    assert_eq!(limits.head_timeout, Some(Duration::from_secs(15)));
    assert_eq!(limits.body_timeout, Some(Duration::from_secs(16)));
    assert_eq!(limits.reply_timeout, Some(Duration::from_secs(17)));

    let limits = config(&["-max-connections-per-address", "0"]).client_limits;
    assert_eq!(limits.max_connections_per_address, None, "0 is no limit");
    assert_eq!(config(&[]).client_limits.max_connections_per_address, Some(1000));
}
