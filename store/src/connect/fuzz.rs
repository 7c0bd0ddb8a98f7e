//! Connection strings.

use ::tests::fuzz::{check, corpus, text};

use super::{Settings, parse::split};

#[test]
fn connection_strings() {
    let seeds = corpus("connection");
    check("connection_strings", |choices| {
        let connection = text(choices, &seeds);
        choices.note("connection", &connection);
        if let Ok(parsed) = split(&connection) {
            let again = split(&parsed.rest).expect("what we wrote");
            assert_eq!(again.rest, parsed.rest);
            assert_eq!((again.sslmode, again.sslrootcert), (None, None));
        }
        // Whether it is good is the driver's to say; that it is said is ours.
        let _ = Settings::parse(&connection);
    });
}

/// Any value can be written, and is read as it was meant.
#[test]
fn connection_strings_in_pairs() {
    let seeds = corpus("connection");
    check("connection_strings_in_pairs", |choices| {
        let value = text(choices, &seeds);
        let quoted = value.replace('\\', r"\\").replace('\'', r"\'");
        let spaces = choices.pick(&["", " ", "\t\n "]);
        let connection =
            format!("sslmode=disable{spaces} sslmode{spaces}={spaces}'{quoted}'{spaces}user='x y'");
        choices.note("connection", &connection);
        let parsed = split(&connection).expect("good pairs");
        assert_eq!(parsed.sslmode, Some(value));
        assert_eq!(parsed.rest, "user='x y'");
    });
}
