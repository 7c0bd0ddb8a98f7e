//! The process as the kernel sees it, under the names that every Prometheus client uses. Read from `/proc` when asked for.
//!
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::clock::now_ms;

/// Linux reports times in hundredths of a second, whatever its own clock ticks in.
const TICKS_A_SECOND: f64 = 100.0;

/// Reads the process's own numbers.
#[derive(Debug)]
pub(super) struct Process {
    /// In seconds since the Unix epoch.
    started: f64,
}

impl Process {
    pub(super) fn new() -> Self {
        Self { started: as_float(now_ms()) / 1000.0 }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge(
            "process_start_time_seconds",
            "When the process began, in seconds since 1970.",
            self.started,
        )?;
        if let Some(bytes) = resident_bytes() {
            gauge(
                "process_resident_memory_bytes",
                "Memory that the process holds, in bytes.",
                bytes,
            )?;
        }
        if let Some(open) = open_files() {
            gauge("process_open_fds", "Open file descriptors.", open)?;
        }
        if let Some(most) = most_files() {
            gauge("process_max_fds", "The most file descriptors that may be open.", most)?;
        }
        if let Some(seconds) = processor_seconds() {
            let counter = ConstCounter::new(seconds);
            let name = "process_cpu_seconds";
            let help = "Processor time that the process has used, in seconds.";
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0)
}

fn open_files() -> Option<f64> {
    // The one that the look itself opens is not counted.
    let count = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u32::try_from(count).ok().map(f64::from)
}

fn most_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn processor_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program stands in brackets and may hold anything. After it, user and system time are 12th and 13th.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_A_SECOND)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit a float exactly")]
fn as_float(milliseconds: i64) -> f64 {
    milliseconds as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_all_of_it() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000.0));
        assert!(open_files().is_some_and(|open| open >= 3.0));
        assert!(most_files() >= open_files());
        assert!(processor_seconds().is_some());
    }
}
