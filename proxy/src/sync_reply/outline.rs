//! Where the parts of a sync reply stand in it: found by going through its bytes once, in pieces of any size, so that each
//! part can be read by itself. Nothing is kept but places and the IDs of rooms.
//!
//! Values are skipped, not read: brackets are counted and texts are passed over. Whoever reads the parts finds what is no JSON
//! in one of them; what stands between them is checked here. So a reply is refused by both together exactly if it is
//! refused when it is read whole; and as there, of members with the same key the last one counts.

use serde_json::value::RawValue;
use store::Section;

use crate::json;

/// From one byte of a reply to before another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first byte.
    pub(crate) start: u64,
    /// The byte after the last one.
    pub(crate) end: u64,
}

impl Span {
    /// How many bytes it has.
    pub(crate) fn len(self) -> u64 {
        self.end - self.start
    }
}

/// Where a room stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoomPart {
    /// The section that lists it.
    pub(crate) section: Section,
    /// Its ID; `None` for one that is no text.
    pub(crate) room_id: Option<String>,
    /// What is said of it.
    pub(crate) span: Span,
}

/// Where the parts of a reply stand.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// The members of the reply but for `rooms`, from the key on.
    pub(crate) members: Vec<Span>,
    /// The rooms of the sections that we know, as they come.
    pub(crate) rooms: Vec<RoomPart>,
    /// Values that say nothing to us. They have to be JSON like the others.
    pub(crate) others: Vec<Span>,
}

/// What is no JSON object, or not the whole of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no JSON at byte {at}")]
pub(crate) struct Malformed {
    /// The first byte that cannot stand where it does, or that is missing.
    pub(crate) at: u64,
}

/// Goes through a reply.
#[derive(Debug)]
pub(crate) struct Scanner {
    outline: Outline,
    level: Level,
    expects: Expects,
    /// How many bytes it has seen.
    at: u64,
    /// The key of the member that it is in, as it is written.
    key: Vec<u8>,
    /// Where that began.
    key_start: u64,
    /// Where the value began that it is in.
    value_start: u64,
}

/// Which object it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Reply,
    Rooms,
    Section(Section),
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Expects {
    Reply,
    /// A key, or the end of an object that is empty.
    FirstKey,
    Key,
    RestOfKey {
        escaped: bool,
    },
    Colon,
    Value,
    /// The rest of a text, a list or an object.
    Rest(Nesting),
    /// The rest of any other value: up to what cannot belong to it.
    RestOfScalar,
    /// A comma, or the end of the object.
    Comma,
    /// The reply is over.
    Nothing,
}

/// Where in a value it is.
#[derive(Clone, Copy, Debug)]
struct Nesting {
    /// Brackets that are open.
    depth: u64,
    in_text: bool,
    escaped: bool,
}

impl Nesting {
    /// How many of the bytes belong to the value, and whether it ends with them.
    fn skip(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            if self.escaped {
                self.escaped = false;
                at += 1;
            } else if self.in_text {
                let rest = &bytes[at..];
                let Some(next) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
                    return (bytes.len(), false);
                };
                at += next + 1;
                if rest[next] == b'\\' {
                    self.escaped = true;
                } else {
                    self.in_text = false;
                    if self.depth == 0 {
                        return (at, true);
                    }
                }
            } else {
                let byte = bytes[at];
                at += 1;
                match byte {
                    b'"' => self.in_text = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => {
                        self.depth -= 1;
                        if self.depth == 0 {
                            return (at, true);
                        }
                    }
                    _ => {}
                }
            }
        }
        (at, false)
    }
}

impl Scanner {
    /// At the beginning of a reply.
    pub(crate) fn new() -> Self {
        Self {
            outline: Outline::default(),
            level: Level::Reply,
            expects: Expects::Reply,
            at: 0,
            key: Vec::new(),
            key_start: 0,
            value_start: 0,
        }
    }

    /// Goes on through the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.step(rest)?;
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// The reply is over: where everything stands in it.
    pub(crate) fn finish(self) -> Result<Outline, Malformed> {
        match self.expects {
            Expects::Nothing => Ok(self.outline),
            _ => Err(self.malformed()),
        }
    }

    fn malformed(&self) -> Malformed {
        Malformed { at: self.at }
    }

    /// Takes as much of the bytes, which are some, as has one meaning; gives how many those were. None, where another
    /// meaning begins.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let taken = match &mut self.expects {
            Expects::Rest(nesting) => {
                let (taken, ends) = nesting.skip(bytes);
                if ends {
                    self.value_ends(self.at + as_u64(taken));
                }
                taken
            }
            Expects::RestOfScalar => {
                let ends = bytes.iter().position(|byte| is_space(*byte) || b",]}".contains(byte));
                if ends.is_some() {
                    self.value_ends(self.at + as_u64(ends.unwrap_or_default()));
                }
                ends.unwrap_or(bytes.len())
            }
            Expects::RestOfKey { escaped } => {
                let byte = bytes[0];
                self.key.push(byte);
                match (std::mem::take(escaped), byte) {
                    (false, b'"') => self.key_ends()?,
                    (false, b'\\') => *escaped = true,
                    _ => {}
                }
                1
            }
            _ if is_space(bytes[0]) => 1,
            Expects::Value => self.value_begins(bytes[0])?,
            _ => {
                self.seam(bytes[0])?;
                1
            }
        };
        self.at += as_u64(taken);
        Ok(taken)
    }

    /// What stands between keys and values.
    fn seam(&mut self, byte: u8) -> Result<(), Malformed> {
        self.expects = match (self.expects, byte) {
            (Expects::Reply, b'{') => Expects::FirstKey,
            (Expects::FirstKey | Expects::Key, b'"') => {
                self.key.clear();
                self.key.push(byte);
                self.key_start = self.at;
                Expects::RestOfKey { escaped: false }
            }
            (Expects::Colon, b':') => Expects::Value,
            (Expects::Comma, b',') => Expects::Key,
            (Expects::FirstKey | Expects::Comma, b'}') => match self.level {
                Level::Section(_) => {
                    self.level = Level::Rooms;
                    Expects::Comma
                }
                Level::Rooms => {
                    self.level = Level::Reply;
                    Expects::Comma
                }
                Level::Reply => Expects::Nothing,
            },
            _ => return Err(self.malformed()),
        };
        Ok(())
    }

    fn key_ends(&mut self) -> Result<(), Malformed> {
        // Read here, because keys are read nowhere else.
        if serde_json::from_slice::<&RawValue>(&self.key).is_err() {
            return Err(Malformed { at: self.key_start });
        }
        self.expects = Expects::Colon;
        Ok(())
    }

    /// The text of the key; `None` for one that Unicode cannot hold.
    fn key_text(&self) -> Option<String> {
        let key: &RawValue = serde_json::from_slice(&self.key).ok()?;
        json::text(key).map(std::borrow::Cow::into_owned)
    }

    fn value_begins(&mut self, byte: u8) -> Result<usize, Malformed> {
        if let Some(inner) = self.inner() {
            self.forget(inner);
            if byte == b'{' {
                self.level = inner;
                self.expects = Expects::FirstKey;
                return Ok(1);
            }
        }
        self.value_start = self.at;
        let nesting = |depth, in_text| Nesting { depth, in_text, escaped: false };
        self.expects = match byte {
            b'{' | b'[' => Expects::Rest(nesting(1, false)),
            b'"' => Expects::Rest(nesting(0, true)),
            b',' | b':' | b']' | b'}' => return Err(self.malformed()),
            _ => Expects::RestOfScalar,
        };
        Ok(1)
    }

    /// Which object the member that it is in would be, if it is one that we look into.
    fn inner(&self) -> Option<Level> {
        let name = match self.level {
            Level::Section(_) => return None,
            Level::Reply | Level::Rooms => self.key_text()?,
        };
        match (self.level, name.as_str()) {
            (Level::Reply, "rooms") => Some(Level::Rooms),
            (Level::Rooms, "join") => Some(Level::Section(Section::Join)),
            (Level::Rooms, "leave") => Some(Level::Section(Section::Leave)),
            (Level::Rooms, "invite") => Some(Level::Section(Section::Invite)),
            (Level::Rooms, "knock") => Some(Level::Section(Section::Knock)),
            _ => None,
        }
    }

    /// The object comes once more: what was in it before does not count.
    fn forget(&mut self, level: Level) {
        let goes = |room: &RoomPart| level == Level::Rooms || level == Level::Section(room.section);
        let others = &mut self.outline.others;
        self.outline.rooms.retain(|room| {
            let goes = goes(room);
            if goes {
                others.push(room.span);
            }
            !goes
        });
    }

    fn value_ends(&mut self, end: u64) {
        let span = Span { start: self.value_start, end };
        match self.level {
            Level::Reply => self.outline.members.push(Span { start: self.key_start, end }),
            Level::Rooms => self.outline.others.push(span),
            Level::Section(section) => {
                let room_id = self.key_text();
                self.outline.rooms.push(RoomPart { section, room_id, span });
            }
        }
        self.expects = Expects::Comma;
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of a reply that comes in pieces of this size, as text.
    fn parts(reply: &str, piece: usize) -> Result<Vec<String>, Malformed> {
        let mut scanner = Scanner::new();
        for piece in reply.as_bytes().chunks(piece) {
            scanner.feed(piece)?;
        }
        let outline = scanner.finish()?;
        let text = |span: Span| {
            let at = |place| usize::try_from(place).expect("a small reply");
            reply[at(span.start)..at(span.end)].to_owned()
        };
        let mut parts: Vec<String> = outline.members.into_iter().map(text).collect();
        for room in outline.rooms {
            let room_id = room.room_id.as_deref().unwrap_or("?").to_owned();
            parts.push(format!("{:?} {room_id} {}", room.section, text(room.span)));
        }
        parts.extend(outline.others.into_iter().map(|span| format!("other {}", text(span))));
        Ok(parts)
    }

    #[track_caller]
    fn check(reply: &str, expected: &[&str]) {
        for piece in [1, 2, 3, 7, reply.len().max(1)] {
            assert_eq!(parts(reply, piece).expect("a reply"), expected, "in pieces of {piece}");
        }
    }

    #[track_caller]
    fn check_malformed(reply: &str, at: u64) {
        for piece in [1, 5, reply.len().max(1)] {
            assert_eq!(parts(reply, piece), Err(Malformed { at }), "{reply} in pieces of {piece}");
        }
    }

    #[test]
    fn parts_are_found_wherever_they_stand() {
        check("{}", &[]);
        check(
            r#" { "rooms" : { "leave":{"!b":[1] , "!a":{"x":{}}}, "join" : {} } , "next_batch" : "s1" } "#,
            &[r#""next_batch" : "s1""#, "Leave !b [1]", r#"Leave !a {"x":{}}"#],
        );
        check(
            r#"{"a":"}\"{","b":-1.5e3,"c":null,"d":["]"],"e":true}"#,
            &[r#""a":"}\"{""#, r#""b":-1.5e3"#, r#""c":null"#, r#""d":["]"]"#, r#""e":true"#],
        );
    }

    #[test]
    fn keys_may_be_escaped() {
        check(
            r#"{"\u0072ooms":{"jo\u0069n":{"!\"a\\":1,"\ud800":2}}}"#,
            &[r#"Join !"a\ 1"#, "Join ? 2"],
        );
    }

    #[test]
    fn what_has_another_shape_is_no_room() {
        check(
            r#"{"rooms":{"join":[{"!a":1}],"peek":{"!b":2}},"join":{"!c":3}}"#,
            &[r#""join":{"!c":3}"#, r#"other [{"!a":1}]"#, r#"other {"!b":2}"#],
        );
        check(r#"{"rooms":7}"#, &[r#""rooms":7"#]);
    }

    #[test]
    fn of_members_with_the_same_key_the_last_counts() {
        check(
            r#"{"rooms":{"join":{"!a":1,"!a":2},"leave":{"!b":3},"join":{"!c":4}}}"#,
            &["Leave !b 3", "Join !c 4", "other 1", "other 2"],
        );
        check(
            r#"{"rooms":{"join":{"!a":1}},"rooms":{"leave":{"!b":2}}}"#,
            &["Leave !b 2", "other 1"],
        );
        check(r#"{"rooms":{"join":{"!a":1}},"rooms":0}"#, &[r#""rooms":0"#, "other 1"]);
    }

    #[test]
    fn what_is_cut_off_or_goes_on_is_no_reply() {
        check_malformed("", 0);
        check_malformed("<html>", 0);
        check_malformed("[]", 0);
        check_malformed("{", 1);
        check_malformed(r#"{"a":1"#, 6);
        check_malformed(r#"{"rooms":{"join":{"!a":{"x":"#, 28);
        check_malformed(r#"{"rooms":{"join":{"!a":{}}}"#, 27);
        check_malformed("{} {}", 3);
        check_malformed(r#"{"a":}"#, 5);
        check_malformed(r#"{"a":1,}"#, 7);
        check_malformed(r#"{,"a":1}"#, 1);
        check_malformed(r#"{"a" 1}"#, 5);
        check_malformed(r#"{"a":1 2}"#, 7);
        check_malformed(r#"{"a":1]"#, 6);
        check_malformed(r#"{"\x":1}"#, 1);
        check_malformed("{a:1}", 1);
    }

    /// What is no JSON inside of a part is found when that is read.
    #[test]
    fn brackets_that_do_not_match_stay_in_their_part() {
        check(r#"{"a":[},"b":1}"#, &[r#""a":[}"#, r#""b":1"#]);
    }
}
