//! JSON as a page shows it: on one line where that is short enough to read, else a line for each member.

use serde_json::Value;

/// The longest line.
const WIDTH: usize = 110;

/// A value, laid out.
pub(super) fn json(value: &Value) -> String {
    laid_out(value, 0, 0)
}

/// A value on a line that is indented so far, with so much before and behind it.
fn laid_out(value: &Value, indent: usize, beside: usize) -> String {
    let short = on_one_line(value);
    let parts: Vec<(String, &Value)> = match value {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| (format!("{}: ", Value::from(key.as_str())), value))
            .collect(),
        Value::Array(list) => list.iter().map(|value| (String::new(), value)).collect(),
        _ => return short,
    };
    if indent + beside + short.chars().count() <= WIDTH || parts.is_empty() {
        return short;
    }
    let (open, close) = if value.is_array() { ("[", "]") } else { ("{", "}") };
    let inner = indent + 2;
    let lines: Vec<String> = parts
        .into_iter()
        .map(|(key, value)| {
            let text = laid_out(value, inner, key.chars().count() + 1);
            format!("{}{key}{text}", " ".repeat(inner))
        })
        .collect();
    format!("{open}\n{}\n{}{close}", lines.join(",\n"), " ".repeat(indent))
}

fn on_one_line(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let members: Vec<String> = object
                .iter()
                .map(|(key, value)| {
                    format!("{}: {}", Value::from(key.as_str()), on_one_line(value))
                })
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Array(list) => {
            let entries: Vec<String> = list.iter().map(on_one_line).collect();
            format!("[{}]", entries.join(", "))
        }
        other => other.to_string(),
    }
}

#[test]
fn what_fits_is_on_one_line() {
    use serde_json::json;

    assert_eq!(json(&json!({"a": [1, "x"], "b": {}})), r#"{"a": [1, "x"], "b": {}}"#);
    let long = "x".repeat(100);
    let expected = format!("{{\n  \"a\": [\n    1,\n    \"{long}\"\n  ],\n  \"b\": null\n}}");
    assert_eq!(json(&json!({"a": [1, long], "b": null})), expected);
}
