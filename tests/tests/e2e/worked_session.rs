//! The session that `docs/v3-api.md` shows step by step, played against a real Synapse and compared with the page.
//!
//! With `TEST_WRITE_DOCS=1` the page is brought up to date instead. What differs from one time to the next has a name of
//! its own on both sides: see `placeholders`.

mod layout;
mod page;
mod placeholders;

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::session::Session;

use self::page::Page;
use self::placeholders::Placeholders;

/// The rooms, the one with the oldest message first.
const ROOMS: [&str; 4] = ["Cellar", "Garden", "Library", "Tea house"];

#[tokio::test]
async fn the_session_on_the_page_is_what_happens() {
    let mut story = Story::begin().await;
    let opening = json!({
        "room_list": {"p": {"limit": 1}, "state_events": [["m.room.topic", ""]], "lazy_load_members": false},
        "room": {"room_id": "room_list", "timeline_limit": 1, "types": ["m.room.message"]},
        "to_device": {},
    });
    story.step(
        "Open a session",
        "The first page of the room list with one room, the timelines of the rooms that the list follows, and messages to \
         the device. The page says what a list shows; `p.next` says that there is more. There are no messages.",
    );
    let first = story.ask(&opening, 0).await;

    story.step(
        "An event arrives",
        "Nothing has changed in what is asked for, so the body is empty. The request waits until Bob says something. \
         Both streams tell it, as of the same moment.",
    );
    story.bob.send(&story.rooms[3], "Tea is ready").await;
    story.ask(&json!({}), 30_000).await;

    story.step(
        "The second page",
        "With the `since` of the last reply, and once only. The room on it joins the active set, so `room` brings it \
         as well.",
    );
    let token = first["room_list"]["p"]["next"].as_str().expect("there are four rooms");
    story.ask(&json!({"room_list": {"p": {"since": token}}}), 0).await;

    story.step(
        "A longer page",
        "A higher limit brings the first page of the list as it now is. Rooms that the session has got already come \
         without what it knows; the third is new to it.",
    );
    story.ask(&json!({"room_list": {"p": {"limit": 3}}}), 0).await;

    story.step(
        "A notification from elsewhere",
        "Bob writes to the fourth room. It is not in the active set, so it comes in `notifications`, and not in `room`.",
    );
    story.bob.send(&story.rooms[0], "Who is in the cellar?").await;
    let before = story.session.clone();
    let told = story.ask(&json!({}), 30_000).await;

    story.step(
        "The reply is lost",
        "The client has not seen the last reply. It asks again with the `since` that it has, and is told the same: \
         nothing was acknowledged.",
    );
    story.session = before;
    let told_again = story.ask_without_showing(&json!({}), 30_000).await;
    assert_eq!(story.names.of(&told_again), story.names.of(&told), "a lost reply is told again");
    story.show("200: the reply of the step before.");

    story.step(
        "A message to the device",
        "It is kept until a request with the `next` of this reply, or of a later one, acknowledges it.",
    );
    let content = json!({"text": "the door is open"});
    story.bob.send_to_device(&story.alice, "org.example.hint", content).await.ok();
    story.ask(&json!({}), 30_000).await;

    story.step(
        "Drop a stream, and ask for another",
        "The client closes its timelines, keeps the list, and begins to encrypt. A request that changes parameters is \
         answered at once.",
    );
    // Not earlier: when Synapse tells that Bob has a device is a matter of chance, and only the first reply is empty for sure.
    story.ask(&json!({"room": null, "e2ee": {}}), 30_000).await;

    story.step(
        "The session has ended",
        "It was not used for too long, or the token was never one. The client begins again, without `since`.",
    );
    story.ask_with_a_token_of_nobody().await;

    story.page.is_up_to_date();
}

/// Alice's session, and what the page says of it so far.
struct Story {
    alice: Client,
    bob: Client,
    rooms: Vec<String>,
    session: Session,
    names: Placeholders,
    page: Page,
}

impl Story {
    /// Four rooms with a message in each. The proxy has not heard of any of this.
    async fn begin() -> Self {
        let lab = Lab::shared().await;
        let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
        let on_synapse = lab.past_proxy(&alice);
        let mut names = Placeholders::default();
        names.user(&alice, "alice");
        names.user(&bob, "bob");
        let mut rooms = Vec::new();
        for name in ROOMS {
            let body = json!({"preset": "public_chat", "name": name, "topic": format!("About the {name}")});
            let room = on_synapse.create_room(body).await;
            bob.join(&room).await.ok();
            bob.send(&room, "Hello").await;
            names.room(&room, name);
            rooms.push(room);
        }
        let session = alice.v3();
        Self { alice, bob, rooms, session, names, page: Page::default() }
    }

    fn step(&mut self, title: &str, text: &str) {
        self.page.step(title, text);
    }

    /// Sends the next request, and shows it and its reply.
    async fn ask(&mut self, body: &Value, timeout: u64) -> Value {
        let reply = self.ask_without_showing(body, timeout).await;
        let shown = self.names.of(&reply);
        self.show(&format!("200\n{}", layout::json(&shown)));
        reply
    }

    /// Sends the next request, and shows it alone.
    async fn ask_without_showing(&mut self, body: &Value, timeout: u64) -> Value {
        let request = self.session.request(body);
        let since = self.session.begun().map(|since| self.names.token(since));
        self.page.request(since.as_deref(), timeout, &self.names.of(body));
        let reply = request.timeout(timeout).send().await.ok();
        self.session.absorb(&reply);
        reply
    }

    async fn ask_with_a_token_of_nobody(&mut self) {
        self.page.request(Some("v3_long_ago"), 0, &json!({}));
        let reply = self.alice.v3_sync(&json!({})).since("v3_long_ago").send().await;
        let error = reply.refused(400, "M_UNKNOWN_SYNC_SESSION");
        self.show(&format!("400\n{}", layout::json(&error)));
    }

    fn show(&mut self, answer: &str) {
        self.page.answer(answer);
    }
}
