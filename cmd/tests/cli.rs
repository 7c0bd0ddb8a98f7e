//! The program as its user meets it on the command line.

use std::process::{Command, Output};

/// The program, without any setting of the environment that the tests run in.
fn syncv3(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_syncv3"));
    command.args(args).env_clear();
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("the program prints text");
    (status.code(), text(stdout), text(stderr))
}

/// All of `expected` must be said, and the exit code must be that of a configuration fault.
#[track_caller]
fn check_refused(command: &mut Command, expected: &[&str]) {
    let (code, stdout, stderr) = output(command);
    assert_eq!((code, stdout.as_str()), (Some(64), ""), "{stderr}");
    for expected in expected {
        assert!(stderr.contains(expected), "`{expected}` is missing in:\n{stderr}");
    }
}

/// To accept a change: `cargo run -p cmd -- -help > cmd/tests/help.golden`.
#[test]
fn help_is_as_recorded() {
    let (code, stdout, stderr) = output(&mut syncv3(&["-help"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout, include_str!("help.golden"));
}

/// What stands before the settings, which are the same everywhere. To accept a change:
/// `cargo run -p cmd -- admin -help | sed '/^Options:/,$d' > cmd/tests/admin_help.golden`.
#[test]
fn the_help_of_admin_is_as_recorded() {
    let (code, stdout, stderr) = output(&mut syncv3(&["admin", "-help"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let (own, _settings) = stdout.split_once("Options:").expect("the settings follow");
    assert_eq!(own, include_str!("admin_help.golden"));
}

#[test]
fn admin_needs_to_be_told_what() {
    check_refused(&mut syncv3(&["admin", "sessions"]), &["<USER>"]);
    check_refused(&mut syncv3(&["admin", "drop-session", "@a:x", "first"]), &["first"]);
    check_refused(&mut syncv3(&["admin", "dance"]), &["dance"]);
    check_refused(
        syncv3(&["admin", "accounts", "-json", "-session-expiry", "0"]).env("HOME", "/home/x"),
        &["1 fault ", "-session-expiry"],
    );
}

/// It makes no database where there is none: whoever forgot `-db` would see an empty one.
#[test]
fn admin_makes_no_private_postgres() {
    let nowhere = std::env::temp_dir().join("syncv3-admin-finds-nothing-here");
    let directory = nowhere.to_str().expect("the path is text");
    let (code, stdout, stderr) = output(
        syncv3(&["admin", "accounts", "-data-dir", directory])
            .env("PATH", std::env::var_os("PATH").unwrap_or_default()),
    );
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(!nowhere.exists(), "{stderr}");
}

#[test]
fn one_dash_and_two_and_a_subcommand() {
    for args in [&["--help"][..], &["-help"], &["check", "-help"], &["-h"]] {
        let (code, stdout, _) = output(&mut syncv3(args));
        assert_eq!(code, Some(0), "{args:?}");
        assert!(stdout.contains("--server <URL>"), "{args:?}: {stdout}");
    }
}

#[test]
fn all_faults_are_told_together() {
    check_refused(
        syncv3(&["-db", "host=x sslmode=maybe", "-port=nowhere", "-tls-cert", "/nowhere.pem"])
            .env("HOME", "/home/x")
            .env("SYNCV3_MAX_DB_CONN", "many")
            .env("SYNCV3_LOG_LEVEL", "loud"),
        &[
            "6 faults",
            "-server (SYNCV3_SERVER): not set",
            "-db (SYNCV3_DB)",
            "sslmode=maybe",
            "-port, -bindaddr (SYNCV3_BINDADDR)",
            "`nowhere`",
            "-tls-key (SYNCV3_TLS_KEY): not set",
            "-max-db-conn (SYNCV3_MAX_DB_CONN)",
            "`many`",
            "-log-level (SYNCV3_LOG_LEVEL)",
        ],
    );
}

#[test]
fn an_empty_variable_counts_as_unset() {
    check_refused(
        syncv3(&["check"])
            .env("HOME", "/home/x")
            .env("SYNCV3_SERVER", "")
            .env("SYNCV3_MAX_DB_CONN", "")
            .env("SYNCV3_LOG_LEVEL", ""),
        &["1 fault ", "-server (SYNCV3_SERVER): not set"],
    );
}

#[test]
fn a_missing_scheme_is_mended() {
    check_refused(
        syncv3(&["check", "-server", "matrix.example.org"]).env("HOME", "/home/x"),
        &["1 fault ", "`https://matrix.example.org`"],
    );
}

#[test]
fn unknown_flags_are_refused() {
    check_refused(&mut syncv3(&["-sever", "x"]), &["-s"]);
    check_refused(&mut syncv3(&["dance"]), &["dance"]);
}

#[test]
fn secrets_stay_hidden() {
    let (_, stdout, _) = output(
        syncv3(&["-help"])
            .env("SYNCV3_SECRET", "hunter2")
            .env("SYNCV3_DB", "host=x password=hunter2"),
    );
    assert!(!stdout.contains("hunter2"), "{stdout}");
}

#[test]
fn nobody_answers_a_ping() {
    let (code, _, stderr) = output(&mut syncv3(&["ping", "-port", "127.0.0.1:1"]));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("127.0.0.1:1"), "{stderr}");
}
