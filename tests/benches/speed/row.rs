//! One row of the table: what was measured, how, and how it compares with what is to be reached.

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its number in the table of `docs/performance.md`.
    pub(crate) number: u8,
    /// What is measured.
    pub(crate) what: &'static str,
    /// What is to be reached, in words.
    pub(crate) to_reach: &'static str,
    /// The figures, in the order of their reading.
    pub(crate) figures: Vec<Figure>,
    /// Sizes, counts and sources: what somebody needs to know to believe the figures.
    pub(crate) how: String,
    /// Whether it is reached.
    pub(crate) reached: bool,
    /// What no machine and no noise excuses: a ratio or a slope that is off by a wide margin.
    pub(crate) fault: Option<String>,
}

/// One figure of a row.
#[derive(Debug)]
pub(crate) struct Figure {
    /// What it is.
    pub(crate) name: String,
    pub(crate) value: f64,
    /// Its unit; empty for a ratio.
    pub(crate) unit: &'static str,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit }
    }
}
