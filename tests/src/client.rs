//! A Matrix client for tests: one method for each thing that a user does. Every method answers with the whole [`Reply`].

mod request;
mod rooms;
mod sync;

use std::path::Path;

use serde_json::{Value, json};

pub use self::request::{Reply, Request, encode, http_client};
pub use self::sync::{SyncRequest, V3Request};
use crate::chain::Chain;
use crate::secrets;
use crate::session::Session;

/// A logged-in device, or nobody yet.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    /// The full user ID; empty before the login.
    pub user_id: String,
    /// The device ID; empty before the login.
    pub device_id: String,
    /// The access token; empty before the login.
    pub access_token: String,
}

impl Client {
    /// A client of the server at `base` that has not logged in.
    pub fn anonymous(base: &str) -> Self {
        Self {
            http: request::http_client(),
            base: base.to_owned(),
            user_id: String::new(),
            device_id: String::new(),
            access_token: String::new(),
        }
    }

    /// The same client, which trusts the authority of these roots alone.
    #[must_use]
    pub fn trusting(self, roots: &Path) -> Self {
        Self { http: request::http_client_trusting(roots), ..self }
    }

    /// A client that has its token already, as after a restart of the application.
    pub fn with_token(base: &str, user_id: &str, device_id: &str, access_token: &str) -> Self {
        secrets::register(access_token);
        Self {
            user_id: user_id.to_owned(),
            device_id: device_id.to_owned(),
            access_token: access_token.to_owned(),
            ..Self::anonymous(base)
        }
    }

    /// Logs in by password.
    pub async fn login(base: &str, localpart: &str, password: &str, device_id: &str) -> Self {
        let nobody = Self::anonymous(base);
        let body = json!({
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": localpart},
            "password": password,
            "device_id": device_id,
        });
        let reply =
            nobody.post("/_matrix/client/v3/login").without_token().json(&body).send().await.ok();
        let text = |key: &str| {
            reply[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {reply}")).to_owned()
        };
        Self {
            user_id: text("user_id"),
            device_id: text("device_id"),
            access_token: text("access_token"),
            ..nobody
        }
    }

    /// The same device, talking to another server: past the proxy, or through another one.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// The same device with another token, as after a refresh.
    #[must_use]
    pub fn renewed(&self) -> Self {
        let token = format!("{}_renewed", self.access_token);
        secrets::register(&token);
        Self { access_token: token, ..self.clone() }
    }

    /// The URL of the server that it talks to.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same device with connections of its own, for the use in another task.
    #[must_use]
    pub fn on_new_connections(&self) -> Self {
        Self { http: request::http_client(), ..self.clone() }
    }

    /// The chain of a v2 sync loop, before its first request.
    pub fn v2(&self) -> Chain {
        Chain::new(self.clone())
    }

    /// A v3 session, before its first request.
    pub fn v3(&self) -> Session {
        Session::new(self.clone())
    }

    /// POST `/logout`.
    pub async fn logout(&self) -> Reply {
        self.post("/_matrix/client/v3/logout").json(&json!({})).send().await
    }

    /// GET `/account/whoami`.
    pub async fn whoami(&self) -> Reply {
        self.get("/_matrix/client/v3/account/whoami").send().await
    }

    /// GET `/account/whoami` with another access token.
    pub async fn whoami_with(&self, access_token: &str) -> Reply {
        self.get("/_matrix/client/v3/account/whoami").token(access_token).send().await
    }

    /// PUT `/sendToDevice` to one device.
    pub async fn send_to_device(&self, to: &Self, event_type: &str, content: Value) -> Reply {
        let path = format!(
            "/_matrix/client/v3/sendToDevice/{}/{}",
            encode(event_type),
            request::transaction_id()
        );
        let body = json!({"messages": {&to.user_id: {&to.device_id: content}}});
        self.put(&path).json(&body).send().await
    }

    /// POST `/keys/upload`.
    pub async fn upload_keys(&self, body: &Value) -> Reply {
        self.post("/_matrix/client/v3/keys/upload").json(body).send().await
    }

    /// POST `/user/{me}/filter`; returns the filter's ID.
    pub async fn upload_filter(&self, filter: &Value) -> String {
        let path = format!("/_matrix/client/v3/user/{}/filter", encode(&self.user_id));
        self.post(&path).json(filter).send().await.text("filter_id")
    }

    /// PUT global account data.
    pub async fn set_account_data(&self, event_type: &str, content: &Value) -> Reply {
        let path = format!(
            "/_matrix/client/v3/user/{}/account_data/{}",
            encode(&self.user_id),
            encode(event_type)
        );
        self.put(&path).json(content).send().await
    }

    /// PUT the own presence.
    pub async fn set_presence(&self, presence: &str, status: &str) -> Reply {
        let path = format!("/_matrix/client/v3/presence/{}/status", encode(&self.user_id));
        self.put(&path).json(&json!({"presence": presence, "status_msg": status})).send().await
    }

    /// PUT the own display name, everywhere.
    pub async fn set_displayname(&self, name: &str) -> Reply {
        let path = format!("/_matrix/client/v3/profile/{}/displayname", encode(&self.user_id));
        self.put(&path).json(&json!({"displayname": name})).send().await
    }
}
