//! The command line.

use std::path::PathBuf;

const USAGE: &str = "usage: [--smoke] [--rooms SMALL,LARGE] [--runs N] [--only TEXT] [--json FILE]";

/// What to measure, and where to write it.
#[derive(Debug)]
pub(crate) struct Options {
    /// The joined rooms of the two accounts.
    pub(crate) rooms: [usize; 2],
    /// How often each reply is timed while the proxy runs; after restarts a quarter as often.
    pub(crate) runs: usize,
    /// Only cases whose name contains this.
    pub(crate) only: String,
    /// Where the figures go as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Small, and lenient with the clock.
    pub(crate) smoke: bool,
}

impl Options {
    /// Reads the arguments, or says what is wrong with them.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut rooms = None;
        let mut runs = None;
        let mut options =
            Self { rooms: [0, 0], runs: 0, only: String::new(), json: None, smoke: false };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| USAGE.to_owned());
            match argument.as_str() {
                // Cargo says so to every benchmark.
                "--bench" => {}
                "--smoke" => options.smoke = true,
                "--rooms" => rooms = Some(pair(&value()?).ok_or(USAGE)?),
                "--runs" => runs = Some(value()?.parse().map_err(|_| USAGE)?),
                "--only" => options.only = value()?,
                "--json" => options.json = Some(value()?.into()),
                _ => return Err(USAGE.to_owned()),
            }
        }
        let (usual_rooms, usual_runs) =
            if options.smoke { ([100, 1_000], 4) } else { ([100, 5_000], 40) };
        options.rooms = rooms.unwrap_or(usual_rooms);
        options.runs = runs.unwrap_or(usual_runs);
        Ok(options)
    }
}

fn pair(text: &str) -> Option<[usize; 2]> {
    let (small, large) = text.split_once(',')?;
    Some([small.parse().ok()?, large.parse().ok()?])
}
