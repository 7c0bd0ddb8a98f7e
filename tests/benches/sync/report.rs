//! The table for people.

use std::fmt::Write;

use crate::figures::Compared;

/// A table in Markdown, as `docs/performance.md` has it. Counts are those of the small and of the large account.
pub(crate) fn table(compared: &[Compared]) -> String {
    let Some(first) = compared.first() else { return "nothing was measured\n".to_owned() };
    let [small, large] = &first.worlds;
    let (small, large) = (small.rooms, large.rooms);
    let mut table = format!(
        "| reply | {small} rooms, ms (p90) | {large} rooms, ms (p90) | ratio | statements | rows read | blocks |\n|---|--:|--:|--:|--:|--:|--:|\n"
    );
    for case in compared {
        let [small, large] = &case.worlds;
        let pair = |of: &dyn Fn(&crate::figures::Figures) -> f64| {
            format!("{:.0} → {:.0}", of(small), of(large))
        };
        writeln!(
            table,
            "| {} | {:.1} ({:.1}) | {:.1} ({:.1}) | {:.2} | {} | {} | {} |",
            case.name(),
            small.median(),
            small.p90(),
            large.median(),
            large.p90(),
            case.ratio(),
            pair(&|figures| figures.asked.calls()),
            pair(&|figures| figures.asked.rows_read()),
            pair(&|figures| figures.asked.blocks()),
        )
        .expect("a String takes everything");
    }
    table
}
