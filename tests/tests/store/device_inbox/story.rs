//! The inbox in random stories: messages arrive by main and light polls while the device hands the main poll over and takes it
//! back; sessions are born, read, lose replies, go on from old tokens, acknowledge, all at once too, and die of age or of being
//! one too many; and so does v2.
//!
//! What must hold: whoever lives reads every message once and in order, unless it goes back itself; what somebody living has
//! yet to acknowledge is held; and what all have acknowledged is gone.
//!
//! `TEST_SEEDS=500` plays so many stories, `TEST_SEED=17` that one.

use futures_util::future::join_all;
use store::{AccountId, DeviceNid, Error, InboxSeq, Poll, SessionId, Store};
use tests::random::{Random, seeds};

use crate::database::fresh_store;
use crate::polls::{light, to_device};

/// How many stories an ordinary run plays, and how long each is.
const SEEDS: u64 = 12;
const STEPS: usize = 120;

/// How long a session lives without being used, and how many a device has.
const EXPIRY: i64 = 1_000;
const MOST: usize = 4;

/// Somebody who reads the inbox: a session of v3, or v2 as a whole.
#[derive(Debug, Clone)]
struct Listener {
    /// `None`: v2.
    session: Option<SessionId>,
    /// The tokens that it holds, by what they cover; the last is the newest.
    tokens: Vec<i64>,
    /// Everything up to here it has acknowledged, or never had a right to.
    acked: i64,
    used_at: i64,
}

struct Story {
    random: Random,
    store: Store,
    account: AccountId,
    /// The device whose inbox it is, and another one.
    devices: [DeviceNid; 2],
    runs_main: usize,
    main_since: Option<String>,
    light_since: Option<String>,
    polls: u64,
    arrived: i64,
    now: i64,
    listeners: Vec<Listener>,
    /// Somebody deletes a message that nobody has read yet: the test of the test.
    thief: bool,
}

type Outcome = Result<(), String>;

#[tokio::test]
async fn nothing_is_lost_or_doubled_and_everything_ends() {
    let store = fresh_store().await;
    for seed in seeds(SEEDS) {
        let outcome = Story::begin(&store, seed).await.play().await;
        outcome.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
}

#[tokio::test]
async fn a_message_that_is_missing_is_noticed() {
    let store = fresh_store().await;
    let mut noticed = 0;
    for seed in 1..=5 {
        let mut story = Story::begin(&store, seed).await;
        story.thief = true;
        noticed += u32::from(story.play().await.is_err());
    }
    assert_eq!(noticed, 5);
}

impl Story {
    async fn begin(store: &Store, seed: u64) -> Self {
        let user_id =
            format!("@{}-{seed}:x", store.account("@count:x").await.unwrap().account_id.0);
        let account = store.account(&user_id).await.unwrap().account_id;
        let device = async |id| store.device(account, id).await.unwrap().device_nid;
        let devices = [device("PHONE").await, device("LAPTOP").await];
        assert!(store.claim_main_poll(account, None, devices[0]).await.unwrap());
        Self {
            random: Random::seeded(seed),
            store: store.clone(),
            account,
            devices,
            runs_main: 0,
            main_since: None,
            light_since: None,
            polls: 0,
            arrived: 0,
            now: 10_000,
            listeners: Vec::new(),
            thief: false,
        }
    }

    async fn play(mut self) -> Outcome {
        for _ in 0..STEPS {
            match self.random.between(0, 15) {
                0..=3 => self.messages_arrive().await,
                4 => self.main_poll_is_handed_over().await,
                5 => self.session_is_born().await,
                6 if self.thief => self.message_is_stolen().await,
                6 | 7 => self.time_passes().await?,
                8 => self.all_acknowledge_while_more_arrives().await,
                9 => self.v2_syncs().await?,
                _ => self.session_syncs().await?,
            }
            self.what_must_be_is_held().await?;
        }
        self.ends().await
    }

    /// Messages come by the poll that the device runs just now.
    async fn messages_arrive(&mut self) {
        let count = i64::try_from(self.random.between(1, 5)).unwrap();
        let texts: Vec<String> = (1..=count).map(|n| (self.arrived + n).to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let device = to_device(self.devices[0], &texts);
        self.polls += 1;
        let next = format!("s{}", self.polls);
        if self.runs_main == 0 {
            let poll = Poll {
                asked_since: self.main_since.replace(next.clone()),
                next_batch: next,
                device: Some(device),
                ..Poll::default()
            };
            self.store.ingest(self.account, &poll).await.unwrap();
            // A retry of a poll that was stored brings nothing twice.
            let again = self.store.ingest(self.account, &poll).await;
            assert!(matches!(again, Err(Error::Fenced { .. })), "{again:?}");
        } else {
            let asked = self.light_since.replace(next.clone());
            let poll = light(asked.as_deref(), &next, device);
            self.store.ingest_light(self.account, &poll).await.unwrap();
        }
        self.arrived += count;
    }

    /// The device's own poll goes on from where the other kind was.
    async fn main_poll_is_handed_over(&mut self) {
        let (from, to) = (self.devices[self.runs_main], self.devices[1 - self.runs_main]);
        assert!(self.store.claim_main_poll(self.account, Some(from), to).await.unwrap());
        if self.runs_main == 0 && self.main_since.is_some() {
            self.light_since.clone_from(&self.main_since);
        }
        self.runs_main = 1 - self.runs_main;
    }

    async fn session_is_born(&mut self) {
        let most = i64::try_from(MOST).unwrap();
        let made =
            self.store.create_session(self.account, self.devices[0], b"{}", &[], self.now, most);
        let made = made.await.unwrap();
        let mut sessions: Vec<Listener> =
            self.listeners.iter().filter(|it| it.session.is_some()).cloned().collect();
        sessions.sort_by_key(|it| std::cmp::Reverse((it.used_at, it.session.unwrap().0)));
        let staying: Vec<_> = sessions.iter().take(MOST - 1).map(|it| it.session).collect();
        self.listeners.retain(|it| it.session.is_none() || staying.contains(&it.session));
        let from = made.inbox_acked.0;
        self.listeners.push(Listener {
            session: Some(made.session_id),
            tokens: vec![from],
            acked: from,
            used_at: self.now,
        });
    }

    /// Sometimes long enough for those who are not used to die.
    async fn time_passes(&mut self) -> Outcome {
        self.now += i64::try_from(self.random.between(1, 400)).unwrap();
        for dead in self.listeners.iter().filter(|it| it.used_at < self.live_since()) {
            let Some(session) = dead.session else { continue };
            let found =
                self.store.session(self.account, self.devices[0], session, 1, self.live_since());
            if found.await.unwrap().is_some() {
                return Err(format!("{dead:?} lives on"));
            }
        }
        let live_since = self.live_since();
        self.listeners.retain(|it| it.used_at >= live_since);
        if self.random.coin() {
            self.store.remove_expired_sessions(live_since, 100).await.unwrap();
        }
        Ok(())
    }

    async fn all_acknowledge_while_more_arrives(&mut self) {
        self.polls += 1;
        let next = format!("s{}", self.polls);
        let text = (self.arrived + 1).to_string();
        let device = to_device(self.devices[0], &[&text]);
        let poll = light(self.light_since.as_deref(), &next, device);
        let all = self
            .listeners
            .iter()
            .map(|listener| self.acknowledge(listener.clone(), *listener.tokens.last().unwrap()));
        if self.runs_main == 1 {
            let (_, arrival) =
                tokio::join!(join_all(all), self.store.ingest_light(self.account, &poll));
            arrival.unwrap();
            self.light_since = Some(next);
            self.arrived += 1;
        } else {
            join_all(all).await;
        }
        for listener in &mut self.listeners {
            listener.used_at = self.now;
            listener.acked = listener.acked.max(*listener.tokens.last().unwrap());
        }
    }

    /// As the proxy does it: what the token covers is acknowledged, the session is used, and what comes after is read.
    async fn session_syncs(&mut self) -> Outcome {
        let sessions: Vec<usize> =
            (0..self.listeners.len()).filter(|at| self.listeners[*at].session.is_some()).collect();
        if sessions.is_empty() {
            return Ok(());
        }
        let at = *self.random.pick(&sessions);
        self.syncs(at).await
    }

    async fn v2_syncs(&mut self) -> Outcome {
        let at = self.listeners.iter().position(|it| it.session.is_none());
        if let Some(at) = at {
            return self.syncs(at).await;
        }
        // Without a since it is nobody's session yet; with the first one it is.
        let acked = self.store.v2_acked(self.devices[0]).await.unwrap().unwrap_or(InboxSeq(0));
        let page = self.page(acked.0, 3).await;
        let reached = page.last().copied().unwrap_or(acked.0);
        if self.random.coin() {
            // What went while it was dead, it has lost.
            let held = self.page(0, 1).await.first().copied().unwrap_or(self.arrived + 1);
            let acked = reached.max(held - 1);
            self.listeners.push(Listener {
                session: None,
                tokens: vec![reached],
                acked,
                used_at: self.now,
            });
            let v2 = self.listeners.last().unwrap().clone();
            self.acknowledge(v2, reached).await;
        }
        Ok(())
    }

    async fn syncs(&mut self, at: usize) -> Outcome {
        let mut listener = self.listeners[at].clone();
        // It may go back to a token that it had before.
        let old = self.random.one_in(5);
        let token = if old {
            *self.random.pick(&listener.tokens)
        } else {
            *listener.tokens.last().unwrap()
        };
        let replied = self.acknowledge(listener.clone(), token).await;
        listener.used_at = self.now;
        listener.acked = listener.acked.max(token);
        // What v2 has acknowledged is not sent to v2 again.
        let after = if listener.session.is_none() { replied.max(token) } else { token };
        let limit = usize::try_from(self.random.between(1, 6)).unwrap();
        let page = self.page(after, limit).await;
        let first = page.first().copied().unwrap_or(self.arrived + 1);
        let in_order = page.windows(2).all(|pair| pair[1] == pair[0] + 1);
        // What it has acknowledged may be gone.
        if first > after.max(listener.acked) + 1
            || !in_order
            || (page.len() < limit && page.last().is_some_and(|last| *last != self.arrived))
        {
            return Err(format!(
                "{listener:?} goes on after {after} and reads {page:?} of {}",
                self.arrived
            ));
        }
        // The reply may be lost on its way.
        if !self.random.one_in(4) {
            listener.tokens.push(page.last().copied().unwrap_or(after));
        }
        self.listeners[at] = listener;
        Ok(())
    }

    /// Gives what the listener has acknowledged in all.
    async fn acknowledge(&self, listener: Listener, covered: i64) -> i64 {
        let (account, device, live_since) = (self.account, self.devices[0], self.live_since());
        let seq = InboxSeq(covered);
        match listener.session {
            Some(session) => {
                self.store.touch_session(account, session, self.now).await.unwrap();
                let acknowledged =
                    self.store.acknowledge_session(account, device, session, seq, live_since);
                acknowledged.await.unwrap();
                covered.max(listener.acked)
            }
            None => {
                self.store
                    .acknowledge_v2(account, device, seq, self.now, live_since)
                    .await
                    .unwrap()
                    .0
            }
        }
    }

    async fn message_is_stolen(&self) {
        // A session that nobody knows acknowledges everything, in a time in which nobody else lives.
        let far = self.now + 1_000_000;
        let thief = self
            .store
            .create_session(self.account, self.devices[0], b"{}", &[], far, 100)
            .await
            .unwrap();
        let all = InboxSeq(self.arrived);
        let stolen = self.store.acknowledge_session(
            self.account,
            self.devices[0],
            thief.session_id,
            all,
            far,
        );
        stolen.await.unwrap();
    }

    async fn what_must_be_is_held(&self) -> Outcome {
        let held = self.page(0, 10_000).await;
        let oldest = held.first().copied().unwrap_or(self.arrived + 1);
        if held != (oldest..=self.arrived).collect::<Vec<_>>() {
            return Err(format!("a hole in {held:?} of {}", self.arrived));
        }
        match self.listeners.iter().find(|it| it.acked + 1 < oldest) {
            Some(robbed) => Err(format!("{robbed:?} finds {held:?} of {}", self.arrived)),
            None => Ok(()),
        }
    }

    /// When all who live have read and acknowledged everything, nothing is left.
    async fn ends(mut self) -> Outcome {
        if self.listeners.is_empty() {
            self.session_is_born().await;
        }
        for at in 0..self.listeners.len() {
            let mut listener = self.listeners[at].clone();
            listener.tokens.push(self.arrived);
            let unread = self.page(listener.acked, 10_000).await;
            if unread != (listener.acked + 1..=self.arrived).collect::<Vec<_>>() {
                return Err(format!("in the end {listener:?} reads {unread:?}"));
            }
            self.acknowledge(listener, self.arrived).await;
        }
        let left = self.page(0, 10_000).await;
        if left.is_empty() { Ok(()) } else { Err(format!("in the end {left:?} is left")) }
    }

    /// The numbers of the messages after a place, which they also say themselves.
    async fn page(&self, after: i64, limit: usize) -> Vec<i64> {
        let page =
            self.store.inbox(self.account, self.devices[0], InboxSeq(after), limit).await.unwrap();
        let number = |message: &store::InboxMessage| {
            assert_eq!(message.message, message.seq.0.to_string(), "a message in another's place");
            message.seq.0
        };
        page.messages.iter().map(number).collect()
    }

    fn live_since(&self) -> i64 {
        self.now - EXPIRY
    }
}
