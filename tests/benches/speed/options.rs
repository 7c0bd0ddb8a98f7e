//! The command line.

use std::path::PathBuf;

const USAGE: &str = "usage: [--smoke] [--row N,…] [--rooms N] [--json FILE]";

/// What is measured, how large, and where it is written.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// The numbers of the rows that are wanted. Empty: all.
    pub(crate) rows: Vec<u8>,
    /// How many rooms the account has that is asked for on a real Synapse. `None`: what goes with the size of the run.
    pub(crate) rooms: Option<usize>,
    /// Where the figures go as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Small, and judged with a wide margin.
    pub(crate) smoke: bool,
}

impl Options {
    /// Reads the arguments, or says what is wrong with them.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| USAGE.to_owned());
            match argument.as_str() {
                // Cargo says so to every benchmark.
                "--bench" => {}
                "--smoke" => options.smoke = true,
                "--row" => options.rows = numbers(&value()?)?,
                "--rooms" => options.rooms = Some(value()?.parse().map_err(|_| USAGE.to_owned())?),
                "--json" => options.json = Some(value()?.into()),
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }

    /// Whether a row is to be measured.
    pub(crate) fn wants(&self, row: u8) -> bool {
        self.rows.is_empty() || self.rows.contains(&row)
    }
}

fn numbers(text: &str) -> Result<Vec<u8>, String> {
    let numbers = text.split(',').map(|number| number.parse().map_err(|_| USAGE.to_owned()));
    numbers.collect()
}
