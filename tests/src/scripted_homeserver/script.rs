//! What the homeserver has been told to do.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::watch;

use super::body::{Canned, Gate};
use super::fault::Fault;
use super::ledger::Ledger;
use crate::secrets;

/// The script. Tests add to it while the homeserver plays.
#[derive(Debug)]
pub(super) struct Script {
    lines: Mutex<Lines>,
    /// Counts the changes, to wake those that wait for one.
    version: watch::Sender<u64>,
}

/// Whose token it is, or why it is nobody's any more.
#[derive(Debug, Clone)]
pub(super) enum Token {
    Device { user_id: String, device_id: String },
    Revoked(Value),
}

#[derive(Debug, Default)]
struct Lines {
    tokens: HashMap<String, Token>,
    syncs: HashMap<Option<String>, String>,
    faults: VecDeque<Fault>,
    paths: Vec<(String, Canned)>,
    held_by: Option<watch::Receiver<bool>>,
    whoami_held_by: Option<watch::Receiver<bool>>,
    weather: Option<Fault>,
    ledger: Option<Arc<Ledger>>,
}

impl Default for Script {
    fn default() -> Self {
        Self { lines: Mutex::default(), version: watch::channel(0).0 }
    }
}

impl Script {
    pub(super) fn allow(&self, token: &str, user_id: &str, device_id: &str) {
        secrets::register(token);
        let device = Token::Device { user_id: user_id.to_owned(), device_id: device_id.to_owned() };
        self.change(|lines| lines.tokens.insert(token.to_owned(), device));
    }

    pub(super) fn revoke(&self, token: &str, answer: Value) {
        self.change(|lines| lines.tokens.insert(token.to_owned(), Token::Revoked(answer)));
    }

    pub(super) fn on_sync(&self, since: Option<&str>, reply: String) {
        self.change(|lines| lines.syncs.insert(since.map(str::to_owned), reply));
    }

    pub(super) fn add_faults(&self, count: usize, fault: &Fault) {
        self.change(|lines| {
            lines.faults.extend(std::iter::repeat_n(fault.clone(), count));
        });
    }

    pub(super) fn faults_left(&self) -> usize {
        self.lines.lock().unwrap().faults.len()
    }

    pub(super) fn set_weather(&self, weather: Option<Fault>) {
        self.change(|lines| lines.weather = weather);
    }

    pub(super) fn weather(&self) -> Option<Fault> {
        self.lines.lock().unwrap().weather.clone()
    }

    pub(super) fn keep_books(&self, ledger: Arc<Ledger>) {
        self.change(|lines| lines.ledger = Some(ledger));
    }

    pub(super) fn ledger(&self) -> Option<Arc<Ledger>> {
        self.lines.lock().unwrap().ledger.clone()
    }

    pub(super) fn hold_syncs(&self) -> Gate {
        let gate = Gate::closed();
        self.change(|lines| lines.held_by = Some(gate.watch()));
        gate
    }

    pub(super) fn hold_whoami(&self) -> Gate {
        let gate = Gate::closed();
        self.change(|lines| lines.whoami_held_by = Some(gate.watch()));
        gate
    }

    pub(super) fn on_path(&self, prefix: &str, answer: Canned) {
        self.change(|lines| lines.paths.push((prefix.to_owned(), answer)));
    }

    pub(super) fn token(&self, token: &str) -> Option<Token> {
        self.lines.lock().unwrap().tokens.get(token).cloned()
    }

    pub(super) fn sync(&self, since: Option<&str>) -> Option<String> {
        self.lines.lock().unwrap().syncs.get(&since.map(str::to_owned)).cloned()
    }

    pub(super) fn take_fault(&self) -> Option<Fault> {
        self.lines.lock().unwrap().faults.pop_front()
    }

    /// The canned answer for a path; a later one replaces an earlier one.
    pub(super) fn canned(&self, target: &str) -> Option<Canned> {
        let lines = self.lines.lock().unwrap();
        lines
            .paths
            .iter()
            .rev()
            .find(|(prefix, _answer)| target.starts_with(prefix))
            .map(|(_prefix, answer)| answer.clone())
    }

    pub(super) fn gate(&self) -> Option<watch::Receiver<bool>> {
        self.lines.lock().unwrap().held_by.clone()
    }

    pub(super) fn gate_of_whoami(&self) -> Option<watch::Receiver<bool>> {
        self.lines.lock().unwrap().whoami_held_by.clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Lines) -> T) {
        change(&mut self.lines.lock().unwrap());
        self.version.send_modify(|version| *version += 1);
    }
}
