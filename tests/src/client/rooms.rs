//! What a user does in rooms.

use reqwest::Method;
use serde_json::{Value, json};

use super::request::{Reply, encode, transaction_id};
use super::{Client, Request};

impl Client {
    /// POST `/createRoom`; returns the room's ID.
    pub async fn create_room(&self, body: Value) -> String {
        self.post("/_matrix/client/v3/createRoom").json(&body).send().await.room_id()
    }

    /// Creates a room that anyone may join.
    pub async fn create_public_room(&self) -> String {
        self.create_room(json!({"preset": "public_chat"})).await
    }

    /// POST `/join`.
    pub async fn join(&self, room_id: &str) -> Reply {
        self.post(&room(room_id, "join")).json(&json!({})).send().await
    }

    /// POST `/leave`.
    pub async fn leave(&self, room_id: &str) -> Reply {
        self.post(&room(room_id, "leave")).json(&json!({})).send().await
    }

    /// POST `/forget`.
    pub async fn forget(&self, room_id: &str) -> Reply {
        self.post(&room(room_id, "forget")).json(&json!({})).send().await
    }

    /// POST `/knock`.
    pub async fn knock(&self, room_id: &str) -> Reply {
        self.post(&format!("/_matrix/client/v3/knock/{}", encode(room_id)))
            .json(&json!({}))
            .send()
            .await
    }

    /// POST `/invite`.
    pub async fn invite(&self, room_id: &str, user_id: &str) -> Reply {
        self.post(&room(room_id, "invite")).json(&json!({"user_id": user_id})).send().await
    }

    /// POST `/kick`.
    pub async fn kick(&self, room_id: &str, user_id: &str) -> Reply {
        self.post(&room(room_id, "kick")).json(&json!({"user_id": user_id})).send().await
    }

    /// POST `/ban`.
    pub async fn ban(&self, room_id: &str, user_id: &str) -> Reply {
        self.post(&room(room_id, "ban")).json(&json!({"user_id": user_id})).send().await
    }

    /// Sends a text message; returns its event ID.
    pub async fn send(&self, room_id: &str, body: &str) -> String {
        self.send_event(room_id, "m.room.message", json!({"msgtype": "m.text", "body": body}))
            .await
            .event_id()
    }

    /// A text message in the thread of `root`. Returns its event ID.
    pub async fn send_in_thread(&self, room_id: &str, root: &str, body: &str) -> String {
        let content = json!({
            "msgtype": "m.text", "body": body,
            "m.relates_to": {"rel_type": "m.thread", "event_id": root},
        });
        self.send_event(room_id, "m.room.message", content).await.event_id()
    }

    /// PUT `/send` of any event.
    pub async fn send_event(&self, room_id: &str, event_type: &str, content: Value) -> Reply {
        let action = format!("send/{}/{}", encode(event_type), transaction_id());
        self.put(&room(room_id, &action)).json(&content).send().await
    }

    /// PUT `/state` of any event.
    pub async fn set_state(
        &self,
        room_id: &str,
        event_type: &str,
        state_key: &str,
        content: Value,
    ) -> Reply {
        let action = format!("state/{}/{}", encode(event_type), encode(state_key));
        self.put(&room(room_id, &action)).json(&content).send().await
    }

    /// Sets the topic; returns the event ID.
    pub async fn set_topic(&self, room_id: &str, topic: &str) -> String {
        self.set_state(room_id, "m.room.topic", "", json!({"topic": topic})).await.event_id()
    }

    /// Sets the display name in one room only.
    pub async fn rename_in(&self, room_id: &str, name: &str) -> Reply {
        let content = json!({"membership": "join", "displayname": name});
        self.set_state(room_id, "m.room.member", &self.user_id, content).await
    }

    /// PUT `/redact`.
    pub async fn redact(&self, room_id: &str, event_id: &str) -> Reply {
        let action = format!("redact/{}/{}", encode(event_id), transaction_id());
        self.put(&room(room_id, &action)).json(&json!({})).send().await
    }

    /// Starts to type, for as long as Synapse allows.
    pub async fn starts_typing(&self, room_id: &str) {
        self.type_in(room_id, json!({"typing": true, "timeout": 120_000})).await;
    }

    /// Stops typing.
    pub async fn stops_typing(&self, room_id: &str) {
        self.type_in(room_id, json!({"typing": false})).await;
    }

    /// POST `/receipt` of the type `m.read`.
    pub async fn read(&self, room_id: &str, event_id: &str) -> Reply {
        let action = format!("receipt/m.read/{}", encode(event_id));
        self.post(&room(room_id, &action)).json(&json!({})).send().await
    }

    /// PUT a tag.
    pub async fn tag(&self, room_id: &str, tag: &str) -> Reply {
        let action = format!("tags/{}", encode(tag));
        self.put(&self.my_room(room_id, &action)).json(&json!({"order": 0.5})).send().await
    }

    /// DELETE a tag.
    pub async fn untag(&self, room_id: &str, tag: &str) -> Reply {
        let action = format!("tags/{}", encode(tag));
        self.request(Method::DELETE, &self.my_room(room_id, &action)).send().await
    }

    /// PUT room account data.
    pub async fn set_room_account_data(
        &self,
        room_id: &str,
        event_type: &str,
        content: &Value,
    ) -> Reply {
        let action = format!("account_data/{}", encode(event_type));
        self.put(&self.my_room(room_id, &action)).json(content).send().await
    }

    /// GET `/messages`, backwards from a token.
    pub fn messages_before(&self, room_id: &str, from: &str, limit: u64) -> Request {
        self.get(&room(room_id, "messages"))
            .query("dir", "b")
            .query("from", from)
            .query("limit", &limit.to_string())
    }

    /// GET `/messages`, forwards from a token.
    pub fn messages_after(&self, room_id: &str, from: &str, limit: u64) -> Request {
        self.get(&room(room_id, "messages"))
            .query("dir", "f")
            .query("from", from)
            .query("limit", &limit.to_string())
    }

    /// GET `/members`.
    pub fn members(&self, room_id: &str) -> Request {
        self.get(&room(room_id, "members"))
    }

    async fn type_in(&self, room_id: &str, body: Value) {
        let action = format!("typing/{}", encode(&self.user_id));
        self.put(&room(room_id, &action)).json(&body).send().await.ok();
    }

    fn my_room(&self, room_id: &str, action: &str) -> String {
        format!(
            "/_matrix/client/v3/user/{}/rooms/{}/{action}",
            encode(&self.user_id),
            encode(room_id)
        )
    }
}

fn room(room_id: &str, action: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{action}", encode(room_id))
}
