//! The text format of OpenMetrics, read strictly: what the proxy's `/metrics` says, and whether it may say it like that.
//!
//! <https://github.com/OpenObservability/OpenMetrics/blob/main/specification/OpenMetrics.md#text-format>

use std::collections::{BTreeMap, BTreeSet};

/// What one scrape said.
#[derive(Debug)]
pub struct Exposition {
    /// The families, by name.
    pub families: BTreeMap<String, Family>,
}

/// Metrics of one name.
#[derive(Debug)]
pub struct Family {
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: String,
    /// What it says that it counts.
    pub help: String,
    /// Series and values: the name, with its labels as they came.
    pub samples: Vec<(String, f64)>,
}

impl Exposition {
    /// Reads a scrape; panics where it breaks a rule of the format.
    #[track_caller]
    pub fn read(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("a scrape ends with `# EOF`");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        let mut seen = BTreeSet::new();
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let (keyword, rest) = comment.split_once(' ').unwrap();
                let (name, value) = rest.split_once(' ').unwrap();
                assert!(is_name(name), "no name: {line}");
                match keyword {
                    "HELP" => {
                        let value = value.to_owned();
                        let family =
                            Family { kind: String::new(), help: value, samples: Vec::new() };
                        let twice = families.insert(name.to_owned(), family);
                        assert!(twice.is_none(), "a family comes in one piece: {line}");
                        name.clone_into(&mut current);
                    }
                    "TYPE" => {
                        assert_eq!(name, current, "a type follows its help: {line}");
                        let kinds = ["counter", "gauge", "histogram", "info"];
                        assert!(kinds.contains(&value), "no type: {line}");
                        value.clone_into(&mut families.get_mut(name).unwrap().kind);
                    }
                    _ => panic!("neither help nor type: {line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(seen.insert(series.to_owned()), "a series comes once: {line}");
            let family = families.get_mut(&current).expect("a sample follows its help");
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(&current);
            let suffix = suffix.unwrap_or_else(|| panic!("not of `{current}`: {line}"));
            let allowed: &[&str] = match family.kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "info" => &["_info"],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => panic!("a sample without a type: {line}"),
            };
            assert!(allowed.contains(&suffix), "no sample of a {}: {line}", family.kind);
            assert!(family.kind == "gauge" || value >= 0.0, "it went backwards: {line}");
            check_labels(&series[name.len()..], line);
            family.samples.push((series.to_owned(), value));
        }
        let read = Self { families };
        for (name, family) in &read.families {
            assert!(!family.kind.is_empty() && !family.help.is_empty(), "{name} is not explained");
            if family.kind == "histogram" {
                check_buckets(family);
            }
        }
        read
    }

    /// The value of a series, written as it is exposed.
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        self.samples()
            .find(|(name, _)| name == series)
            .unwrap_or_else(|| panic!("there is no series {series}"))
            .1
    }

    /// All series and their values.
    pub fn samples(&self) -> impl Iterator<Item = &(String, f64)> {
        self.families.values().flat_map(|family| &family.samples)
    }

    /// The names of all series.
    pub fn series(&self) -> BTreeSet<&str> {
        self.samples().map(|(name, _)| name.as_str()).collect()
    }
}

fn is_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
}

#[track_caller]
fn check_labels(labels: &str, line: &str) {
    if labels.is_empty() {
        return;
    }
    let inside = labels.strip_prefix('{').and_then(|rest| rest.strip_suffix("\"}"));
    let inside = inside.unwrap_or_else(|| panic!("no labels: {line}"));
    for label in inside.split("\",") {
        let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
        assert!(is_name(name), "no label name: {line}");
        // None of our values needs to be escaped.
        assert!(!value.contains(['"', '\\']), "an odd label value: {line}");
    }
}

/// Buckets grow, and the last holds everything.
#[track_caller]
fn check_buckets(family: &Family) {
    let mut before: Option<(String, f64)> = None;
    for (series, value) in &family.samples {
        let Some((head, _)) = series.split_once("le=\"") else { continue };
        let of = format!("{head}{}", after_bound(series));
        if let Some((of_before, value_before)) = &before
            && *of_before == of
        {
            assert!(value >= value_before, "a smaller bucket holds more: {series}");
        }
        before = Some((of, *value));
    }
    let total = |part: &str| -> f64 {
        let of = family.samples.iter().filter(|(series, _)| series.contains(part));
        of.map(|(_, value)| value).sum()
    };
    let (counted, in_last) = (total("_count"), total("le=\"+Inf\""));
    assert!((counted - in_last).abs() < 0.5, "the last bucket holds everything");
}

fn after_bound(series: &str) -> &str {
    let bound = series.split_once("le=\"").map_or("", |(_, rest)| rest);
    bound.split_once('"').map_or("", |(_, rest)| rest)
}
