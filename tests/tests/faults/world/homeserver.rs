//! The homeserver of a world: scripted, and keeping books of what it tells; or a real one, of which the sender keeps them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tests::client::Client;
use tests::random::Random;
use tests::scripted_homeserver::{Ledger, ROOMS, ScriptedHomeserver};
use tests::synapse::{PASSWORD, Synapse};
use tokio::sync::RwLock;

/// One of the two.
pub(crate) enum Homeserver {
    /// It knows exactly what it told.
    Scripted { homeserver: ScriptedHomeserver, ledger: Arc<Ledger> },
    /// A Synapse, and a user of it who sends.
    Real(Box<Real>),
}

/// A Synapse and what was sent with it.
pub(crate) struct Real {
    pub(crate) synapse: Synapse,
    sender: Client,
    rooms: Vec<String>,
    /// Held to send, and taken whole to stop the homeserver: what was sent was answered, and nothing is sent twice.
    pub(crate) sending: RwLock<()>,
    sent: Mutex<HashMap<String, u64>>,
}

impl Homeserver {
    /// A scripted one.
    pub(crate) async fn scripted() -> Self {
        let homeserver = ScriptedHomeserver::start().await;
        let ledger = homeserver.keep_books();
        for room in 0..ROOMS.len() {
            ledger.say(room);
        }
        Self::Scripted { homeserver, ledger }
    }

    /// A real one of its own, with two rooms.
    pub(crate) async fn real() -> Self {
        let synapse = Synapse::start().await;
        synapse.register("bob").await;
        let sender = Client::login(&synapse.url(), "bob", PASSWORD, "DESK").await;
        let rooms = vec![sender.create_public_room().await, sender.create_public_room().await];
        let (sending, sent) = (RwLock::default(), Mutex::default());
        Self::Real(Box::new(Real { synapse, sender, rooms, sending, sent }))
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Scripted { homeserver, .. } => homeserver.port(),
            Self::Real(real) => real.synapse.port(),
        }
    }

    /// Two devices of one user and one of another, in all rooms, as clients of the server at `base`; and one of the first
    /// that nobody is told of.
    pub(crate) async fn devices(&self, base: &str) -> (Vec<Client>, Client) {
        match self {
            Self::Scripted { homeserver, .. } => {
                let device = |user, device| homeserver.device(base, user, device);
                let devices = vec![
                    device("@alice:scripted", "PHONE"),
                    device("@alice:scripted", "LAPTOP"),
                    device("@carol:scripted", "TABLET"),
                ];
                (devices, device("@alice:scripted", "GHOST"))
            }
            Self::Real(real) => {
                for user in ["alice", "carol"] {
                    real.synapse.register(user).await;
                }
                let log_in = async |user, device| Client::login(base, user, PASSWORD, device).await;
                let devices = vec![
                    log_in("alice", "PHONE").await,
                    log_in("alice", "LAPTOP").await,
                    log_in("carol", "TABLET").await,
                ];
                for client in [&devices[0], &devices[2]] {
                    for room_id in &real.rooms {
                        client.join(room_id).await.ok();
                    }
                }
                (devices, log_in("alice", "GHOST").await)
            }
        }
    }

    pub(crate) fn rooms(&self) -> Vec<String> {
        match self {
            Self::Scripted { .. } => ROOMS.map(str::to_owned).to_vec(),
            Self::Real(real) => real.rooms.clone(),
        }
    }

    /// A message to a room or to a device.
    pub(crate) async fn say_something(&self, random: &mut Random, devices: &[Client]) {
        let device = random.pick(devices);
        match self {
            Self::Scripted { ledger, .. } if random.coin() => {
                ledger.say(usize::try_from(random.between(0, 2)).unwrap());
            }
            Self::Scripted { ledger, .. } => ledger.send_to(&device.user_id, &device.device_id),
            Self::Real(real) if random.coin() => {
                let room_id: &String = random.pick(&real.rooms);
                real.say(room_id).await;
            }
            Self::Real(real) => real.send_to(device).await,
        }
    }

    /// How many messages have been said in each room.
    pub(crate) fn said(&self) -> Vec<(String, u64)> {
        let rooms = self.rooms().into_iter();
        match self {
            Self::Scripted { ledger, .. } => {
                rooms.map(|room_id| (room_id.clone(), ledger.said_in(&room_id))).collect()
            }
            Self::Real(real) => {
                rooms.map(|room_id| (room_id.clone(), real.count(&room_id))).collect()
            }
        }
    }

    /// How many have been sent to a device.
    pub(crate) fn sent_to(&self, device: &Client) -> u64 {
        match self {
            Self::Scripted { ledger, .. } => ledger.sent_to(&device.user_id, &device.device_id),
            Self::Real(real) => real.count(&device.access_token),
        }
    }

    pub(crate) fn log_tail(&self) -> String {
        match self {
            Self::Scripted { .. } => String::new(),
            Self::Real(real) => real.synapse.log_tail(),
        }
    }
}

impl Real {
    async fn say(&self, room_id: &str) {
        let _sending = self.sending.read().await;
        let n = self.count(room_id);
        let content = json!({"msgtype": "m.text", "body": n.to_string(), "n": n});
        self.sender.send_event(room_id, "m.room.message", content).await.ok();
        self.add(room_id);
    }

    async fn send_to(&self, device: &Client) {
        let _sending = self.sending.read().await;
        let n = self.count(&device.access_token);
        self.sender.send_to_device(device, "m.test", json!({"n": n})).await.ok();
        self.add(&device.access_token);
    }

    fn count(&self, key: &str) -> u64 {
        self.sent.lock().unwrap().get(key).copied().unwrap_or(0)
    }

    fn add(&self, key: &str) {
        *self.sent.lock().unwrap().entry(key.to_owned()).or_default() += 1;
    }
}
