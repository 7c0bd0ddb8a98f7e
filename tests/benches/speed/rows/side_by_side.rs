//! The rows against a real Synapse: it and a proxy before it are asked the same in turn, each with a database on one Postgres.

mod delivery;
mod first_reply;
mod flat;
mod idle;
mod initial;
mod sides;
mod statements;
mod times;
mod town;
mod wire;

use self::sides::Sides;
use crate::options::Options;
use crate::report;
use crate::row::Row;

/// The numbers of these rows.
const ROWS: [u8; 4] = [1, 3, 4, 6];
/// How many rooms the account has, and how many in a small run.
const ROOMS: usize = 1_000;
const FEW_ROOMS: usize = 20;

/// Measures those that are wanted.
pub(crate) async fn measure(options: &Options) -> Vec<Row> {
    if !ROWS.iter().any(|row| options.wants(*row)) {
        return Vec::new();
    }
    let rooms = options.rooms.unwrap_or(if options.smoke { FEW_ROOMS } else { ROOMS });
    let sides = Sides::make(rooms, idle::DEVICES).await;
    let mut rows = Vec::new();
    for number in ROWS.into_iter().filter(|row| options.wants(*row)) {
        let row = match number {
            1 => initial::measure(&sides, options).await,
            3 => idle::measure(&sides, options).await,
            4 => {
                // Each is polled for at every event, which is no part of a delivery to somebody else.
                sides.log_devices_out().await;
                delivery::measure(&sides, options).await
            }
            _ => first_reply::measure(&sides, options).await,
        };
        // The table comes at the end, which is minutes away.
        eprintln!("{}", report::table(std::slice::from_ref(&row)));
        rows.push(row);
    }
    rows
}
