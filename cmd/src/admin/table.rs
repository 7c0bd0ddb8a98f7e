//! Aligned columns for people. Times are ages: `5m`, `3h`, `41d`.

use std::io::{self, BufWriter, Write};

use store::{AccountStatus, DeviceStatus, SessionStatus};

/// What stands where there is nothing to say.
const NOTHING: &str = "-";

/// A table that is written a page at a time. Columns grow with what comes, and never shrink.
pub(super) struct Table {
    head: &'static [&'static str],
    widths: Vec<usize>,
    begun: bool,
}

impl Table {
    pub(super) fn of_accounts() -> Self {
        Self::new(&[
            "USER",
            "ACCOUNT",
            "POSITION",
            "MAIN DEVICE",
            "USED",
            "STORED",
            "ROOMS",
            "DEVICES",
            "STREAM",
        ])
    }

    pub(super) fn of_devices() -> Self {
        Self::new(&["DEVICE", "POLLS", "TOKEN USED", "V3 SESSIONS", "V2", "LAST MESSAGE", "KEPT"])
    }

    pub(super) fn of_sessions() -> Self {
        Self::new(&["DEVICE", "SESSION", "USED", "STATE", "ACKNOWLEDGED", "LAG", "BYTES"])
    }

    fn new(head: &'static [&'static str]) -> Self {
        let widths = head.iter().map(|name| name.chars().count()).collect();
        Self { head, widths, begun: false }
    }

    /// Writes rows to stdout, after the head if they are the first.
    pub(super) fn write(&mut self, rows: impl IntoIterator<Item = Vec<String>>) -> io::Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        out.write_all(self.page(&rows.into_iter().collect::<Vec<_>>()).as_bytes())?;
        out.flush()
    }

    fn page(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        if !self.begun {
            self.begun = true;
            self.line(&mut text, self.head.iter().copied());
        }
        for row in rows {
            self.line(&mut text, row.iter().map(String::as_str));
        }
        text
    }

    fn line<'a>(&self, text: &mut String, cells: impl Iterator<Item = &'a str>) {
        let cells: Vec<String> =
            cells.zip(&self.widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
}

pub(super) fn account(account: &AccountStatus, now: i64) -> Vec<String> {
    let stream = match (account.pos.0, account.has_upstream_since) {
        (_, true) => "goes on",
        (0, false) => "not begun",
        (_, false) => "begins anew",
    };
    vec![
        account.user_id.clone(),
        account.account_id.to_string(),
        account.pos.to_string(),
        account.main_device.clone().unwrap_or_else(|| NOTHING.to_owned()),
        age(account.used_at, now),
        age(account.stored_at, now),
        account.joined_rooms.to_string(),
        account.devices.to_string(),
        stream.to_owned(),
    ]
}

pub(super) fn device(device: &DeviceStatus, now: i64) -> Vec<String> {
    let polls = match (device.token_used_at, device.is_main) {
        (None, _) => "no token",
        (Some(_), true) => "main",
        (Some(_), false) => "light",
    };
    vec![
        device.device_id.clone(),
        polls.to_owned(),
        age(device.token_used_at, now),
        device.sessions.to_string(),
        (if device.v2 { "yes" } else { "no" }).to_owned(),
        device.inbox_seq.to_string(),
        device.inbox.to_string(),
    ]
}

pub(super) fn session(session: &SessionStatus, now: i64, live_since: i64) -> Vec<String> {
    vec![
        session.device_id.clone(),
        session.session_id.map_or_else(|| "v2".to_owned(), |id| id.to_string()),
        age(Some(session.last_used_at), now),
        (if session.last_used_at < live_since { "expired" } else { "live" }).to_owned(),
        session.inbox_acked.to_string(),
        session.lag.to_string(),
        session.bytes.to_string(),
    ]
}

/// How long ago a time in milliseconds was, in the largest unit that there is one of.
fn age(at: Option<i64>, now: i64) -> String {
    let Some(at) = at else { return NOTHING.to_owned() };
    let seconds = now.saturating_sub(at).max(0) / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let check = |seconds: i64, expected: &str| {
            assert_eq!(age(Some(1_000_000), 1_000_000 + seconds * 1_000), expected);
        };
        check(-5, "0s");
        check(59, "59s");
        check(60, "1m");
        check(7_199, "1h");
        check(86_400 * 41, "41d");
        assert_eq!(age(None, 1), "-");
    }

    #[test]
    fn columns_are_aligned_and_the_head_comes_once() {
        let mut table = Table::new(&["A", "LONG"]);
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(table.page(&[row(["1", "2"])]), "A  LONG\n1  2\n");
        assert_eq!(table.page(&[row(["333", "4"]), row(["5", "6"])]), "333  4\n5    6\n");
    }

    #[test]
    fn nobody_is_a_head_alone() {
        assert_eq!(Table::new(&["A", "B"]).page(&[]), "A  B\n");
    }
}
