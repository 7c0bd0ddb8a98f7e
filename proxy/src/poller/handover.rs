//! Taking the main poll over: at the very first, and when the device that ran it is gone.
//!
//! Upstream's position of the main poll is accepted with another device's token, and acknowledges that
//! device's to-device messages up to it. So the new main device first drains its own inbox with light
//! polls until one comes back empty; then everything up to there is stored, and none is lost.

use std::time::Duration;

use store::DeviceNid;

use crate::upstream::AccessToken;

use super::{
    Poller,
    light::LightOutcome,
    outcome::{self, Outcome},
};

impl Poller {
    /// Whether no device runs the main poll, or the one that should has no token to do it with.
    pub(super) fn main_poll_is_vacant(&self) -> bool {
        let Some(main) = self.account.main_device() else { return true };
        main != self.device.device_nid && !self.account.has_token(main)
    }

    /// Takes the main poll over, if nobody else is faster.
    pub(super) async fn take_over(&self, token: &AccessToken, tries: u32) -> Outcome {
        let account_id = self.account.account_id;
        let stored = match self.state.store.account_by_id(account_id).await {
            Ok(Some(account)) => account,
            Ok(None) => return Outcome::Refused,
            Err(error) => return outcome::of_store_failure(&error),
        };
        let device = match self.state.store.device_by_nid(self.device.device_nid).await {
            Ok(Some(device)) => device,
            Ok(None) => return Outcome::Refused,
            Err(error) => return outcome::of_store_failure(&error),
        };
        // A device that was never polled has nothing that is stored and not acknowledged, and the very
        // first poll of an account acknowledges nothing.
        if (stored.upstream_since.is_some() || device.upstream_since.is_some())
            && let Some(outcome) = self.drain_inbox(token, tries).await
        {
            return outcome;
        }
        if !self.main_poll_is_vacant() {
            return Outcome::AskAgain;
        }
        let expected: Option<DeviceNid> = stored.main_device;
        match self.state.store.claim_main_poll(account_id, expected, self.device.device_nid).await {
            Ok(true) => {
                tracing::info!("this device runs the main poll now");
                self.account.set_main_device(Some(self.device.device_nid));
                self.gaps.notify_one();
                Outcome::AskAgain
            }
            // Somebody else was faster, or what this process heard of is not what is stored.
            Ok(false) => match self.state.store.account_by_id(account_id).await {
                Ok(account) => {
                    self.account.set_main_device(account.and_then(|account| account.main_device));
                    Outcome::Retry { after: None, at_most: outcome::FIRST_POLL_RETRY }
                }
                Err(error) => outcome::of_store_failure(&error),
            },
            Err(error) => outcome::of_store_failure(&error),
        }
    }

    /// Light polls until one comes back empty. `Some` when that did not succeed.
    async fn drain_inbox(&self, token: &AccessToken, tries: u32) -> Option<Outcome> {
        loop {
            match self.poll_light_once(token, Duration::ZERO, tries).await {
                LightOutcome::Stored { messages: true } => {}
                LightOutcome::Stored { messages: false } => return None,
                LightOutcome::Other(outcome) => return Some(outcome),
            }
        }
    }
}
