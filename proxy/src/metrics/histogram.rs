//! A histogram that is recorded into without a lock: the library's own takes one for each observation.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// From an answer out of memory to what a client hardly waits for.
const SECONDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// From a poll that brought one thing to the first poll of a large account.
const COUNTS: &[f64] = &[0.0, 1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1e3, 5e3, 1e4, 1e5];

/// From an empty reply to the first one of a large account.
const BYTES: &[f64] = &[1e3, 4e3, 16e3, 64e3, 256e3, 1e6, 4e6, 16e6, 64e6, 256e6];

/// How often what was seen. Clones record into the same one.
#[derive(Clone, Debug)]
pub(super) struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The upper bounds; what is larger than all of them has a place after them.
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    /// The bits of a float.
    sum: AtomicU64,
}

impl Histogram {
    /// Of durations, in seconds.
    pub(super) fn of_seconds() -> Self {
        Self::with(SECONDS)
    }

    /// Of numbers of things.
    pub(super) fn of_counts() -> Self {
        Self::with(COUNTS)
    }

    /// Of sizes in bytes.
    pub(super) fn of_bytes() -> Self {
        Self::with(BYTES)
    }

    fn with(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds, counts, sum: AtomicU64::new(0.0_f64.to_bits()) }))
    }

    /// Records a duration.
    pub(super) fn took(&self, duration: Duration) {
        self.record(duration.as_secs_f64());
    }

    /// Records a number of things.
    pub(super) fn saw(&self, count: usize) {
        // Beyond 2^32 all buckets are behind us.
        self.record(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    }

    fn record(&self, value: f64) {
        let Inner { bounds, counts, sum } = &*self.0;
        let bucket = bounds.partition_point(|bound| *bound < value);
        counts[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // The closure never refuses.
        let _ = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let bounds = self.0.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let total = buckets.iter().map(|(_, count)| count).sum();
        let sum = f64::from_bits(self.0.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, total, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::Histogram;

    #[test]
    fn a_value_counts_in_every_bucket_that_it_fits() {
        let histogram = Histogram::of_counts();
        for count in [0, 1, 7, 1_000_000] {
            histogram.saw(count);
        }
        let mut registry = Registry::default();
        registry.register("seen", "What was seen", histogram);
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes everything");
        for line in [
            r#"seen_bucket{le="0.0"} 1"#,
            r#"seen_bucket{le="1.0"} 2"#,
            r#"seen_bucket{le="5.0"} 2"#,
            r#"seen_bucket{le="10.0"} 3"#,
            r#"seen_bucket{le="100000.0"} 3"#,
            r#"seen_bucket{le="+Inf"} 4"#,
            "seen_sum 1000008.0",
            "seen_count 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
