//! The rows against a real Synapse: it and a proxy before it are asked the same in turn, each with a Postgres.

use crate::options::Options;
use crate::row::Row;

/// The numbers of these rows.
const ROWS: [u8; 4] = [1, 3, 4, 6];

/// Measures those that are wanted.
pub(crate) async fn measure(options: &Options) -> Vec<Row> {
    if !ROWS.iter().any(|row| options.wants(*row)) {
        return Vec::new();
    }
    Vec::new()
}
