//! The rows, by what they are measured with.

mod alone;
mod side_by_side;

use crate::options::Options;
use crate::row::Row;

/// The proxy's own limit of events in a first poll, for plain readers that are to be told the same.
const LIKE_THE_PROXY: &str = r#"{"room":{"timeline":{"limit":20}}}"#;

/// Measures the rows that are wanted, in the order of their numbers.
pub(crate) async fn measure(options: &Options) -> Vec<Row> {
    let mut rows = side_by_side::measure(options).await;
    rows.extend(alone::measure(options).await);
    rows.sort_by_key(|row| row.number);
    rows
}
