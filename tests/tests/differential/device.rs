//! A device that syncs as clients do: with lost replies, and now and then from the beginning.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tests::client::{Client, SyncRequest};

use crate::filters::Filter;
use crate::model::{Heard, Model};
use crate::scope;

/// A device, and what it knows.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: &'static str,
    pub(crate) client: Client,
    pub(crate) model: Model,
    pub(crate) heard: Vec<Heard>,
    /// Whether the replies are ours: they must have the shape of the schemas.
    ours: bool,
    filter: String,
    since: Option<String>,
}

impl Device {
    /// A device that has never synced. It uses its filter inline, or uploads it first.
    pub(crate) async fn new(
        name: &'static str,
        client: Client,
        filter: &Filter,
        inline: bool,
    ) -> Self {
        let filter = if inline {
            filter.json().to_string()
        } else {
            client.upload_filter(filter.json()).await
        };
        let (model, heard) = (Model::default(), Vec::new());
        Self {
            name,
            client,
            model,
            heard,
            ours: name == "proxy" && std::env::var_os("TEST_DIRECT").is_none(),
            filter,
            since: None,
        }
    }

    /// Syncs and takes the reply in.
    pub(crate) async fn sync(&mut self, full_state: bool) -> Value {
        let reply = self.ask(full_state).await;
        self.heard.extend(self.model.fold(&reply));
        self.since = reply["next_batch"].as_str().map(str::to_owned);
        reply
    }

    /// Syncs, but the reply is lost on its way.
    pub(crate) async fn lose(&self) -> Value {
        self.ask(false).await
    }

    /// Forgets everything but what end-to-end encryption keeps, as after clearing the cache.
    pub(crate) fn restart(&mut self) {
        let to_device = std::mem::take(&mut self.model.to_device);
        self.model = Model { to_device, ..Model::default() };
        self.since = None;
    }

    async fn ask(&self, full_state: bool) -> Value {
        // Synapse gives whoever asks the same again the answer that it gave before; a timeout of its own makes a question
        // another one. It must stay short: a device that has nothing to hear waits for it.
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        // The first sync does not wait, and is the same for as long as its filter is.
        let timeout = if self.since.is_some() { count % 50 } else { count };
        let request = self.client.sync().timeout(timeout).filter_id(&self.filter);
        let mut request: SyncRequest = request.query("set_presence", "offline");
        if !self.ours {
            request = request.of_any_shape("it is Synapse's, which the tests do not judge");
        }
        if let Some(since) = &self.since {
            request = request.since(since);
        }
        if full_state {
            request = request.query("full_state", "true");
        }
        if scope::STATE_AFTER {
            request = request
                .query("use_state_after", "true")
                .query("org.matrix.msc4222.use_state_after", "true");
        }
        request.send().await.ok()
    }
}
