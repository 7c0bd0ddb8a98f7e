//! The section of `docs/v3-api.md` that a test makes.

use std::fmt::Write;
use std::fs;

use serde_json::Value;
use tests::paths;

use super::layout;

const BEGIN: &str = "<!-- worked session: begin (made by a test) -->\n";
const END: &str = "<!-- worked session: end -->";

/// The longest line of the page's own text.
const WIDTH: usize = 118;

/// The section as it ought to be.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
    steps: u32,
}

impl Page {
    /// The next step.
    pub(super) fn step(&mut self, title: &str, text: &str) {
        self.steps += 1;
        let paragraph = format!("**{}. {title}.** {text}", self.steps);
        write!(self.text, "\n{}\n", wrapped(&paragraph)).unwrap();
    }

    /// What the client sends.
    pub(super) fn request(&mut self, since: Option<&str>, timeout: u64, body: &Value) {
        let mut query = Vec::new();
        query.extend(since.map(|since| format!("since={since}")));
        query.extend((timeout > 0).then(|| format!("timeout={timeout}")));
        let mark = if query.is_empty() { "" } else { "?" };
        let line = format!("POST /_matrix/client/v3/sync{mark}{}", query.join("&"));
        write!(self.text, "\n{}", indented(&format!("{line}\n{}", layout::json(body)))).unwrap();
    }

    /// What it is answered.
    pub(super) fn answer(&mut self, answer: &str) {
        write!(self.text, "\n{}", indented(answer)).unwrap();
    }

    /// Fails if the page says something else; with `TEST_WRITE_DOCS` it is written instead.
    #[track_caller]
    pub(super) fn is_up_to_date(&self) {
        let path = paths::repository().join("docs/v3-api.md");
        let page = fs::read_to_string(&path).unwrap();
        let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the session");
        let (section, after) = rest.split_once(END).expect("the session on the page ends");
        let expected = format!("{}\n", self.text);
        if std::env::var_os("TEST_WRITE_DOCS").is_some() {
            fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
            return;
        }
        let mut lines = section.lines().zip(expected.lines());
        let differs = lines.find(|(shown, happened)| shown != happened);
        assert!(
            section == expected,
            "docs/v3-api.md shows another session than what happens; TEST_WRITE_DOCS=1 brings it up to date. \
             The first lines that differ, on the page and as it is: {differs:#?}\nAll as it is:\n{expected}"
        );
    }
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |all, line| all + "    " + line + "\n")
}

fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().unwrap();
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines.join("\n")
}
