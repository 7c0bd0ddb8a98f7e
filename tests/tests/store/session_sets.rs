//! Sets of rooms that belong to sessions: kept as long as one of the session's last tokens names them.

use store::{AccountId, Keep, NewSet, SessionId, Store};

use crate::database::{Fresh, fresh_store};

/// How many tokens back sets are kept.
const KEEP: i32 = 3;

const TOLD: i16 = 0;
const PAGES: i16 = 1;

struct Kept {
    store: Store,
    account: AccountId,
    session: SessionId,
    keep: Keep,
}

impl Kept {
    async fn on(store: Store) -> Self {
        let account = store.account("@alice:x").await.unwrap().account_id;
        let device = store.device(account, "PHONE").await.unwrap().device_nid;
        let made = store.create_session(account, device, b"{}", &[], 1, 100).await.unwrap();
        let keep = Keep { turns: KEEP, bytes: i64::MAX };
        Self { store, account, session: made.session_id, keep }
    }

    /// A token that brings these sets and names those. Gives whether all are there.
    async fn token(&self, brings: &[(i16, &str)], names: &[&str]) -> bool {
        let sets: Vec<NewSet<'_>> = brings
            .iter()
            .map(|(purpose, id)| NewSet {
                set_id: id.as_bytes(),
                purpose: *purpose,
                content: id.as_bytes(),
            })
            .collect();
        let names: Vec<&[u8]> = names.iter().map(|id| id.as_bytes()).collect();
        let put = self.store.put_session_sets(self.account, self.session, &sets, &names, self.keep);
        put.await.unwrap()
    }

    /// Which of these sets are there.
    async fn of(&self, ids: &[&str]) -> Vec<String> {
        let asked: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes()).collect();
        let found = self.store.session_sets(self.account, self.session, &asked, &[]).await.unwrap();
        for set in &found {
            assert_eq!(&set.set_id[..], &set.content[..]);
        }
        let mut found: Vec<String> =
            found.into_iter().map(|set| String::from_utf8(set.set_id).unwrap()).collect();
        found.sort();
        found
    }
}

#[tokio::test]
async fn roundtrip_session_sets() {
    let kept = Kept::on(fresh_store().await).await;
    assert!(kept.token(&[(TOLD, "a"), (PAGES, "b"), (TOLD, "a")], &["a"]).await);
    assert_eq!(kept.of(&["a", "b", "c"]).await, ["a", "b"]);
    assert!(kept.token(&[(TOLD, "a")], &[]).await, "told again, it is the same one");
    assert!(kept.of(&[]).await.is_empty());
    let other = Kept::on(kept.store.clone()).await;
    assert!(other.of(&["a"]).await.is_empty(), "another session's");
}

#[tokio::test]
async fn a_session_is_made_with_the_sets_of_its_first_token() {
    let kept = Kept::on(fresh_store().await).await;
    let device = kept.store.device(kept.account, "PHONE").await.unwrap().device_nid;
    let set = |purpose, id: &'static str| NewSet {
        set_id: id.as_bytes(),
        purpose,
        content: id.as_bytes(),
    };
    let sets = [set(TOLD, "a"), set(PAGES, "b"), set(TOLD, "a")];
    let made = kept.store.create_session(kept.account, device, b"{}", &sets, 2, 100).await.unwrap();
    let new = Kept { session: made.session_id, ..kept };
    assert_eq!(new.of(&["a", "b", "c"]).await, ["a", "b"]);
    // They are of its first turn: each later one brings others.
    for id in ["c", "d", "e"] {
        assert!(new.token(&[(TOLD, id)], &[]).await);
    }
    assert_eq!(new.of(&["a", "b", "c", "d", "e"]).await, ["b", "c", "d", "e"]);
}

#[tokio::test]
async fn sets_of_a_session_that_is_gone_are_not_kept() {
    let fresh = Fresh::database().await;
    let kept = Kept::on(fresh.store.clone()).await;
    kept.token(&[(TOLD, "a")], &[]).await;
    kept.store.remove_expired_sessions(i64::MAX, 10).await.unwrap();
    assert_eq!(fresh.count("SELECT COUNT(*) FROM session_sets").await, 0);
    assert!(!kept.token(&[(TOLD, "a")], &[]).await);
    assert_eq!(fresh.count("SELECT COUNT(*) FROM session_sets").await, 0);
}

#[tokio::test]
async fn an_old_token_loses_its_set_and_the_latest_never_does() {
    let kept = Kept::on(fresh_store().await).await;
    // One stream stays with its set for weeks, while two others change theirs with each reply.
    kept.token(&[(TOLD, "quiet")], &["quiet"]).await;
    for n in 0..20 {
        let (room, list) = (format!("room {n}"), format!("list {n}"));
        let brings = [(TOLD, room.as_str()), (TOLD, list.as_str())];
        assert!(kept.token(&brings, &["quiet", &room, &list]).await);
        assert_eq!(kept.of(&["quiet", &room, &list]).await.len(), 3, "the latest token's, {n}");
        let oldest_kept = n - (KEEP - 1);
        for old in 0..=n {
            let (room, list) = (format!("room {old}"), format!("list {old}"));
            let expected = if old >= oldest_kept { 2 } else { 0 };
            assert_eq!(kept.of(&[&room, &list]).await.len(), expected, "{old} after {n}");
        }
    }
    // Nobody names it any more.
    for n in 0..KEEP {
        let next = format!("next {n}");
        kept.token(&[(TOLD, &next)], &[&next]).await;
    }
    assert!(kept.of(&["quiet"]).await.is_empty());
    assert!(!kept.token(&[(TOLD, "x")], &["quiet", "x"]).await, "it cannot be named again");
}

#[tokio::test]
async fn of_large_sets_fewer_are_kept_but_always_those_of_the_last_two_tokens() {
    let kept = Kept::on(fresh_store().await).await;
    // Names are as long as what is in them: ten bytes.
    let kept = Kept { keep: Keep { turns: 32, bytes: 55 }, ..kept };
    let names: Vec<String> = (0..9).map(|n| format!("a set of {n}")).collect();
    for name in &names {
        assert!(kept.token(&[(TOLD, name)], &[name]).await);
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(kept.of(&all).await, all[4..]);

    let kept = Kept { keep: Keep { turns: 32, bytes: 1 }, ..kept };
    assert!(kept.token(&[(TOLD, "one more")], &["one more"]).await);
    assert_eq!(kept.of(&[&all[..], &["one more"]].concat()).await, [all[8], "one more"]);
}

#[tokio::test]
async fn each_kind_is_kept_by_itself() {
    let kept = Kept::on(fresh_store().await).await;
    kept.token(&[(TOLD, "told"), (PAGES, "pages")], &["told"]).await;
    for n in 0..10 {
        let told = format!("told {n}");
        kept.token(&[(TOLD, &told)], &[&told]).await;
    }
    assert_eq!(kept.of(&["told", "pages"]).await, ["pages"], "somebody may still turn its pages");
    let latest = "told 9";
    for n in 0..10 {
        let pages = format!("pages {n}");
        kept.token(&[(PAGES, &pages)], &[latest]).await;
    }
    assert_eq!(kept.of(&[latest, "pages", "pages 9"]).await, ["pages 9", latest]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_one_session_put_their_sets_at_once() {
    let fresh = Fresh::database().await;
    let kept = Kept::on(fresh.store.clone()).await;
    let tokens = (0..24).map(|n| {
        let kept = &kept;
        async move {
            let (one, other) = (format!("{}", n % 5), format!("{}", (n + 1) % 5));
            let brings = [(TOLD, one.as_str()), (TOLD, other.as_str())];
            assert!(kept.token(&brings, &[&one, &other]).await);
        }
    });
    futures_util::future::join_all(tokens).await;
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(fresh.count(deadlocks).await, 0);
    let turns = "SELECT MAX(last_named) FROM session_sets";
    assert_eq!(fresh.count(turns).await, 24, "one after the other");
}

#[tokio::test]
async fn sets_are_found_by_how_they_begin() {
    let kept = Kept::on(fresh_store().await).await;
    let sets = [(PAGES, "ab1"), (PAGES, "ab2"), (PAGES, "b"), (TOLD, "ab3")];
    assert!(kept.token(&sets, &[]).await);
    let found = async |beginnings: &[&[u8]]| {
        let found = kept.store.session_sets(kept.account, kept.session, &[], beginnings);
        let mut ids: Vec<Vec<u8>> =
            found.await.unwrap().into_iter().map(|set| set.set_id).collect();
        ids.sort();
        ids
    };
    assert_eq!(found(&[b"ab"]).await, [b"ab1", b"ab2", b"ab3"]);
    assert_eq!(found(&[b"a", b"b"]).await, [b"ab1", b"ab2", b"ab3"]);
    assert!(found(&[b"abc", b"ab11"]).await.is_empty());
    assert!(found(&[]).await.is_empty());
}
