//! Long flags with one dash, as users of the Go proxy type them: `-server` means `--server`.

use std::ffi::{OsStr, OsString};

/// Gives a second dash to each argument that is one of the `known` long names with one dash,
/// with or without `=value`. What follows a lone `--` is left alone.
pub(super) fn with_two_dashes(
    args: impl IntoIterator<Item = OsString>,
    known: &[String],
) -> Vec<OsString> {
    let mut args = args.into_iter();
    let mut out: Vec<OsString> = args.next().into_iter().collect();
    for arg in args.by_ref() {
        let done = arg == "--";
        out.push(if is_known(&arg, known) { dashed(&arg) } else { arg });
        if done {
            break;
        }
    }
    out.extend(args);
    out
}

fn is_known(arg: &OsStr, known: &[String]) -> bool {
    // A value need not be text, but the name in front of it must be.
    let text = arg.to_string_lossy();
    let Some(name) = text.strip_prefix('-') else {
        return false;
    };
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    known.iter().any(|known| known == name)
}

fn dashed(arg: &OsStr) -> OsString {
    let mut dashed = OsString::from("-");
    dashed.push(arg);
    dashed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(args: &[&str], expected: &[&str]) {
        let known = ["server", "db", "help"].map(str::to_owned);
        let args = args.iter().map(OsString::from);
        assert_eq!(with_two_dashes(args, &known), expected);
    }

    #[test]
    fn one_dash_becomes_two() {
        check(&["p", "-server", "x"], &["p", "--server", "x"]);
        check(&["p", "-server=x", "-db=a=b"], &["p", "--server=x", "--db=a=b"]);
        check(&["p", "--server", "x"], &["p", "--server", "x"]);
        check(&["p", "check", "-help"], &["p", "check", "--help"]);
    }

    #[test]
    fn the_rest_stays() {
        check(&["p", "-h", "-V", "-nope", "-"], &["p", "-h", "-V", "-nope", "-"]);
        check(&["p", "--", "-server"], &["p", "--", "-server"]);
        check(&["-server"], &["-server"]);
        check(&[], &[]);
    }
}
