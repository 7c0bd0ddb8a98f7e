//! Takes out of a connection string what the driver does not know: `sslmode` and `sslrootcert`.
//!
//! What remains is handed on in the form it came in, so the driver stays the judge of all else.

use super::SettingsError;

/// A connection string in two parts: ours and the driver's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) rest: String,
    pub(super) sslmode: Option<String>,
    pub(super) sslrootcert: Option<String>,
}

/// Splits a connection string of either form. Of a parameter given twice the last one counts.
pub(super) fn split(text: &str) -> Result<Parsed, SettingsError> {
    let text = text.trim();
    for scheme in ["postgres://", "postgresql://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return split_url(scheme, rest);
        }
    }
    split_pairs(text)
}

fn split_url(scheme: &str, url: &str) -> Result<Parsed, SettingsError> {
    // An `@` ends the credentials only if it stands before the path, as in libpq. The driver takes
    // the first one anywhere, so the others are escaped for it.
    let credentials = match url.find(['@', '/']) {
        Some(at) if url[at..].starts_with('@') => at + 1,
        _ => 0,
    };
    let (credentials, address) = url.split_at(credentials);
    let (address, query) = address.split_once('?').unwrap_or((address, ""));

    let mut sslmode = None;
    let mut sslrootcert = None;
    let mut others = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.trim().is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", value)) => sslmode = Some(percent_decode(value)?),
            Some(("sslrootcert", value)) => sslrootcert = Some(percent_decode(value)?),
            _ => others.push(pair),
        }
    }

    let mut tail = address.to_owned();
    if !others.is_empty() {
        tail.push('?');
        tail.push_str(&others.join("&"));
    }
    // What stood before the query is the end now, where space means nothing either.
    let rest = format!("{scheme}{credentials}{}", tail.replace('@', "%40"));
    Ok(Parsed { rest: rest.trim_end().to_owned(), sslmode, sslrootcert })
}

fn split_pairs(text: &str) -> Result<Parsed, SettingsError> {
    let mut parsed = Parsed { rest: String::new(), sslmode: None, sslrootcert: None };
    let mut input = text;
    while !input.is_empty() {
        let (key, after) = input
            .split_once('=')
            .ok_or(SettingsError::Malformed("a `=` is missing after a name"))?;
        let key = key.trim_end();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(SettingsError::Malformed("a `=` is missing after a name"));
        }
        // What is left of the pairs must not look like a URL to who reads it next.
        if !key.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
            return Err(SettingsError::Malformed(
                "a name has other characters than letters, digits and `_`",
            ));
        }
        let (value, after) = take_value(after.trim_start())?;
        match key {
            "sslmode" => parsed.sslmode = Some(value),
            "sslrootcert" => parsed.sslrootcert = Some(value),
            _ => push_pair(&mut parsed.rest, key, &value),
        }
        input = after.trim_start();
    }
    Ok(parsed)
}

/// Reads one value with libpq's quoting: `'…'` around it, `\` before any character.
fn take_value(input: &str) -> Result<(String, &str), SettingsError> {
    let (quoted, body) = match input.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, input),
    };
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            char if char.is_whitespace() && !quoted => return Ok((value, &body[at..])),
            char => value.push(char),
        }
    }
    if quoted {
        return Err(SettingsError::Malformed("a quote is not closed"));
    }
    Ok((value, ""))
}

fn push_pair(rest: &mut String, key: &str, value: &str) {
    if !rest.is_empty() {
        rest.push(' ');
    }
    rest.push_str(key);
    rest.push_str("='");
    for char in value.chars() {
        if matches!(char, '\'' | '\\') {
            rest.push('\\');
        }
        rest.push(char);
    }
    rest.push('\'');
}

fn percent_decode(text: &str) -> Result<String, SettingsError> {
    const BAD: SettingsError = SettingsError::Malformed("a `%` is not followed by two hex digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or(BAD)?;
        let mut digits = digits.iter().map(|&digit| char::from(digit).to_digit(16));
        let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else {
            return Err(BAD);
        };
        bytes.extend(u8::try_from(high * 16 + low));
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| BAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, rest: &str, sslmode: Option<&str>, sslrootcert: Option<&str>) {
        let expected = Parsed {
            rest: rest.to_owned(),
            sslmode: sslmode.map(str::to_owned),
            sslrootcert: sslrootcert.map(str::to_owned),
        };
        assert_eq!(split(text).expect("the value is good"), expected);
    }

    #[test]
    fn pairs() {
        check("", "", None, None);
        check("a=b  c = 'd e'", "a='b' c='d e'", None, None);
        check(
            r"sslmode=require password='it\'s \\' sslrootcert=/a\ b.pem",
            r"password='it\'s \\'",
            Some("require"),
            Some("/a b.pem"),
        );
        check("sslmode=disable host=x sslmode=prefer", "host='x'", Some("prefer"), None);
        check("password='' host=x", "password='' host='x'", None, None);
    }

    #[test]
    fn urls() {
        check("postgres://h/d", "postgres://h/d", None, None);
        check(
            "postgres://u:a?b@h/d?sslmode=verify-ca&port=1&sslrootcert=%2Fa%20b.pem",
            "postgres://u:a?b@h/d?port=1",
            Some("verify-ca"),
            Some("/a b.pem"),
        );
        check(
            "postgresql://h/d?application_name=a@b",
            "postgresql://h/d?application_name=a%40b",
            None,
            None,
        );
        check("postgres://h?sslmode=require", "postgres://h", Some("require"), None);
        check("postgres://h\n?sslmode=require", "postgres://h", Some("require"), None);
        check("postgres://h?a=b&\n&sslmode=require&\n", "postgres://h?a=b", Some("require"), None);
    }

    #[test]
    fn faults() {
        for text in [
            "host",
            "=x",
            "a b=c",
            "sslmode=require postgresql://u@h/d?sslmode=prefer",
            "password='open",
            "postgres://h/d?sslmode=%4",
            "postgres://h/d?sslmode=%zz",
            "postgres://h/d?sslmode=%+1",
        ] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
