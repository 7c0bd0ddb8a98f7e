//! The size model of `docs/operations.md`: what a row of each table takes on disk.

use std::collections::BTreeMap;

/// The length of an event's body that the model is for, in bytes.
pub const BODY: i64 = 620;

/// The bytes of a row with its part of the indexes, by table, as the page has them.
pub fn documented() -> BTreeMap<String, i64> {
    let page = include_str!("../../docs/operations.md");
    let model = page.split("### Size model").nth(1).expect("the page has a size model");
    let model = model.split("\n##").next().unwrap();
    let rows = model.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let table = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        Some((table.to_owned(), cells.get(3)?.replace(',', "").parse().ok()?))
    });
    rows.collect()
}
