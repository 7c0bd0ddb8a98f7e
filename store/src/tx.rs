//! The one way to the database: named transactions, read-only snapshots and single statements.
//!
//! The name of the operation goes into its errors, its span, and the log where it is slow. Statements are
//! prepared once per connection. Those that need not wait for each other's answers go there together, as a [`Flight`].
//! What is dropped before its end, a transaction or a single statement, takes its connection with it, so that a cancelled request
//! can leave nothing half done behind in the pool, and nothing that the next one would have to wait for.

mod flight;

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use deadpool_postgres::Object;
use futures_util::TryStreamExt;
use tokio_postgres::{Row, types::ToSql};
use tracing::{Instrument, Span};

use self::flight::Bounds;
pub(crate) use self::flight::{Answers, Flight, Param, Seat, Statement, params};
use crate::{Error, Observation, Store, mark, observe::Observer};

/// Parameters of a statement that is sent at once.
pub(crate) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// What takes longer than this is told to the operator.
const SLOW: Duration = Duration::from_secs(5);

const BEGIN: &str = "BEGIN";
const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What each connection begins with.
///
/// The server ends a transaction of a process that stands still, or of a machine that is gone: nobody else waits longer for
/// the rows that it has locked.
///
/// Every statement here is written for an index. While its tables are small, or their statistics old, Postgres would rather
/// read them through, and it keeps such a plan with the prepared statement when they have long grown. What
/// it is kept from doing counts as so dear that it would compile the few statements that cannot do without.
pub(crate) const ON_CONNECT: &str = "SET idle_in_transaction_session_timeout = 15000;
    SET jit = off;
    SET enable_seqscan = off";

/// What each connection asks for beside that, where the server knows it: before version 14 there is no such setting, and on
/// some systems no such check.
///
/// The server ends a statement whose process has closed the connection, which it would not notice before the statement's end:
/// whoever gives up and asks again has one under way, and not one for each time.
pub(crate) const IF_KNOWN: &str = "SET client_connection_check_interval = 1000";

/// An open transaction. Ends with [`Tx::commit`].
pub(crate) struct Tx {
    client: Option<Object>,
    operation: Operation,
}

/// A connection that is had for longer than one transaction. Who needs a second one while it holds locks takes it before it locks:
/// those who have all others may be waiting for these locks, and the server cannot see that the holder waits for them.
pub(crate) struct Reserved {
    client: Option<Object>,
}

/// What runs: its name, who counts it, and its span.
struct Operation {
    name: &'static str,
    observer: Observer,
    span: Span,
}

impl Store {
    /// Opens a read-write transaction (read committed).
    pub(crate) async fn tx(&self, name: &'static str) -> Result<Tx, Error> {
        self.begin(name).await
    }

    /// Runs statements that only read, all of them as of one moment, on one way there and back.
    pub(crate) async fn read_together(
        &self,
        name: &'static str,
        flight: &Flight<'_>,
    ) -> Result<Answers, Error> {
        let operation = self.operation(name);
        let client = self.connection(&operation).await?;
        let tx = Tx { client: Some(client), operation };
        tx.fly_within(flight, Bounds { begin: Some(BEGIN_SNAPSHOT), commit: true }).await
    }

    /// Opens a read-write transaction together with its first statements. Should the opening fail, they run nevertheless, each
    /// by itself: so they must not write anything that counts without what follows.
    pub(crate) async fn tx_with(
        &self,
        name: &'static str,
        flight: &Flight<'_>,
    ) -> Result<(Tx, Answers), Error> {
        let reserved = self.reserve(name).await?;
        self.tx_on(name, reserved, flight).await
    }

    /// Takes a connection out of the pool, for the transactions of an operation.
    pub(crate) async fn reserve(&self, name: &'static str) -> Result<Reserved, Error> {
        let client = self.connection(&self.operation(name)).await?;
        Ok(Reserved { client: Some(client) })
    }

    /// [`Store::tx_with`] on this connection.
    pub(crate) async fn tx_on(
        &self,
        name: &'static str,
        mut reserved: Reserved,
        flight: &Flight<'_>,
    ) -> Result<(Tx, Answers), Error> {
        let tx = Tx { client: reserved.client.take(), operation: self.operation(name) };
        let bounds = Bounds { begin: Some(BEGIN), commit: false };
        let answers = tx.operation.fly(tx.client(), flight, bounds).await?;
        Ok((tx, answers))
    }

    /// Runs a single statement that is a transaction by itself, with the marks of one.
    pub(crate) async fn write(
        &self,
        name: &'static str,
        statement: Statement<'_>,
    ) -> Result<Vec<Row>, Error> {
        let operation = self.operation(name);
        let client = self.connection(&operation).await?;
        // Whoever is cancelled, or gets an error, takes the connection along.
        let tx = Tx { client: Some(client), operation };
        let mut flight = Flight::default();
        let seat = flight.add(statement);
        mark::reached(name, "before_commit");
        let mut answers = tx.fly_within(&flight, Bounds::default()).await?;
        Ok(answers.take(seat))
    }

    /// Runs a single statement outside any transaction.
    pub(crate) async fn query(
        &self,
        name: &'static str,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        self.query_on(None, name, sql, params).await
    }

    /// The same, on this connection if one is given.
    pub(crate) async fn query_on(
        &self,
        reserved: Option<&Reserved>,
        name: &'static str,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        let operation = self.operation(name);
        if let Some(reserved) = reserved {
            return operation.run(query(reserved.client(), sql, params)).await;
        }
        let one = Reserved { client: Some(self.connection(&operation).await?) };
        let outcome = operation.run(query(one.client(), sql, params)).await;
        one.release();
        outcome
    }

    async fn begin(&self, name: &'static str) -> Result<Tx, Error> {
        let operation = self.operation(name);
        let client = self.connection(&operation).await?;
        // From here on the connection is the transaction's: whoever is cancelled while it begins takes
        // the connection along, as in the middle of it.
        let tx = Tx { client: Some(client), operation };
        tx.operation.run(tx.client().batch_execute(BEGIN)).await?;
        Ok(tx)
    }

    fn operation(&self, name: &'static str) -> Operation {
        let span = tracing::debug_span!("store", operation = name);
        Operation { name, observer: self.observer.clone(), span }
    }

    async fn connection(&self, operation: &Operation) -> Result<Object, Error> {
        let asked = Instant::now();
        let got = self.pool.get().instrument(operation.span.clone()).await;
        let waited = asked.elapsed();
        self.observer.tell(Observation::Connection { waited, got: got.is_ok() });
        if waited > SLOW {
            tracing::warn!(operation = operation.name, ?waited, "waited long for a connection");
        }
        Ok(got?)
    }
}

impl Operation {
    /// Runs a statement of it.
    async fn run<T>(
        &self,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        self.observer.tell(Observation::RoundTrip);
        // Boxed, so that transactions of many statements stay small: each would be held here twice.
        let outcome = Box::pin(statement.instrument(self.span.clone())).await;
        self.took(begun.elapsed(), outcome.is_err());
        outcome.map_err(|source| self.failed(source))
    }

    /// A statement has ended.
    fn took(&self, took: Duration, failed: bool) {
        self.observer.tell(Observation::Statement { took, failed });
        if took > SLOW {
            tracing::warn!(operation = self.name, ?took, "a slow statement");
        }
    }

    fn failed(&self, source: tokio_postgres::Error) -> Error {
        Error::Db { name: self.name, source }
    }
}

impl Tx {
    /// Runs one statement and gives its rows.
    pub(crate) async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        self.operation.run(query(self.client(), sql, params)).await
    }

    /// Runs one statement that gives at most one row.
    pub(crate) async fn query_opt(
        &self,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Option<Row>, Error> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    /// Runs one statement and gives the number of rows it touched.
    pub(crate) async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, Error> {
        let client = self.client();
        let statement = async { client.execute(&client.prepare_cached(sql).await?, params).await };
        self.operation.run(statement).await
    }

    /// Runs statements in their order, on one way there and back. After an error the transaction is over.
    pub(crate) async fn fly(&self, flight: &Flight<'_>) -> Result<Answers, Error> {
        if flight.is_empty() {
            return Ok(Answers::default());
        }
        self.operation.fly(self.client(), flight, Bounds::default()).await
    }

    /// Runs the last statements of the transaction, and makes what it did durable, on one way there and back.
    pub(crate) async fn fly_and_commit(self, flight: &Flight<'_>) -> Result<Answers, Error> {
        self.fly_within(flight, Bounds { begin: None, commit: true }).await
    }

    async fn fly_within(mut self, flight: &Flight<'_>, bounds: Bounds) -> Result<Answers, Error> {
        let answers = self.operation.fly(self.client(), flight, bounds).await?;
        mark::reached(self.operation.name, "after_commit");
        // The connection is clean again: it goes back to the pool.
        drop(self.client.take());
        Ok(answers)
    }

    /// Ends the transaction and makes what it did durable.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        self.commit_and_keep().await?.release();
        Ok(())
    }

    /// The same, and keeps the connection for what comes next.
    pub(crate) async fn commit_and_keep(mut self) -> Result<Reserved, Error> {
        mark::reached(self.operation.name, "before_commit");
        self.operation.run(self.client().batch_execute("COMMIT")).await?;
        mark::reached(self.operation.name, "after_commit");
        Ok(Reserved { client: self.client.take() })
    }

    fn client(&self) -> &Object {
        self.client.as_ref().expect("the connection is taken only by commit, which consumes self")
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        close(self.client.take());
    }
}

impl Reserved {
    /// Nothing is under way on it: it goes back to the pool.
    pub(crate) fn release(mut self) {
        drop(self.client.take());
    }

    fn client(&self) -> &Object {
        self.client.as_ref().expect("the connection is taken only by what consumes self")
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        close(self.client.take());
    }
}

/// Closing the connection is what rolls back, and what ends a statement for its next user, whatever state it is in.
fn close(client: Option<Object>) {
    if let Some(client) = client {
        drop(Object::take(client));
    }
}

async fn query(
    client: &Object,
    sql: &str,
    params: Params<'_>,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query_raw(&statement, params.iter().copied()).await?;
    pin!(rows).try_collect().await
}
