//! `syncv3`: a sync proxy in front of a Matrix homeserver.
//!
//! This crate is the program around the proxy: it reads the settings, starts what they ask for,
//! and stops it in order. It knows neither HTTP (`proxy`) nor SQL (`store`).

mod admin;
mod check;
mod config;
mod database;
mod listen;
mod logging;
mod migrate;
mod ping;
mod private_postgres;
mod secret;
mod serve;
mod shutdown;

use std::{
    error::Error,
    future::Future,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use crate::config::{Command, Faults, Flags};

/// `EX_USAGE` of sysexits.h: what was asked for cannot be understood, and trying again is no use.
const EXIT_USAGE: u8 = 64;

/// How long what cannot be interrupted, such as a name that is being resolved, may hold up the end.
const LEFTOVERS: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let (command, flags) = match config::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(refusal) => return answer_refusal(&refusal),
    };
    // Every TLS user of the process, the ones in libraries too, takes its cryptography from here.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail("the cryptography provider was installed twice");
    }

    match command {
        Command::Serve => with_config(flags.serve_config(), serve::run),
        Command::Check => with_config(flags.serve_config(), check::run),
        Command::Migrate => with_config(flags.storage_config(), migrate::run),
        Command::Admin(what) => {
            with_config(flags.admin_config(), |config| admin::run(config, what))
        }
        Command::Ping => with_config(flags.listen_config(), ping::run),
    }
}

/// Runs a subcommand on its part of the configuration, or reports everything wrong with it.
fn with_config<C, R>(
    config: Result<(C, config::Logging), Faults>,
    run: impl FnOnce(C) -> R,
) -> ExitCode
where
    R: Future<Output = Result<ExitCode, Box<dyn Error>>>,
{
    let (config, log) = match config {
        Ok(parts) => parts,
        Err(faults) => {
            // A closed stderr leaves nobody to tell.
            let _ = write!(io::stderr().lock(), "{faults}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime cannot be started: {error}")),
    };
    let traces = {
        // What delivers traces runs there.
        let _entered = runtime.enter();
        match logging::start(log) {
            Ok(traces) => traces,
            Err(error) => return fail(&with_sources(&error)),
        }
    };
    for name in Flags::unknown_environment() {
        tracing::warn!("`{name}` in the environment is not a setting of this program: ignored");
    }
    let code = match runtime.block_on(run(config)) {
        Ok(code) => code,
        Err(error) => fail(&with_sources(&*error)),
    };
    if let Some(traces) = traces {
        traces.stop();
    }
    runtime.shutdown_timeout(LEFTOVERS);
    code
}

/// Prints what clap has to say: the help, the version, or why the arguments were refused.
fn answer_refusal(refusal: &clap::Error) -> ExitCode {
    let _ = refusal.print();
    if refusal.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "syncv3: {message}");
    ExitCode::FAILURE
}

/// An error and what caused it, in one line. A cause that its effect already quotes is left out.
fn with_sources(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    message
}
