//! The table, for people and for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::row::{Figure, Row};

/// A table in Markdown, as `docs/performance.md` has it.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text =
        "| # | what | to reach | measured | reached | how |\n|--:|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        let figures: Vec<String> = row.figures.iter().map(in_words).collect();
        let reached = if row.reached { "yes" } else { "no" };
        let Row { number, what, to_reach, how, .. } = row;
        let measured = figures.join("; ");
        writeln!(text, "| {number} | {what} | {to_reach} | {measured} | {reached} | {how} |")
            .expect("a String takes everything");
    }
    text
}

fn in_words(figure: &Figure) -> String {
    let Figure { name, value, unit } = figure;
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    let space = if unit.is_empty() { "" } else { " " };
    format!("{name}: {value:.digits$}{space}{unit}")
}

/// Everything, for programs.
pub(crate) fn to_json(rows: &[Row]) -> Value {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let figures: Vec<Value> = row
                .figures
                .iter()
                .map(|figure| json!({"name": figure.name, "value": figure.value, "unit": figure.unit}))
                .collect();
            json!({
                "row": row.number, "what": row.what, "to_reach": row.to_reach, "figures": figures,
                "how": row.how, "reached": row.reached, "fault": row.fault,
            })
        })
        .collect();
    json!({"cores": cores, "rows": rows})
}
