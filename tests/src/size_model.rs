//! The size model of `docs/operations.md`: what a row of each table takes on disk.

use std::collections::BTreeMap;

/// The length of an event's body that the model is for, in bytes.
pub const BODY: i64 = 620;

/// The bytes that one more of each costs in all tables together, as the page has them: an account, a room, an event.
pub fn documented_growth() -> BTreeMap<String, i64> {
    cells_of_the_model(|cells| {
        let what = cells.get(1)?.strip_prefix("one more ")?;
        Some((what.split([',', ':']).next()?.to_owned(), number(cells.get(2)?)?))
    })
}

/// The bytes of a row with its part of the indexes, by table, as the page has them.
pub fn documented() -> BTreeMap<String, i64> {
    cells_of_the_model(|cells| {
        let table = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        Some((table.to_owned(), number(cells.get(3)?)?))
    })
}

/// What `read` makes of the rows of the section's tables.
fn cells_of_the_model(read: impl Fn(&[&str]) -> Option<(String, i64)>) -> BTreeMap<String, i64> {
    let page = include_str!("../../docs/operations.md");
    let model = page.split("### Size model").nth(1).expect("the page has a size model");
    let model = model.split("\n##").next().unwrap();
    let cells = model.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    cells.filter_map(|cells| read(&cells)).collect()
}

fn number(cell: &str) -> Option<i64> {
    cell.replace(',', "").parse().ok()
}
