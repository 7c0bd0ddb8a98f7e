//! Text that is nearly right, where it is not JSON: a query, a path, a connection string.

use super::Choices;

/// What has a meaning in some of the languages that are tried.
const PIECES: &[&str] = &[
    "",
    " ",
    "=",
    "&",
    "?",
    "/",
    "//",
    ".",
    "..",
    "/../",
    "%",
    "%2",
    "%zz",
    "%00",
    "%2F",
    "%2f..",
    "%ff",
    "%25",
    "+",
    ";",
    ":",
    "@",
    "#",
    "'",
    "\"",
    "\\",
    "*",
    "-",
    "--",
    "\0",
    "\n",
    "é",
    "\u{202e}",
    "0",
    "-1",
    "18446744073709551616",
    "1e9",
    "true",
    "false",
    "null",
    "since",
    "from",
    "sslmode=verify-full",
    "[::1]",
    ",",
];

/// One of these texts with some changes.
pub fn text(choices: &mut Choices<'_>, seeds: &[String]) -> String {
    let mut text: Vec<char> = choices.pick(seeds).chars().collect();
    for _ in 0..choices.below(6) {
        let from = choices.below(text.len() + 1);
        let length = choices.below(8).min(text.len() - from);
        let piece: Vec<char> = match choices.below(4) {
            0 => choices.pick(PIECES).chars().collect(),
            1 => choices.pick(seeds).chars().collect(),
            2 => text[from..from + length].repeat(choices.below(200)),
            _ => Vec::new(),
        };
        let replaced = if choices.one_in(2) { length } else { 0 };
        text.splice(from..from + replaced, piece);
    }
    text.into_iter().collect()
}

/// Bytes that are cut short, changed or put in, as on a bad line; often they are no text any more.
pub fn spoiled(choices: &mut Choices<'_>, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=choices.below(3) {
        let at = choices.below(bytes.len() + 1);
        match choices.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, choices.byte()),
            2 => bytes.splice(at..at, [0xed, 0xa0, 0x80]).for_each(drop),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << choices.below(8);
                }
            }
        }
    }
    bytes
}
