//! The rows with a scripted homeserver: how costs grow with accounts, rooms, clients and events.

mod bench;
mod first_poll;
mod idle_clients;
mod ingest;
mod initial_syncs;
mod restart;
mod sizes;
mod wake_up;

use self::bench::Bench;
use crate::options::Options;
use crate::row::Row;

/// The numbers of these rows.
const ROWS: [u8; 7] = [2, 5, 7, 8, 9, 10, 11];

/// Measures those that are wanted.
pub(crate) async fn measure(options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    if !ROWS.iter().any(|row| options.wants(*row)) {
        return rows;
    }
    let bench = Bench::start(options.smoke).await;
    for number in ROWS.into_iter().filter(|row| options.wants(*row)) {
        // The table comes at the end, which is minutes away.
        eprintln!("row {number}");
        rows.push(match number {
            2 => initial_syncs::measure(&bench).await,
            5 => wake_up::measure(&bench).await,
            7 => idle_clients::measure(&bench).await,
            8 => ingest::measure(&bench).await,
            9 => first_poll::measure(&bench).await,
            10 => restart::measure(&bench).await,
            _ => sizes::measure(&bench).await,
        });
    }
    rows
}
