//! A homeserver that costs next to nothing: accounts in shared rooms, where somebody speaks when the driver says so, and
//! accounts of any size, whose first reply is made as it is sent.
//!
//! It runs in a thread of its own, whose processor time it tells. An account's stream is a list of events; a token is how
//! many of them are behind it, and asking with it acknowledges them. Events are text, made once and put into replies as
//! they are.

mod large;
mod observed;
mod replies;
mod serve;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use self::large::Large;
pub use self::observed::{FirstReply, Polls};

use self::observed::Observed;
use super::machine;

/// Those of a room who speak, and whose membership everybody knows.
const SPEAKERS: usize = 5;

/// A running homeserver. Its thread lives as long as the process.
#[derive(Debug, Clone)]
pub struct Homeserver {
    port: u16,
    thread: u32,
    world: Arc<World>,
}

#[derive(Debug)]
struct World {
    accounts: Vec<Account>,
    /// The accounts in each shared room.
    rooms: Vec<Vec<usize>>,
    /// When each event happened, by its number.
    happened: Mutex<Vec<Instant>>,
    observed: Observed,
}

#[derive(Debug)]
struct Account {
    stream: Mutex<Stream>,
    /// How many events have come, for those who wait.
    length: watch::Sender<usize>,
    /// How large it is, if it has rooms of its own.
    large: Option<Large>,
    first: Mutex<FirstReply>,
}

#[derive(Debug, Default)]
struct Stream {
    /// Those that are not acknowledged yet, with their rooms.
    events: VecDeque<(usize, Arc<str>)>,
    /// How many are acknowledged.
    acknowledged: usize,
}

impl Homeserver {
    /// So many accounts in so many rooms, each room with so many of them.
    pub fn start(accounts: usize, rooms: usize, members: usize) -> Self {
        let in_room = |room: usize| {
            let first = room * accounts / rooms;
            (0..members).map(|member| (first + member) % accounts).collect()
        };
        Self::with_rooms(accounts, (0..rooms).map(in_room).collect())
    }

    /// So many accounts in these rooms, each the list of those who are in it.
    pub fn with_rooms(accounts: usize, rooms: Vec<Vec<usize>>) -> Self {
        Self::of((0..accounts).map(|_| Account::of(None)).collect(), rooms)
    }

    /// An account for each, with rooms that no other is in.
    pub fn with_large(large: &[Large]) -> Self {
        Self::of(large.iter().map(|large| Account::of(Some(*large))).collect(), Vec::new())
    }

    fn of(accounts: Vec<Account>, rooms: Vec<Vec<usize>>) -> Self {
        let world = Arc::new(World {
            accounts,
            rooms,
            happened: Mutex::default(),
            observed: Observed::default(),
        });
        let (port, thread) = serve::start(Arc::clone(&world));
        Self { port, thread, world }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The access token of an account.
    pub fn token(account: usize) -> String {
        format!("token{account}")
    }

    /// Somebody speaks in a room.
    pub fn somebody_speaks(&self, room: usize) {
        let members = &self.world.rooms[room];
        let number = {
            let mut happened = self.world.happened.lock().unwrap();
            happened.push(Instant::now());
            happened.len() - 1
        };
        let speaker = members[number % members.len().min(SPEAKERS)];
        let event: Arc<str> = replies::message(room, number, speaker);
        for member in members {
            let account = &self.world.accounts[*member];
            account.stream.lock().unwrap().events.push_back((room, Arc::clone(&event)));
            account.length.send_modify(|length| *length += 1);
        }
    }

    /// How many shared rooms there are.
    pub fn rooms(&self) -> usize {
        self.world.rooms.len()
    }

    /// How long ago an event happened.
    pub fn age(&self, event: usize) -> Duration {
        self.world.happened.lock().unwrap()[event].elapsed()
    }

    /// How many events an account is told of.
    pub fn told(&self, account: usize) -> usize {
        *self.world.accounts[account].length.borrow()
    }

    /// The same of all accounts together.
    pub fn told_all(&self) -> usize {
        (0..self.world.accounts.len()).map(|account| self.told(account)).sum()
    }

    /// How many events of all accounts no poll has acknowledged: stored events are, with the next poll.
    pub fn backlog(&self) -> usize {
        let waiting = |account: &Account| account.stream.lock().unwrap().events.len();
        self.world.accounts.iter().map(waiting).sum()
    }

    /// What became of an account's first reply.
    pub fn first_reply(&self, account: usize) -> FirstReply {
        *self.world.accounts[account].first.lock().unwrap()
    }

    /// How it was polled since the beginning, or since [`Homeserver::forget_polls`].
    pub fn polls(&self) -> Polls {
        self.world.observed.polls()
    }

    /// Polls are noted anew from now on.
    pub fn forget_polls(&self) {
        self.world.observed.forget();
    }

    /// Seconds of processor time that it has taken.
    pub fn processor_time(&self) -> f64 {
        machine::thread_time(self.thread)
    }
}

impl Account {
    fn of(large: Option<Large>) -> Self {
        Self {
            stream: Mutex::default(),
            length: watch::Sender::new(0),
            large,
            first: Mutex::default(),
        }
    }
}

impl Stream {
    fn acknowledge(&mut self, since: usize) {
        while self.acknowledged < since && self.events.pop_front().is_some() {
            self.acknowledged += 1;
        }
    }
}

fn user(number: usize) -> String {
    format!("@user{number:06}:load")
}
