//! A connection that must move: the head of a request has to end soon after it began, and a reply has to be taken.
//!
//! The HTTP library counts its time for a head from the end of the request before, and so cannot tell a client that says
//! nothing between two requests from one that sends a head byte by byte. Here the count begins with the first byte.
//!
//! Neighbours: `connection` wraps every stream, and says when a request has been read and its reply is done.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::reply::last_words;
use crate::client_limits::ClientLimits;
use crate::error::Error;
use crate::metrics::Metrics;

/// Nothing of the next request has come.
const IDLE: u8 = 0;
/// Its head has begun.
const HEAD: u8 = 1;
/// It is being answered.
const BUSY: u8 = 2;

/// Where a connection is. Shared by its stream and its requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<AtomicU8>);

/// A request that is being answered. When this is dropped the connection is idle again.
#[derive(Debug)]
pub(super) struct Answering(Phase);

impl Phase {
    /// The head of a request has been read.
    pub(super) fn answering(&self) -> Answering {
        self.set(BUSY);
        Answering(self.clone())
    }

    fn is(&self, phase: u8) -> bool {
        self.0.load(Ordering::Acquire) == phase
    }

    fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Release);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.set(IDLE);
    }
}

/// A stream with its clocks.
pub(super) struct Paced<I> {
    io: I,
    phase: Phase,
    head: Clock,
    reply: Clock,
    metrics: Metrics,
}

/// Runs while something is waited for.
struct Clock {
    limit: Option<Duration>,
    running: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    fn new(limit: Option<Duration>) -> Self {
        Self { limit, running: None }
    }

    fn stop(&mut self) {
        self.running = None;
    }

    /// Starts it if it does not run yet. `true` when its time is up; before that, it wakes the task then.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(limit) = self.limit else { return false };
        let running = self.running.get_or_insert_with(|| Box::pin(sleep(limit)));
        running.as_mut().poll(cx).is_ready()
    }
}

impl<I> Paced<I> {
    pub(super) fn new(io: I, phase: Phase, limits: &ClientLimits, metrics: &Metrics) -> Self {
        let (head, reply) = (Clock::new(limits.head_timeout), Clock::new(limits.reply_timeout));
        Self { io, phase, head, reply, metrics: metrics.clone() }
    }

    /// A write that is done, or one whose client has taken nothing for too long.
    fn taken<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.reply.stop();
        } else if self.reply.is_over(cx) {
            tracing::debug!("a client takes nothing of its reply: cut off");
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Paced<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if self.phase.is(IDLE) {
            self.head.stop();
            if buf.filled().len() > before {
                self.phase.set(HEAD);
            }
        }
        if self.phase.is(HEAD) && self.head.is_over(cx) {
            self.metrics.failed(Error::RequestTimeout.name());
            // Between two requests there is nothing else to write. Who does not take it at once goes without it.
            let _ = Pin::new(&mut self.io).poll_write(cx, &last_words(Error::RequestTimeout));
            let _ = Pin::new(&mut self.io).poll_flush(cx);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Paced<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.taken(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.taken(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.taken(cx, shut)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.taken(cx, written)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
    const REPLY_TIMEOUT: Duration = Duration::from_mins(5);

    fn stream() -> (Paced<DuplexStream>, Phase, DuplexStream) {
        let (ours, theirs) = duplex(1024);
        let phase = Phase::default();
        let limits = ClientLimits {
            head_timeout: Some(HEAD_TIMEOUT),
            reply_timeout: Some(REPLY_TIMEOUT),
            ..ClientLimits::none()
        };
        let paced = Paced::new(ours, phase.clone(), &limits, &Metrics::new());
        (paced, phase, theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_must_end_soon_after_it_began() {
        let (mut paced, _, mut client) = stream();
        let dripping = async {
            // Nothing for a minute is an idle connection.
            sleep(Duration::from_mins(1)).await;
            let begun = Instant::now();
            loop {
                if client.write_all(b"x").await.is_err() {
                    return begun.elapsed();
                }
                sleep(Duration::from_secs(1)).await;
                let mut answer = [0; 1024];
                let mut answer = ReadBuf::new(&mut answer);
                let mut cx = Context::from_waker(std::task::Waker::noop());
                if Pin::new(&mut client).poll_read(&mut cx, &mut answer).is_ready() {
                    assert!(answer.filled().starts_with(b"HTTP/1.1 408 "), "{answer:?}");
                    return begun.elapsed();
                }
            }
        };
        let reading = async {
            let mut byte = [0; 1];
            loop {
                if let Err(error) = paced.read(&mut byte).await {
                    return error.kind();
                }
            }
        };
        let (kind, took) = tokio::join!(reading, dripping);
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert!(took >= HEAD_TIMEOUT && took < HEAD_TIMEOUT * 2, "{took:?}");
        let exposed = paced.metrics.expose(None).expect("it is text");
        let line = r#"syncv3_errors_total{error="request_timeout"} 1"#;
        assert!(exposed.lines().any(|found| found == line), "{exposed}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_take_longer_than_a_head() {
        let (mut paced, phase, mut client) = stream();
        client.write_all(b"h").await.expect("there is room");
        let mut byte = [0; 1];
        paced.read_exact(&mut byte).await.expect("the head is read");
        let answering = phase.answering();
        tokio::join!(
            async { paced.read_exact(&mut byte).await.expect("the body is read") },
            async {
                sleep(HEAD_TIMEOUT * 3).await;
                client.write_all(b"b").await.expect("there is room");
            }
        );
        drop(answering);
        assert!(phase.is(IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_nobody_takes_is_cut_off() {
        let (mut paced, _, mut client) = stream();
        let begun = Instant::now();
        let refused = paced.write_all(&[0; 4096]).await.expect_err("nobody reads");
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), REPLY_TIMEOUT.as_secs());

        // Who takes a little now and then is not cut off.
        let (mut paced, _, mut slow) = stream();
        let (written, ()) = tokio::join!(paced.write_all(&[0; 4096]), async {
            let mut piece = [0; 512];
            for _ in 0..8 {
                sleep(REPLY_TIMEOUT / 2).await;
                slow.read_exact(&mut piece).await.expect("there is more");
            }
        });
        written.expect("all of it was taken");
        drop(client.shutdown().await);
    }
}
