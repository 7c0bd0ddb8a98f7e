//! One request as whoever watches sees it: its span in the log, what it is for, and how long it took.
//!
//! Neighbours: `dispatch` begins and ends it; `auth` says whose it is, the syncs say when it waits. They find it through
//! their task, so that nothing between them has to hand it on; outside of a request nothing is observed. The path goes
//! into the log and the query never: a token may stand there.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::metrics::labels::{Api, Kind};
use crate::metrics::{Counted, Metrics};
use crate::peer::Peer;

/// Names a request in an answer, as in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A sync's answer that takes longer than this, beside what its request waited for news, is told to the operator. Of what
/// is passed on nobody here knows what it waits for.
const SLOW: Duration = Duration::from_secs(30);

tokio::task_local! {
    static REQUEST: Arc<Observed>;
}

/// A request under way.
pub(crate) struct Observed {
    id: String,
    span: Span,
    begun: Instant,
    /// How long it waited for news, in milliseconds.
    waited: AtomicU64,
}

impl Observed {
    /// A request has come.
    pub(crate) fn begin<B>(request: &Request<B>, peer: Peer) -> Arc<Self> {
        let id = new_id();
        let span = tracing::info_span!(
            "request",
            request_id = id,
            method = %request.method(),
            path = request.uri().path(),
            %peer,
            kind = Empty,
            user_id = Empty,
            device_id = Empty,
            status = Empty,
        );
        Arc::new(Self { id, span, begun: Instant::now(), waited: AtomicU64::new(0) })
    }

    /// Runs what answers it.
    pub(crate) async fn run<T>(self: &Arc<Self>, answer: impl Future<Output = T>) -> T {
        REQUEST.scope(Arc::clone(self), answer).instrument(self.span.clone()).await
    }

    /// It is answered.
    pub(crate) fn end<B>(&self, metrics: &Metrics, kind: Kind, response: &mut Response<B>) {
        let waited = Duration::from_millis(self.waited.load(Ordering::Relaxed));
        let took = self.begun.elapsed().saturating_sub(waited);
        let status = response.status();
        metrics.answered(kind, status, took);
        self.log(kind, status, took, waited);
        // What the homeserver calls it comes first: it stands in the homeserver's log.
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            response.headers_mut().entry(REQUEST_ID).or_insert(id);
        }
    }

    fn log(&self, kind: Kind, status: StatusCode, took: Duration, waited: Duration) {
        use crate::metrics::labels::Label;
        let _entered = self.span.enter();
        self.span.record("kind", kind.text());
        self.span.record("status", status.as_u16());
        let is_sync =
            matches!(kind, Kind::V2Initial | Kind::V2Incremental | Kind::V3First | Kind::V3);
        if is_sync && took > SLOW {
            tracing::info!(status = status.as_u16(), ?took, ?waited, "a slow answer");
        } else {
            tracing::debug!(status = status.as_u16(), ?took, ?waited, "request answered");
        }
    }
}

/// The request of this task is of this user's device.
pub(crate) fn is_of(user_id: &str, device_id: &str) {
    // Outside of a request there is nobody to tell.
    let _ = REQUEST.try_with(|request| {
        request.span.record("user_id", user_id);
        request.span.record("device_id", device_id);
    });
}

/// The request of this task waits for news until the guard is dropped.
pub(crate) fn waits(metrics: &Metrics, api: Api) -> Waits {
    Waits { begun: Instant::now(), _counted: metrics.waits(api) }
}

/// See [`waits`].
pub(crate) struct Waits {
    begun: Instant,
    _counted: Counted,
}

impl Drop for Waits {
    fn drop(&mut self) {
        let waited = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let _ = REQUEST.try_with(|request| request.waited.fetch_add(waited, Ordering::Relaxed));
    }
}

/// 12 hexadecimal digits: enough to find a request in a day's log.
fn new_id() -> String {
    let mut bytes = [0; 8];
    // Without randomness requests are merely called alike.
    let _ = SystemRandom::new().fill(&mut bytes);
    format!("{:012x}", u64::from_ne_bytes(bytes) >> 16)
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use hyper::body::Bytes;

    use super::*;

    fn begin() -> Arc<Observed> {
        Observed::begin(&Request::new(Empty::<Bytes>::new()), Peer::unix())
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_waits_for_news_is_not_counted_as_work() {
        let metrics = Metrics::new();
        let observed = begin();
        let answer = async {
            tokio::time::advance(Duration::from_millis(20)).await;
            let _waits = waits(&metrics, Api::V2);
            tokio::time::advance(Duration::from_secs(100)).await;
        };
        observed.run(answer).await;
        observed.end(&metrics, Kind::V2Incremental, &mut Response::new(()));
        let exposed = metrics.expose(None).expect("a string takes everything");
        let sum = r#"syncv3_answer_seconds_sum{kind="v2_incremental"} 0.02"#;
        assert!(exposed.lines().any(|line| line == sum), "{exposed}");
    }

    #[test]
    fn the_homeservers_own_name_for_a_request_stays() {
        let mut response = Response::new(());
        begin().end(&Metrics::new(), Kind::PassThrough, &mut response);
        assert_eq!(response.headers()[REQUEST_ID].len(), 12);
        response.headers_mut().insert(REQUEST_ID, HeaderValue::from_static("theirs"));
        begin().end(&Metrics::new(), Kind::PassThrough, &mut response);
        assert_eq!(response.headers()[REQUEST_ID], "theirs");
    }
}
