//! Answers that are not syncs, and gates that hold them.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use tokio::sync::watch;

/// The body of any answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Something closed that the test can open. Dropping it opens it too.
#[derive(Debug)]
pub struct Gate(watch::Sender<bool>);

/// An answer that is always the same.
#[derive(Debug, Clone)]
pub struct Canned {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) pieces: Vec<Bytes>,
    pub(super) hold_after_first: Option<watch::Receiver<bool>>,
    pub(super) hold_all: Option<watch::Receiver<bool>>,
}

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self(watch::channel(false).0)
    }

    /// Lets everything pass.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}

impl Canned {
    /// A 200 with JSON.
    pub fn json(body: &Value) -> Self {
        Self::bytes(200, body.to_string()).header("content-type", "application/json")
    }

    /// Any status with any body.
    pub fn bytes(status: u16, body: impl Into<Bytes>) -> Self {
        let pieces = vec![body.into()];
        Self { status, headers: Vec::new(), pieces, hold_after_first: None, hold_all: None }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a piece to the body, which is then sent in chunks.
    #[must_use]
    pub fn then(mut self, piece: impl Into<Bytes>) -> Self {
        self.pieces.push(piece.into());
        self
    }

    /// Sends the first piece at once, and the others when the gate opens.
    #[must_use]
    pub fn held_by(mut self, gate: &Gate) -> Self {
        self.hold_after_first = Some(gate.watch());
        self
    }

    /// Answers when the gate opens.
    #[must_use]
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.hold_all = Some(gate.watch());
        self
    }

    pub(super) fn into_body(self) -> Body {
        let mut gate = self.hold_after_first;
        let mut pieces = self.pieces;
        if pieces.len() == 1 && gate.is_none() {
            return whole(pieces.remove(0));
        }
        let (first, rest) = (pieces.remove(0), pieces);
        let rest = stream::once(async move {
            if let Some(gate) = &mut gate {
                pass(gate).await;
            }
            stream::iter(rest)
        })
        .flatten();
        let frames = stream::iter([first]).chain(rest).map(|piece| Ok(Frame::data(piece)));
        StreamBody::new(frames).boxed_unsync()
    }
}

/// Waits until a gate is open, or its test has ended.
pub(super) async fn pass(gate: &mut watch::Receiver<bool>) {
    gate.wait_for(|open| *open).await.ok();
}

/// A body sent in one piece.
pub(super) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body in pieces of a few bytes, with a pause between them.
pub(super) fn dripping(bytes: &Bytes) -> Body {
    let size = (bytes.len() / 20).max(1);
    let pieces: Vec<Bytes> = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
    let frames = stream::iter(pieces).then(|piece| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(Frame::data(piece))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Half of a body, and then an error that makes the server close the connection.
pub(super) fn broken_off(bytes: &Bytes) -> Body {
    let half = bytes.slice(..bytes.len() / 2);
    let frames =
        stream::iter([Ok(Frame::data(half)), Err(io::Error::other("scripted to break off"))]);
    StreamBody::new(frames).boxed_unsync()
}

/// An object of about so many bytes, made while it is sent.
pub(super) fn huge(length: usize) -> Body {
    const PIECE: usize = 64 * 1024;
    let padding = Bytes::from(vec![b'x'; PIECE]);
    let pieces = std::iter::repeat_n(padding, length.div_ceil(PIECE));
    let (open, close) = (Bytes::from_static(br#"{"padding":""#), Bytes::from_static(br#""}"#));
    let pieces = std::iter::once(open).chain(pieces).chain(std::iter::once(close));
    StreamBody::new(stream::iter(pieces.map(|piece| Ok(Frame::data(piece))))).boxed_unsync()
}
