//! Bodies of requests and responses, whole or streamed, under one type.
//!
//! Neighbours: everything that answers. It must not know what is in a body.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::error::Error;

/// An error of any kind, from whoever produces or carries a body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every response, and of every forwarded request.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body with something that ends when it does: when it is sent, or nobody wants it any more.
pub(crate) struct With<T> {
    body: Body,
    _held: T,
}

impl<T> With<T> {
    pub(crate) fn new(body: Body, held: T) -> Self {
        Self { body, _held: held }
    }
}

impl<T: Unpin> HttpBody for With<T> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that is at hand.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// No body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

/// A body that is still being written: it ends when the sender is dropped, and breaks off at an error. The channel's
/// bound is what keeps a fast writer from filling the memory for a slow reader.
pub(crate) fn stream(chunks: mpsc::Receiver<Result<Bytes, BoxError>>) -> Body {
    let frames = stream::unfold(chunks, |mut chunks| async move {
        let chunk = chunks.recv().await?;
        Some((chunk.map(Frame::data), chunks))
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// How much of a body that is too large is read and thrown away, and for how long: a client that gets
/// its answer while it still sends may lose it.
const DISCARD: usize = 64 << 20;
const DISCARD_FOR: Duration = Duration::from_secs(10);

/// Reads a client's body into memory: up to `max` bytes, and for no longer than `patience`.
pub(crate) async fn read_limited<B>(
    body: B,
    max: usize,
    patience: Option<Duration>,
) -> Result<Bytes, Error>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let body = pin!(body);
    match patience {
        Some(patience) => {
            timeout(patience, read(body, max)).await.map_err(|_| Error::RequestTimeout)?
        }
        None => read(body, max).await,
    }
}

async fn read<B>(mut body: Pin<&mut B>, max: usize) -> Result<Bytes, Error>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut read = BytesMut::new();
    if body.size_hint().lower() > max as u64 {
        discard(body).await;
        return Err(Error::TooLarge);
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::NotJson("The request body broke off".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > max {
            discard(body).await;
            return Err(Error::TooLarge);
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

/// Reads the rest of a body, within bounds, and forgets it.
async fn discard<B: HttpBody<Data = Bytes>>(mut body: Pin<&mut B>) {
    let mut discarded = 0;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            discarded += frame.data_ref().map_or(0, Bytes::len);
            if discarded > DISCARD {
                break;
            }
        }
    };
    // Whoever takes longer may lose the answer.
    let _ = timeout(DISCARD_FOR, reading).await;
}

fn never(never: Infallible) -> BoxError {
    match never {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_streamed_body_has_all_its_chunks() {
        let (sender, receiver) = mpsc::channel(1);
        let writer = async move {
            for chunk in ["one ", "two"] {
                sender
                    .send(Ok(Bytes::from_static(chunk.as_bytes())))
                    .await
                    .expect("the reader is there");
            }
        };
        let (read, ()) = tokio::join!(read_limited(stream(receiver), 100, None), writer);
        assert_eq!(read.expect("short enough"), "one two");
    }

    #[tokio::test]
    async fn a_body_above_the_limit_is_refused() {
        assert!(matches!(read_limited(full("12345"), 4, None).await, Err(Error::TooLarge)));
        assert_eq!(read_limited(full("1234"), 4, None).await.expect("just short enough"), "1234");
        let (sender, receiver) = mpsc::channel(2);
        sender.try_send(Ok(Bytes::from_static(b"12345"))).expect("there is room");
        drop(sender);
        assert!(matches!(read_limited(stream(receiver), 4, None).await, Err(Error::TooLarge)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_takes_too_long_is_refused() {
        let (sender, receiver) = mpsc::channel(2);
        sender.try_send(Ok(Bytes::from_static(b"1"))).expect("there is room");
        let read = read_limited(stream(receiver), 4, Some(Duration::from_mins(1))).await;
        assert!(matches!(read, Err(Error::RequestTimeout)));
        drop(sender);
    }
}
