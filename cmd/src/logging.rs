//! Where log lines go: to stderr, as text for people or as JSON for machines. And where traces go.

use std::io::{self, IsTerminal};

use proxy::traces::{Traces, TracesError, is_traced};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::config::{LogFormat, Logging};

/// Sends the log of the whole process to stderr from now on, and its traces to a collector, if there is one. What is left
/// of those is to be delivered at the end ([`Traces::stop`]).
pub(crate) fn start(logging: Logging) -> Result<Option<Traces>, TracesError> {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // A line that cannot be written, because the disk is full say, would be complained of on stderr, which cannot be
        // written to either, and that is a panic.
        .log_internal_errors(false);
    let lines = match logging.format {
        LogFormat::Text => lines.boxed(),
        // The outermost span comes first in the list, and is that of the request or of the poller.
        LogFormat::Json => lines.json().with_current_span(false).boxed(),
    };
    let traces = logging.otlp.map(|otlp| Traces::to(&otlp.collector, otlp.share)).transpose()?;
    let spans = traces.as_ref().map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer())
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_traced).with_max_level_hint(LevelFilter::DEBUG))
    });
    tracing_subscriber::registry().with(lines.with_filter(logging.filter)).with(spans).init();
    Ok(traces)
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
