//! Command lines.

use std::ffi::OsString;

use ::tests::fuzz::{check, corpus, text};

use super::{argv::with_two_dashes, parse, values};

/// A command line is refused by clap, or by a list of faults that names each setting, or taken.
#[test]
fn command_lines() {
    let seeds = corpus("argv");
    check("command_lines", |choices| {
        let lines = text(choices, &seeds);
        let args = || std::iter::once("syncv3").chain(lines.split('\n')).map(OsString::from);
        choices.note("arguments", &lines);
        match parse(args()) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok((_, flags)) => {
                if let Err(faults) = flags.serve_config() {
                    assert!(faults.to_string().contains("(SYNCV3_"), "{faults}");
                }
                if let Ok((config, _)) = flags.serve_config() {
                    let shown = format!("{config:?}");
                    assert!(!shown.contains("hunter2") || !lines.contains("secret hunter2"));
                }
            }
        }
    });
}

#[test]
fn one_dash_or_two() {
    let seeds = corpus("argv");
    let known = ["server", "db", "port", "secret"].map(str::to_owned);
    check("one_dash_or_two", |choices| {
        let lines = text(choices, &seeds);
        let args: Vec<OsString> = lines.split('\n').map(OsString::from).collect();
        choices.note("arguments", &args);
        let once = with_two_dashes(args.clone(), &known);
        assert_eq!(once.len(), args.len());
        assert_eq!(with_two_dashes(once.clone(), &known), once);
    });
}

#[test]
fn values_of_settings() {
    let (addresses, connections) = (corpus("address"), corpus("connection"));
    check("values_of_settings", |choices| {
        let address = text(choices, &addresses);
        choices.note("address", &address);
        if let Ok(server) = values::server(&address) {
            let again = values::server(&server.to_string()).expect("what we wrote");
            assert_eq!(again, server);
        }
        if let Ok(url) = values::public_url(&address) {
            assert_eq!(values::public_url(&url).ok(), Some(url));
        }
        let value = text(choices, &connections);
        choices.note("value", &value);
        if let Ok(bind) = values::bind(&value) {
            assert_eq!(values::bind(&bind.to_string()).ok(), Some(bind));
        }
        if let Ok(number) = values::positive::<u32>(&value) {
            assert!(number > 0);
        }
        let _ = values::switch(&value);
        let _ = super::files::database(&value);
    });
}
