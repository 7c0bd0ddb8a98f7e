//! The values that labels can have. Each set is closed: whatever comes from outside is put into one of them, so that nobody
//! can add a series by asking for something odd. No user, room, device, path or token is ever a label.

use std::fmt::Debug;

/// A label's closed set of values.
pub(crate) trait Label: Copy + Debug + 'static {
    /// All of them, in the order of their numbers.
    const ALL: &'static [Self];
    /// As it is exposed.
    fn text(self) -> &'static str;
    /// Its place in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $text:literal,)+ })+) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$doc])* $value,)+ }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            fn text(self) -> &'static str {
                match self { $(Self::$value => $text,)+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    )+};
}

labels! {
    /// Which of the two syncs.
    Api {
        /// `GET /sync`.
        V2 = "v2",
        /// `POST /sync`.
        V3 = "v3",
    }

    /// What a request is for.
    Kind {
        /// `GET /sync` without a `since`.
        V2Initial = "v2_initial",
        /// `GET /sync` with a `since`.
        V2Incremental = "v2_incremental",
        /// `POST /sync` without a `since`.
        V3First = "v3_first",
        /// `POST /sync` with a `since`.
        V3 = "v3",
        /// A login, a registration, or what tells clients where the homeserver is.
        Login = "login",
        /// What ends sessions: a logout, a deleted device, another password.
        Ending = "ending",
        /// What may change an account's next sync.
        Write = "write",
        /// Pages of `/messages` and `/relations`.
        Messages = "messages",
        /// `/members`.
        Members = "members",
        /// `/keys/changes` and `/keys/claim`.
        Keys = "keys",
        /// `/versions` and `/capabilities`.
        Versions = "versions",
        /// The homeserver's own sliding sync.
        SlidingSync = "sliding_sync",
        /// All else that the homeserver answers.
        PassThrough = "passthrough",
        /// What is answered here and asks for nothing: pings, preflights, paths that are not forwarded.
        Other = "other",
    }

    /// How a request ended.
    Status {
        /// 1xx.
        Informational = "1xx",
        /// 2xx.
        Success = "2xx",
        /// 3xx.
        Redirection = "3xx",
        /// 4xx.
        ClientError = "4xx",
        /// 5xx.
        ServerError = "5xx",
    }

    /// Which poll.
    PollKind {
        /// The main poll of an account.
        Main = "main",
        /// The same, of an account of which nothing is stored yet.
        First = "first",
        /// The poll of another device's inbox and keys.
        Light = "light",
    }

    /// What became of a poll.
    PollOutcome {
        /// What it brought is stored.
        Stored = "stored",
        /// It was given up for another question.
        GivenUp = "given_up",
        /// The homeserver refused the token, or has locked the account.
        Refused = "refused",
        /// It is tried again: no answer, none that can be read, or none that could be stored.
        Failed = "failed",
    }

    /// What a poller does.
    Activity {
        /// It polls.
        Polling = "polling",
        /// Nothing is stored of its account yet: the first poll is under way or stands in line, which may take minutes.
        Beginning = "beginning",
        /// Its last poll failed.
        Failing = "failing",
        /// The homeserver serves its user no sync: consent is missing, the account is deactivated, ….
        TurnedAway = "turned_away",
        /// Nobody uses its device.
        Resting = "resting",
        /// It waits for a client to bring a token.
        WithoutToken = "without_token",
    }

    /// A request to the homeserver.
    Call {
        /// `GET /sync`, of pollers.
        Poll = "poll",
        /// `GET /sync` beside the polls.
        Sync = "sync",
        /// `GET /account/whoami`.
        Whoami = "whoami",
        /// `GET /rooms/{roomId}/members`.
        Members = "members",
        /// `GET /rooms/{roomId}/messages`.
        Messages = "messages",
        /// Any other question of ours.
        Other = "other",
        /// A request of a client, passed on.
        Forwarded = "forwarded",
    }

    /// What became of a request to the homeserver.
    CallOutcome {
        /// It was granted.
        Granted = "granted",
        /// It was refused: 4xx.
        Refused = "refused",
        /// Too many of them: 429.
        Limited = "limited",
        /// The homeserver, or what stands before it, failed: 5xx.
        Failed = "failed",
        /// No answer in time.
        Timeout = "timeout",
        /// No connection, or it broke.
        Unreachable = "unreachable",
        /// An answer that the endpoint cannot have sent.
        Unreadable = "unreadable",
    }

    /// Something that is kept in memory to save work.
    Cache {
        /// Whose a token is.
        Tokens = "tokens",
        /// Filters by ID.
        Filters = "filters",
        /// The rooms of an account in order.
        RoomIndex = "room_index",
        /// The numbers of rooms.
        RoomIds = "room_ids",
        /// Which members a client was told of.
        Members = "members",
    }

    /// Where a waiting client finds what polls brought.
    Source {
        /// In memory: nothing was asked of the database.
        Memory = "memory",
        /// In memory, but for some of it.
        Both = "both",
        /// In the database.
        Store = "store",
    }

    /// Whether a cache had what was asked for.
    Lookup {
        /// It had.
        Hit = "hit",
        /// It had not.
        Miss = "miss",
    }
}

impl Status {
    /// The class of a status.
    pub(crate) fn of(status: hyper::StatusCode) -> Self {
        match status.as_u16() {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

impl CallOutcome {
    /// What a status says.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            429 => Self::Limited,
            400..500 => Self::Refused,
            500.. => Self::Failed,
            _ => Self::Granted,
        }
    }

    /// What a failure of ours to get an answer says.
    pub(crate) fn of_failure(error: &crate::upstream::Error) -> Self {
        use crate::upstream::Error;
        match error {
            Error::Transport(_) => Self::Unreachable,
            Error::Timeout => Self::Timeout,
            Error::Matrix { status, .. } | Error::Status { status, .. } => Self::of_status(*status),
            Error::InvalidBody
            | Error::BrokenBody
            | Error::TooLarge { .. }
            | Error::Unsendable { .. } => Self::Unreadable,
        }
    }

    /// Whether there was a homeserver that answered.
    pub(crate) fn is_answer(self) -> bool {
        matches!(self, Self::Granted | Self::Refused | Self::Limited)
    }
}
