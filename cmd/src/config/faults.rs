//! Everything that is wrong with the configuration, told at once.

use std::fmt;

use super::values::Refusal;

/// The faults found so far. Each names its setting and the mend.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

#[derive(Debug)]
struct Fault {
    setting: &'static str,
    problem: String,
    mend: String,
}

impl Faults {
    /// Notes a fault of a setting, named as its flag is, without the dash.
    pub(super) fn add(
        &mut self,
        setting: &'static str,
        problem: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.0.push(Fault { setting, problem: problem.into(), mend: mend.into() });
    }

    /// The value of a setting, or `None` and a fault noted.
    pub(super) fn keep<T>(
        &mut self,
        setting: &'static str,
        value: Result<T, Refusal>,
    ) -> Option<T> {
        value.map_err(|(problem, mend)| self.add(setting, problem, mend)).ok()
    }

    /// The configuration, if nothing was wrong with it.
    pub(super) fn or<T>(self, config: Option<T>) -> Result<T, Self> {
        match config {
            Some(config) if self.0.is_empty() => Ok(config),
            _ => Err(self),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let faults = if count == 1 { "fault" } else { "faults" };
        writeln!(f, "syncv3: {count} {faults} in the configuration")?;
        for fault in &self.0 {
            writeln!(f, "\n  {}: {}", names(fault.setting), fault.problem)?;
            writeln!(f, "      {}", fault.mend)?;
        }
        writeln!(f, "\n`syncv3 -help` lists all settings.")
    }
}

/// All names of a setting, as an operator may have written it.
fn names(setting: &str) -> String {
    if setting == "port" {
        return String::from("-port, -bindaddr (SYNCV3_BINDADDR)");
    }
    let variable = setting.to_uppercase().replace('-', "_");
    format!("-{setting} (SYNCV3_{variable})")
}
