//! What a scrape says after known calls.

use std::time::Duration;

use hyper::StatusCode;

use super::Metrics;
use super::labels::{Api, Call, CallOutcome, Kind};

#[track_caller]
fn check(metrics: &Metrics, line: &str) {
    let exposed = metrics.expose(None).expect("a string takes everything");
    assert!(exposed.lines().any(|found| found == line), "{line} is not in\n{exposed}");
}

#[test]
fn everything_is_there_from_the_start() {
    let metrics = Metrics::new();
    check(&metrics, r#"syncv3_requests_total{kind="v3",status="5xx"} 0"#);
    check(&metrics, r#"syncv3_polls_total{kind="first",outcome="stored"} 0"#);
    check(&metrics, r#"syncv3_pollers{activity="failing"} 0"#);
    check(&metrics, &format!(r#"syncv3_build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION")));
}

#[test]
fn requests_are_counted_by_kind_and_status() {
    let metrics = Metrics::new();
    metrics.answered(Kind::V2Initial, StatusCode::OK, Duration::from_millis(3));
    metrics.answered(Kind::V2Initial, StatusCode::IM_A_TEAPOT, Duration::ZERO);
    metrics.failed("unavailable");
    check(&metrics, r#"syncv3_requests_total{kind="v2_initial",status="2xx"} 1"#);
    check(&metrics, r#"syncv3_requests_total{kind="v2_initial",status="4xx"} 1"#);
    check(&metrics, r#"syncv3_answer_seconds_count{kind="v2_initial"} 2"#);
    check(&metrics, r#"syncv3_errors_total{error="unavailable"} 1"#);
}

#[test]
fn who_waits_is_counted_while_it_does() {
    let metrics = Metrics::new();
    let waits = (metrics.waits(Api::V3), metrics.waits(Api::V3));
    check(&metrics, r#"syncv3_waiting_requests{api="v3"} 2"#);
    drop(waits);
    check(&metrics, r#"syncv3_waiting_requests{api="v3"} 0"#);
}

#[test]
fn a_homeserver_that_refuses_is_there() {
    let metrics = Metrics::new();
    metrics.asked_upstream(Call::Poll, CallOutcome::Timeout, Duration::from_secs(1));
    check(&metrics, "syncv3_homeserver_answers 0");
    metrics.asked_upstream(Call::Whoami, CallOutcome::Refused, Duration::ZERO);
    check(&metrics, "syncv3_homeserver_answers 1");
}
