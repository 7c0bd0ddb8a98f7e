//! Statements that go to the server together, and are answered in their order: one way there and back for all of them.
//!
//! The server runs them one after the other, each as if it had been sent alone. So none may need another's answer, and what
//! matters most is checked between two flights. It must not know what the statements are about.

use std::{
    future::{poll_fn, ready},
    pin::{Pin, pin},
    task::Poll,
    time::Instant,
};

use deadpool_postgres::Object;
use futures_util::{TryStreamExt, future::try_join_all};
use tokio_postgres::{Row, types::ToSql};
use tracing::Instrument;

use super::Operation;
use crate::{Error, Observation, mark};

/// A parameter that its statement owns.
pub(crate) type Param<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// The parameters of a statement, in order.
macro_rules! params {
    ($($param:expr),* $(,)?) => {
        vec![$(Box::new($param) as $crate::tx::Param<'_>),*]
    };
}
pub(crate) use params;

/// A statement that is yet to be sent.
pub(crate) struct Statement<'a> {
    sql: &'static str,
    params: Vec<Param<'a>>,
}

impl<'a> Statement<'a> {
    pub(crate) fn new(sql: &'static str, params: Vec<Param<'a>>) -> Self {
        Self { sql, params }
    }
}

/// Statements in the order in which they run.
#[derive(Default)]
pub(crate) struct Flight<'a> {
    statements: Vec<Statement<'a>>,
}

/// Where the answer to a statement of a flight is found; one that was not needed has no rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seat(Option<usize>);

impl<'a> Flight<'a> {
    /// Adds a statement, if there is one, behind those that are there.
    pub(crate) fn add(&mut self, statement: impl Into<Option<Statement<'a>>>) -> Seat {
        let seat = statement.into().map(|statement| {
            self.statements.push(statement);
            self.statements.len() - 1
        });
        Seat(seat)
    }

    /// Whether there is nothing to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }
}

/// What the statements of a flight gave.
#[derive(Default)]
pub(crate) struct Answers(Vec<Vec<Row>>);

impl Answers {
    /// The rows of one, which are then here no longer.
    pub(crate) fn take(&mut self, seat: Seat) -> Vec<Row> {
        seat.0.and_then(|seat| self.0.get_mut(seat)).map(std::mem::take).unwrap_or_default()
    }
}

/// What a flight is to its transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    /// What opens the transaction, in front of all others. If that fails the others still run, each by itself: so the first
    /// flight of a transaction writes nothing that counts.
    pub(super) begin: Option<&'static str>,
    /// Whether a `COMMIT` goes behind them.
    pub(super) commit: bool,
}

type Sent<'f> = Pin<Box<dyn Future<Output = Result<Vec<Row>, tokio_postgres::Error>> + Send + 'f>>;

impl Operation {
    /// Sends the statements of a flight, and waits for all answers.
    ///
    /// Gives the error of the first that fails: those behind it can only say that the transaction is aborted, and a `COMMIT`
    /// there ends it without an error. What fails before it is sent keeps all behind it from being sent, the `COMMIT`
    /// first of all. Whoever gets an error has to give the connection up.
    pub(super) async fn fly(
        &self,
        client: &Object,
        flight: &Flight<'_>,
        bounds: Bounds,
    ) -> Result<Answers, Error> {
        // Boxed, so that transactions of many statements stay small: each would be held here twice.
        Box::pin(self.send(client, flight, bounds).instrument(self.span.clone())).await
    }

    async fn send(
        &self,
        client: &Object,
        flight: &Flight<'_>,
        bounds: Bounds,
    ) -> Result<Answers, Error> {
        // The first time on a connection, which takes a way there and back.
        let prepared =
            flight.statements.iter().map(|statement| client.prepare_cached(statement.sql));
        let prepared = try_join_all(prepared).await.map_err(|source| self.failed(source))?;
        let statements = flight.statements.iter().zip(&prepared);
        let begin = bounds.begin.map(|begin| plain(client, begin));
        let commit = bounds.commit.then(|| plain(client, "COMMIT"));
        let queue = begin
            .into_iter()
            .chain(statements.map(|(statement, prepared)| run(client, prepared, statement)))
            .chain(commit);
        let last = flight.statements.len() + usize::from(bounds.begin.is_some());
        let mut begun = Instant::now();
        self.observer.tell(Observation::RoundTrip);
        // Each is sent where it is first polled, and nothing is waited for in between: their order is this one, and nobody
        // can be cancelled half-way.
        let mut sent = Vec::with_capacity(last + 1);
        for (place, mut statement) in queue.enumerate() {
            if place == last {
                mark::reached(self.name, "before_commit");
            }
            match poll_fn(|context| Poll::Ready(statement.as_mut().poll(context))).await {
                Poll::Pending => sent.push(statement),
                Poll::Ready(Ok(rows)) => sent.push(Box::pin(ready(Ok(rows)))),
                Poll::Ready(Err(source)) => {
                    self.took(begun.elapsed(), true);
                    return Err(self.failed(source));
                }
            }
        }
        let mut answers = Vec::with_capacity(sent.len());
        for answer in sent {
            let answer = answer.await;
            let took = begun.elapsed();
            begun += took;
            self.took(took, answer.is_err());
            answers.push(answer.map_err(|source| self.failed(source))?);
        }
        if bounds.begin.is_some() {
            answers.remove(0);
        }
        Ok(Answers(answers))
    }
}

fn run<'f>(
    client: &'f Object,
    prepared: &'f tokio_postgres::Statement,
    statement: &'f Statement<'_>,
) -> Sent<'f> {
    Box::pin(async move {
        let params = statement.params.iter().map(|param| &**param as &(dyn ToSql + Sync));
        let rows = client.query_raw(prepared, params).await?;
        pin!(rows).try_collect().await
    })
}

/// A statement that has no parameters and gives nothing.
fn plain<'f>(client: &'f Object, sql: &'static str) -> Sent<'f> {
    Box::pin(async move {
        client.batch_execute(sql).await?;
        Ok(Vec::new())
    })
}
