//! Where log lines go: to stderr, as text for people or as JSON for machines.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Logging};

/// Sends the log of the whole process to stderr from now on.
pub(crate) fn start(logging: Logging) {
    let builder = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(logging.filter);
    match logging.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Reads a level, or a list of `target=level` as tracing's `EnvFilter` has it.
///
/// The names that the Go proxy knows beyond tracing's own are understood.
pub(crate) fn parse_filter(text: &str) -> Option<EnvFilter> {
    let text = text.trim().to_ascii_lowercase();
    let text = match text.as_str() {
        "warning" => "warn",
        "fatal" | "panic" => "error",
        "off" | "none" | "disabled" => "off",
        // The filter would take any lone word for the name of a module.
        word if word.contains(['=', ',']) => word,
        word @ ("error" | "warn" | "info" | "debug" | "trace") => word,
        _ => return None,
    };
    EnvFilter::try_new(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let filter = parse_filter(text).map(|filter| filter.to_string());
        assert_eq!(filter.as_deref(), expected, "{text}");
    }

    #[test]
    fn levels() {
        check("info", Some("info"));
        check("DEBUG", Some("debug"));
        check("warning", Some("warn"));
        check("fatal", Some("error"));
        check("store=debug", Some("store=debug"));
        check("loud", None);
        check("store=loud", None);
    }
}
