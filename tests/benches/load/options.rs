//! The command line.

use std::path::PathBuf;

use tests::load::world::Crowd;

const USAGE: &str = "usage: [--smoke] [--accounts N] [--rooms N] [--members-per-room N] [--clients N] [--rate A,B,…] \
                     [--seconds N] [--replicas N] [--json FILE]";

/// What to put a load of, on how many, and where to write how it went.
#[derive(Debug)]
pub(crate) struct Options {
    /// Accounts, each with one device.
    pub(crate) accounts: usize,
    /// Rooms, shared among them.
    pub(crate) rooms: usize,
    /// Of the accounts, in each room.
    pub(crate) members: usize,
    /// How many accounts have a v2 client that waits.
    pub(crate) clients: usize,
    /// Events a second, over all rooms; one step for each. Empty: doubled until it is too much.
    pub(crate) rates: Vec<f64>,
    /// How long a step lasts.
    pub(crate) seconds: u32,
    /// How many proxies share the database.
    pub(crate) replicas: usize,
    /// Where the figures go as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Small, and judged by ratios alone.
    pub(crate) smoke: bool,
}

impl Options {
    /// Reads the arguments, or says what is wrong with them.
    pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let arguments: Vec<String> = arguments.collect();
        let smoke = arguments.iter().any(|argument| argument == "--smoke");
        let mut options = if smoke { Self::smoke() } else { Self::usual() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| USAGE.to_owned());
            match argument.as_str() {
                // Cargo says so to every benchmark.
                "--bench" | "--smoke" => {}
                "--accounts" => options.accounts = number(&value()?)?,
                "--rooms" => options.rooms = number(&value()?)?,
                "--members-per-room" => options.members = number(&value()?)?,
                "--clients" => options.clients = number(&value()?)?,
                "--seconds" => options.seconds = number(&value()?)?,
                "--replicas" => options.replicas = number(&value()?)?,
                "--rate" => options.rates = rates(&value()?).ok_or(USAGE)?,
                "--json" => options.json = Some(value()?.into()),
                _ => return Err(USAGE.to_owned()),
            }
        }
        options.members = options.members.min(options.accounts);
        options.clients = options.clients.min(options.accounts);
        Ok(options)
    }

    /// On how many the load is put.
    pub(crate) const fn crowd(&self) -> Crowd {
        let Self { accounts, rooms, members, clients, replicas, .. } = *self;
        Crowd { accounts, rooms, members, clients, replicas }
    }

    fn usual() -> Self {
        Self {
            accounts: 200,
            rooms: 40,
            members: 20,
            clients: 50,
            rates: Vec::new(),
            seconds: 15,
            replicas: 1,
            json: None,
            smoke: false,
        }
    }

    fn smoke() -> Self {
        Self {
            accounts: 12,
            rooms: 4,
            members: 6,
            clients: 6,
            rates: vec![5.0, 10.0],
            seconds: 3,
            smoke: true,
            ..Self::usual()
        }
    }
}

fn number<T: std::str::FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, String> {
    let number: Option<T> = text.parse().ok();
    number.filter(|number| *number >= T::from(1)).ok_or_else(|| USAGE.to_owned())
}

fn rates(text: &str) -> Option<Vec<f64>> {
    let rates: Option<Vec<f64>> = text.split(',').map(|rate| rate.parse().ok()).collect();
    rates.filter(|rates| rates.iter().all(|rate: &f64| *rate > 0.0))
}
