//! What happens in a story of the reference client: what people do, and what becomes of the proxy.

use std::sync::Arc;

use serde_json::json;
use tests::client::Client;

use super::story::Story;

/// In one of so many stories, so much happens while the proxy is away that the homeserver leaves events out.
const GAPS: u64 = 25;
/// More events than a poll of the proxy brings of one room.
const MANY: u64 = 105;

impl Story {
    /// Something happens; says what.
    pub(super) async fn something_happens(&mut self, number: u64) -> String {
        if number == 8 && self.seed.is_multiple_of(GAPS) {
            return self.much_happens_while_the_proxy_is_away().await;
        }
        match self.random.between(0, 99) {
            0..=5 => {
                let count = self.random.between(8, 15);
                self.someone_talks_on(count).await
            }
            6..=10 => self.i_name_direct_chats().await,
            11..=14 => self.the_latest_is_redacted().await,
            15..=16 => self.a_room_is_encrypted().await,
            17..=19 => self.the_proxy_restarts(false).await,
            20..=22 => self.the_proxy_restarts(true).await,
            _ => self.world.act().await,
        }
    }

    async fn someone_talks_on(&mut self, count: u64) -> String {
        let (who, room_id) = (self.other(), self.room_with_me());
        let talked = talk(&who, &room_id, count).await;
        format!("{} says {talked} things in {room_id}", who.user_id)
    }

    async fn i_name_direct_chats(&mut self) -> String {
        let room_id = self.room_with_me();
        let rooms = if self.random.one_in(3) { json!([]) } else { json!([room_id]) };
        let content = json!({self.other().user_id: rooms});
        self.world.direct.client.set_account_data("m.direct", &content).await.ok();
        format!("m.direct is {content}")
    }

    async fn the_latest_is_redacted(&mut self) -> String {
        let Some(message) = self.world.messages.last().cloned() else {
            return "there is nothing to redact".to_owned();
        };
        let mut done = Vec::new();
        for who in self.world.others.clone() {
            done.push(who.redact(&message.room_id, &message.event_id).await.status);
        }
        format!("others redact {} in {}: {done:?}", message.event_id, message.room_id)
    }

    async fn a_room_is_encrypted(&mut self) -> String {
        let (who, room_id) = (self.other(), self.room_with_me());
        let content = json!({"algorithm": "m.megolm.v1.aes-sha2"});
        let reply = who.set_state(&room_id, "m.room.encryption", "", content).await;
        format!("{} encrypts {room_id}: {}", who.user_id, reply.status)
    }

    /// The proxy ends, or dies, while the client waits, and people go on talking.
    async fn the_proxy_restarts(&mut self, dies: bool) -> String {
        let (who, room_id) = (self.other(), self.room_with_me());
        let proxy = Arc::clone(&self.proxy);
        let meanwhile = async {
            if dies {
                proxy.kill9();
            } else {
                proxy.stop().await;
            }
            let talked = talk(&who, &room_id, 3).await;
            proxy.start_again().await;
            talked
        };
        let sync = json!({"do": "sync", "timeout": 1000});
        let (_reply, talked) = tokio::join!(self.client.tell(sync), meanwhile);
        let how = if dies { "dies" } else { "restarts" };
        format!("the proxy {how}, while {} says {talked} things in {room_id}", who.user_id)
    }

    async fn much_happens_while_the_proxy_is_away(&mut self) -> String {
        let (who, room_id) = (self.other(), self.room_with_me());
        self.proxy.stop().await;
        let topic = json!({"topic": "in the gap"});
        let topic = who.set_state(&room_id, "m.room.topic", "", topic).await.status;
        let done = (topic, talk(&who, &room_id, MANY).await);
        self.proxy.start_again().await;
        format!(
            "while the proxy is away, {} sets the topic and talks in {room_id}: {done:?}",
            who.user_id
        )
    }

    fn other(&mut self) -> Client {
        self.random.pick(&self.world.others).clone()
    }
}

/// Says so many things, and returns how many the room let through.
async fn talk(who: &Client, room_id: &str, count: u64) -> u64 {
    let mut said = 0;
    for number in 0..count {
        let content = json!({"msgtype": "m.text", "body": format!("on and on {number}")});
        let reply = who.send_event(room_id, "m.room.message", content).await;
        assert!(reply.status < 500, "{}", reply.body_text());
        if reply.status != 200 {
            break;
        }
        said += 1;
    }
    said
}
