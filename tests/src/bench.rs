//! What every benchmark begins and ends with: its options, a runtime, and what it says.

use std::io::Write;
use std::process::ExitCode;

/// Runs a benchmark with the options that `read` finds among the arguments, or says what is wrong with them.
pub fn run<O>(
    read: impl FnOnce(std::iter::Skip<std::env::Args>) -> Result<O, String>,
    bench: impl AsyncFnOnce(&O) -> ExitCode,
) -> ExitCode {
    let options = match read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(fault) => {
            say(&format!("{fault}\n"));
            return ExitCode::from(64);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(bench(&options))
}

/// Says something on standard output.
pub fn say(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).unwrap();
}
