//! Traces for OpenTelemetry: delivered to a collector over OTLP/HTTP, if the operator names one.
//!
//! Neighbours: `cmd` puts the layer that makes traces out of spans into the log's set-up. Nothing else knows of them: a
//! span is a span. What cannot be delivered is thrown away, and said once.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::http::{Request, Response};
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::{Level, Metadata};

use crate::upstream;

/// How long a delivery may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the last delivery may take: part of the ten seconds in which the process ends.
const LAST: Duration = Duration::from_secs(1);

/// Why no traces can be delivered.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// No client for the collector could be made.
    #[error("cannot prepare connections to the collector of traces")]
    Client(#[source] upstream::Error),
    /// The library refused the settings.
    #[error("cannot prepare the delivery of traces")]
    Exporter(#[from] ExporterBuildError),
}

/// Traces on their way to a collector.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins to deliver to the collector under this base URL, of this share of all traces. To be called where a runtime
    /// is: that is what deliveries run on.
    pub fn to(collector: &str, share: f64) -> Result<Self, TracesError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Delivery::new().map_err(TracesError::Client)?)
            .with_endpoint(format!("{}/v1/traces", collector.trim_end_matches('/')))
            .with_timeout(PATIENCE)
            .build()?;
        let resource = Resource::builder().with_service_name("syncv3").build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// What makes traces out of spans.
    pub fn tracer(&self) -> SdkTracer {
        self.0.tracer("syncv3")
    }

    /// Delivers what is left. Blocks for a second at most.
    pub fn stop(self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST) {
            tracing::debug!(%error, "the last traces were not delivered");
        }
    }
}

/// Whether something belongs into a trace: spans of ours. A poller's lasts as long as the process, so each of its polls is
/// a trace of its own.
pub fn is_traced(metadata: &Metadata<'_>) -> bool {
    let of_ours = ["proxy", "store"].contains(&metadata.target().split("::").next().unwrap_or(""));
    metadata.is_span()
        && *metadata.level() <= Level::DEBUG
        && of_ours
        && metadata.name() != "poller"
}

/// The way to the collector. The library delivers from a thread of its own, which has no runtime.
struct Delivery {
    http: reqwest::Client,
    runtime: Handle,
    /// The last delivery failed, and that was said.
    fails: AtomicBool,
}

impl Delivery {
    fn new() -> Result<Self, upstream::Error> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(upstream::client_config()?)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            .build()?;
        Ok(Self { http, runtime: Handle::current(), fails: AtomicBool::new(false) })
    }

    async fn deliver(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let exchange = self.runtime.spawn(async move {
            let answer = http.execute(request.try_into()?).await?.error_for_status()?;
            let status = answer.status();
            let mut response = Response::new(answer.bytes().await?);
            *response.status_mut() = status;
            Ok::<_, reqwest::Error>(response)
        });
        let outcome = exchange.await.map_err(HttpError::from).and_then(|answer| Ok(answer?));
        self.say(outcome.as_ref().err());
        outcome
    }

    fn say(&self, failure: Option<&HttpError>) {
        let failed_before = self.fails.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(error) if !failed_before => {
                let error = crate::error::causes(error.as_ref());
                tracing::warn!(%error, "traces cannot be delivered: they are thrown away");
            }
            None if failed_before => tracing::info!("traces are delivered again"),
            _ => {}
        }
    }
}

impl HttpClient for Delivery {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
    {
        Box::pin(self.deliver(request))
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}
