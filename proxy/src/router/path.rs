//! Paths, as the servers on the way to the homeserver may read them.
//!
//! Neighbours: `router` alone. Servers differ in when they decode and what they merge: each of the two readings here is
//! that of some of them.

use percent_encoding::percent_decode_str;

/// A path as a list of decoded segments: slashes merged, dots resolved, no slash at the end.
pub(super) struct Path {
    segments: Vec<String>,
    absolute: bool,
}

impl Path {
    /// The reading of homeservers: an encoded slash belongs to its segment.
    pub(super) fn split_then_decode(raw: &str) -> Self {
        Self::from_segments(raw, raw.split('/').map(decode))
    }

    /// The reading of reverse proxies that decode first: an encoded slash is a slash.
    pub(super) fn decode_then_split(raw: &str) -> Self {
        Self::from_segments(raw, decode(raw).split('/').map(str::to_owned))
    }

    fn from_segments(raw: &str, parts: impl Iterator<Item = String>) -> Self {
        let mut segments = Vec::new();
        for part in parts {
            match part.as_str() {
                "" | "." => {}
                ".." => {
                    segments.pop();
                }
                _ => segments.push(part),
            }
        }
        Self { segments, absolute: raw.starts_with('/') }
    }

    /// The segments.
    pub(super) fn segments(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// Whether it is a path at all, and not the `*` or `host:port` that some methods have in its place.
    pub(super) fn is_absolute(&self) -> bool {
        self.absolute
    }

    /// Whether somebody could take it for the homeserver's sync.
    pub(super) fn is_sync(&self) -> bool {
        matches!(
            self.segments().as_slice(),
            ["_matrix", "client", "r0" | "v1" | "v2_alpha" | "v3" | "unstable", "sync"]
                | ["_matrix", "client", "api", "v1", "sync"]
        )
    }
}

/// The version, if the path is a sync path that is spelt as it should be. Homeservers serve the unstable one too.
pub(super) fn exact(raw: &str) -> Option<&str> {
    let version = raw.strip_prefix("/_matrix/client/")?.strip_suffix("/sync")?;
    matches!(version, "r0" | "v3" | "unstable").then_some(version)
}

/// What follows the version in a client path. Homeservers serve old endpoints under all of these.
pub(super) fn without_version<'a, 'b>(segments: &'a [&'b str]) -> &'a [&'b str] {
    match segments {
        ["r0" | "v1" | "v3" | "unstable", rest @ ..] | ["api", "v1", rest @ ..] => rest,
        _ => &[],
    }
}

/// What does not decode to text is no name that we look for; it must only not become one by being left out.
fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}
