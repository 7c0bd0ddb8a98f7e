//! The rows, by what they are measured with.

mod alone;
mod side_by_side;

use crate::options::Options;
use crate::row::Row;

/// Measures the rows that are wanted, in the order of their numbers.
pub(crate) async fn measure(options: &Options) -> Vec<Row> {
    let mut rows = side_by_side::measure(options).await;
    rows.extend(alone::measure(options).await);
    rows.sort_by_key(|row| row.number);
    rows
}
