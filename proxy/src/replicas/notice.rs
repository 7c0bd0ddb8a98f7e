//! What replicas tell each other, and how it is written.
//!
//! A notice goes to every replica at once, over a channel of the database. It is short, it says no secret (a token only by
//! its keyed hash), and losing it loses nothing that is not found in the store in a moment. It must not know who tells it
//! when, nor what it does to whoever hears it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use store::{AccountId, DeviceNid, InboxSeq, Position, ReplicaId, RoomNid};

use crate::{
    account::{Failure, KeyCounts, PresenceWish},
    secret::TokenHash,
    upstream::OnBehalfOf,
};

/// What Postgres takes: less than 8,000 bytes. What is longer is not told, and is found in the store instead.
const MOST_BYTES: usize = 7_900;

/// Something that other replicas ought to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Notice {
    /// Whoever tells it has just come.
    Joined {},

    // From the one that polls for an account.
    /// A poll is stored.
    Advanced {
        account: Nid,
        pos: Nid,
        /// The user ignores others than before.
        #[serde(default, skip_serializing_if = "is_false")]
        ignored: bool,
    },
    /// A first poll failed; without a failure another one is under way.
    FirstPoll {
        account: Nid,
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<Told>,
    },
    /// Upstream refuses to sync with the user; without a failure it does so no longer.
    Refusal {
        account: Nid,
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<Told>,
    },
    /// What was demanded is stored, or not to be had at the moment.
    Covered { to: i32, account: Nid, device: Nid, writes: u64, stored: bool },
    /// Upstream has accepted a token in a poll.
    Accepted { token: Hash },

    // To the one that polls for an account.
    /// A client uses a device. With a token where that may be a new one.
    Uses {
        account: Nid,
        device: Nid,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<Hash>,
        #[serde(skip_serializing_if = "Option::is_none")]
        presence: Option<(Presence, u64)>,
        /// Its address and the name of its program.
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<(Option<String>, Option<String>)>,
    },
    /// A sync waits for a poll that begins after this.
    Demands {
        account: Nid,
        device: Nid,
        writes: u64,
        /// And for what polls have left to be done.
        #[serde(default, skip_serializing_if = "is_false")]
        upkeep: bool,
        /// And cannot be answered without it, however long others have waited in vain.
        #[serde(default, skip_serializing_if = "is_false")]
        patient: bool,
    },

    // From whoever a client spoke to.
    /// The account's next sync has to show a write.
    Wrote { account: Nid },
    /// So do those of these users, whose keys were claimed.
    Claimed { users: Vec<String> },
    /// What a device has beside the account: its last to-device message, and its keys if they changed.
    Device {
        account: Nid,
        device: Nid,
        inbox: Nid,
        #[serde(skip_serializing_if = "Option::is_none")]
        keys: Option<(String, String)>,
    },
    /// The user's presence was set outright.
    Presence { account: Nid, device: Nid, presence: Presence },
    /// A room is forgotten.
    RoomForgotten { account: Nid, room: Nid },
    /// An event is on its way to upstream.
    Sending { account: Nid, device: Nid, number: u64 },
    /// It has arrived there, and its transaction ID is kept.
    Sent { number: u64 },
    /// A device is logged out.
    LoggedOut { account: Nid, device: Nid },
    /// A user is gone for good.
    Forgotten { account: Nid },
    /// The tokens of an account may be dead, but for those of one device.
    Doubted {
        account: Nid,
        #[serde(skip_serializing_if = "Option::is_none")]
        but: Option<Nid>,
    },
    /// Somebody signed in: the tokens that the device had may be dead.
    SignedIn { user: String, device: String },
    /// Upstream refused a token.
    TokenRefused { account: Nid, device: Nid, token: Hash },
    /// A device syncs with the homeserver in a way of the homeserver's own.
    SyncsElsewhere { account: Nid, device: Nid },
}

/// A number of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Nid(pub(crate) i64);

/// A presence by the name that the specification has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Presence {
    Offline,
    Unavailable,
    Online,
}

/// A token, by its keyed hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hash(pub(crate) TokenHash);

/// A [`Failure`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    Unreachable,
    Timeout,
    Answer(u16, String),
}

impl Notice {
    /// As it is sent. `None` where that is too long.
    pub(super) fn write(&self, from: ReplicaId) -> Option<String> {
        let text = serde_json::to_string(&(from.0, self)).ok()?;
        (text.len() < MOST_BYTES).then_some(text)
    }

    /// What was sent, and by whom.
    pub(super) fn read(text: &str) -> Result<(ReplicaId, Self), serde_json::Error> {
        let (from, notice) = serde_json::from_str(text)?;
        Ok((ReplicaId(from), notice))
    }

    /// What a poll brought for a device. Keys whose counts are too long to be told are found in the store.
    pub(crate) fn device(
        account: AccountId,
        device: DeviceNid,
        inbox: InboxSeq,
        keys: Option<&KeyCounts>,
    ) -> Self {
        let text = |json: &Bytes| String::from_utf8(json.to_vec()).ok();
        let keys = keys.and_then(|keys| {
            Some((text(&keys.one_time_keys_count)?, text(&keys.unused_fallback_key_types)?))
        });
        let keys = keys.filter(|(counts, types)| counts.len() + types.len() < MOST_BYTES / 2);
        Self::Device { account: account.into(), device: device.into(), inbox: inbox.into(), keys }
    }

    /// Users whose keys were claimed, as many notices as that takes.
    pub(crate) fn claimed(users: &[String]) -> Vec<Self> {
        let mut notices: Vec<Vec<String>> = Vec::new();
        let mut bytes = usize::MAX;
        for user_id in users.iter().filter(|user_id| user_id.len() < MOST_BYTES / 4) {
            // The quotes and a comma; what JSON escapes is rare, and what it makes too long is not told.
            let more = user_id.len() + 3;
            match notices.last_mut() {
                Some(last) if bytes + more < MOST_BYTES / 2 => {
                    last.push(user_id.clone());
                    bytes += more;
                }
                _ => {
                    notices.push(vec![user_id.clone()]);
                    bytes = more;
                }
            }
        }
        notices.into_iter().map(|users| Self::Claimed { users }).collect()
    }
}

impl Told {
    /// An answer of the homeserver that is too long to be told keeps its status.
    pub(crate) fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Unreachable => Self::Unreachable,
            Failure::Timeout => Self::Timeout,
            Failure::Answer(status, body) => {
                let body = String::from_utf8(body.to_vec()).ok();
                let short = body.filter(|body| body.len() < MOST_BYTES / 3);
                let body = short.unwrap_or_else(|| {
                    String::from(
                        r#"{"errcode":"M_UNKNOWN","error":"The homeserver refuses to sync"}"#,
                    )
                });
                Self::Answer(*status, body)
            }
        }
    }
}

impl From<Told> for Failure {
    fn from(told: Told) -> Self {
        match told {
            Told::Unreachable => Self::Unreachable,
            Told::Timeout => Self::Timeout,
            // No poller tells one: whoever says this is none of us, and a 401 is upstream's alone.
            Told::Answer(401, _) => Self::Unreachable,
            Told::Answer(status, body) => Self::Answer(status, Bytes::from(body)),
        }
    }
}

impl From<PresenceWish> for Presence {
    fn from(wish: PresenceWish) -> Self {
        match wish {
            PresenceWish::Offline => Self::Offline,
            PresenceWish::Unavailable => Self::Unavailable,
            PresenceWish::Online => Self::Online,
        }
    }
}

impl From<Presence> for PresenceWish {
    fn from(presence: Presence) -> Self {
        match presence {
            Presence::Offline => Self::Offline,
            Presence::Unavailable => Self::Unavailable,
            Presence::Online => Self::Online,
        }
    }
}

macro_rules! numbers {
    ($($name:ident),*) => {
        $(impl From<$name> for Nid {
            fn from(id: $name) -> Self {
                Self(id.0)
            }
        }

        impl From<Nid> for $name {
            fn from(nid: Nid) -> Self {
                Self(nid.0)
            }
        })*
    };
}

numbers!(AccountId, DeviceNid, InboxSeq, Position, RoomNid);

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(de::Error::custom)?;
        let hash = bytes.try_into().map_err(|_| de::Error::custom("not the length of a hash"))?;
        Ok(Self(TokenHash(hash)))
    }
}

/// A client as other replicas are told of it.
pub(crate) fn client(of: &OnBehalfOf) -> Option<(Option<String>, Option<String>)> {
    let (address, program) = of.texts();
    let short = |text: Option<String>| text.filter(|text| text.len() < MOST_BYTES / 8);
    (*of != OnBehalfOf::default()).then(|| (short(address), short(program)))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "this is how serde asks")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: ReplicaId = ReplicaId(3);

    #[track_caller]
    fn check(notice: &Notice, expected: &str) {
        let written = notice.write(FROM).expect("it is short");
        assert_eq!(written, expected);
        let (from, read) = Notice::read(&written).expect("it was written here");
        assert_eq!((from, &read), (FROM, notice));
    }

    #[test]
    fn notices_round_trip() {
        let (account, device) = (Nid(7), Nid(8));
        check(&Notice::Joined {}, r#"[3,{"joined":{}}]"#);
        check(
            &Notice::Advanced { account, pos: Nid(9), ignored: false },
            r#"[3,{"advanced":{"account":7,"pos":9}}]"#,
        );
        check(
            &Notice::Advanced { account, pos: Nid(9), ignored: true },
            r#"[3,{"advanced":{"account":7,"pos":9,"ignored":true}}]"#,
        );
        let body = Bytes::from_static(br#"{"errcode":"M_FORBIDDEN"}"#);
        let failure = Some(Told::of(&Failure::Answer(403, body)));
        check(
            &Notice::Refusal { account, failure },
            r#"[3,{"refusal":{"account":7,"failure":{"answer":[403,"{\"errcode\":\"M_FORBIDDEN\"}"]}}}]"#,
        );
        check(
            &Notice::FirstPoll { account, failure: Some(Told::Timeout) },
            r#"[3,{"first_poll":{"account":7,"failure":"timeout"}}]"#,
        );
        check(&Notice::FirstPoll { account, failure: None }, r#"[3,{"first_poll":{"account":7}}]"#);
        check(
            &Notice::Covered { to: 4, account, device, writes: 5, stored: true },
            r#"[3,{"covered":{"to":4,"account":7,"device":8,"writes":5,"stored":true}}]"#,
        );
        let token = Hash(TokenHash([255; 32]));
        check(
            &Notice::Accepted { token: token.clone() },
            r#"[3,{"accepted":{"token":"__________________________________________8"}}]"#,
        );
        check(
            &Notice::Uses {
                account,
                device,
                token: Some(token),
                presence: Some((Presence::Online, 40_000)),
                client: Some((Some(String::from("192.0.2.7")), None)),
            },
            r#"[3,{"uses":{"account":7,"device":8,"token":"__________________________________________8","presence":["online",40000],"client":["192.0.2.7",null]}}]"#,
        );
        check(
            &Notice::Demands { account, device, writes: 5, upkeep: false, patient: false },
            r#"[3,{"demands":{"account":7,"device":8,"writes":5}}]"#,
        );
        let keys = KeyCounts {
            one_time_keys_count: Bytes::from_static(br#"{"a":1}"#),
            unused_fallback_key_types: Bytes::from_static(b"[]"),
        };
        check(
            &Notice::device(AccountId(7), DeviceNid(8), InboxSeq(9), Some(&keys)),
            r#"[3,{"device":{"account":7,"device":8,"inbox":9,"keys":["{\"a\":1}","[]"]}}]"#,
        );
        check(
            &Notice::SignedIn { user: String::from("@a:b"), device: String::from("D \"1\"") },
            r#"[3,{"signed_in":{"user":"@a:b","device":"D \"1\""}}]"#,
        );
    }

    #[test]
    fn what_is_none_is_refused() {
        for garbage in [
            "",
            "hello",
            "[]",
            "[3]",
            "{}",
            r#"[3,"advanced"]"#,
            r#"[3,{"advanced":{"account":7}}]"#,
            r#"[3,{"advanced":{"account":"7","pos":9}}]"#,
            r#"[3,{"advanced":{"account":7,"pos":9}},5]"#,
            r#"[3,{"accepted":{"token":"short"}}]"#,
            r#"[3,{"accepted":{"token":"***"}}]"#,
            r#"[3,{"from_a_later_version":{}}]"#,
            r#"[99999999999,{"joined":{}}]"#,
        ] {
            assert!(Notice::read(garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn what_is_too_long_is_shortened_or_not_told() {
        let long = Bytes::from(format!(r#"{{"error":"{}"}}"#, "x".repeat(MOST_BYTES)));
        let told = Told::of(&Failure::Answer(403, long.clone()));
        assert!(matches!(&told, Told::Answer(403, body) if body.len() < 100), "{told:?}");
        let keys = KeyCounts { one_time_keys_count: long, unused_fallback_key_types: Bytes::new() };
        let device = Notice::device(AccountId(7), DeviceNid(8), InboxSeq(9), Some(&keys));
        assert!(matches!(device, Notice::Device { keys: None, .. }));
        let user = "x".repeat(MOST_BYTES);
        assert_eq!(Notice::SignedIn { user, device: String::new() }.write(FROM), None);
    }

    #[test]
    fn no_notice_makes_a_401() {
        let body = r#"{"errcode":"M_UNKNOWN_TOKEN"}"#;
        let heard = Failure::from(Told::Answer(401, body.to_owned()));
        assert!(matches!(heard, Failure::Unreachable), "{heard:?}");
    }

    #[test]
    fn many_users_are_many_notices() {
        let users: Vec<String> =
            (0..1000).map(|number| format!("@user-{number}:example.org")).collect();
        let notices = Notice::claimed(&users);
        assert!(notices.len() > 1 && notices.iter().all(|notice| notice.write(FROM).is_some()));
        let told: Vec<&String> = notices
            .iter()
            .flat_map(|notice| match notice {
                Notice::Claimed { users } => users.as_slice(),
                _ => &[],
            })
            .collect();
        assert_eq!(told, users.iter().collect::<Vec<_>>());
        assert!(Notice::claimed(&[]).is_empty());
    }
}
