//! The one way to the database: named transactions, read-only snapshots and single statements.
//!
//! The name of the operation goes into its errors. Statements are prepared once per connection. A
//! transaction that is dropped before its end takes its connection with it, so that a cancelled
//! request can leave nothing half done behind in the pool.

use std::pin::pin;

use deadpool_postgres::Object;
use futures_util::TryStreamExt;
use tokio_postgres::{Row, types::ToSql};

use crate::{Error, Store};

/// Parameters of a statement.
pub(crate) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// An open transaction. Ends with [`Tx::commit`].
pub(crate) struct Tx {
    client: Option<Object>,
    name: &'static str,
}

impl Store {
    /// Opens a read-write transaction (read committed).
    pub(crate) async fn tx(&self, name: &'static str) -> Result<Tx, Error> {
        self.begin(name, "BEGIN").await
    }

    /// Opens a read-only snapshot: every statement in it sees the same moment.
    pub(crate) async fn snapshot(&self, name: &'static str) -> Result<Tx, Error> {
        self.begin(name, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    /// Runs a single statement outside any transaction.
    pub(crate) async fn query(
        &self,
        name: &'static str,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        let client = self.pool.get().await?;
        run(&client, name, sql, params).await
    }

    async fn begin(&self, name: &'static str, sql: &str) -> Result<Tx, Error> {
        let client = self.pool.get().await?;
        // From here on the connection is the transaction's: whoever is cancelled while it begins takes
        // the connection along, as in the middle of it.
        let tx = Tx { client: Some(client), name };
        tx.client().batch_execute(sql).await.map_err(|source| tx.error(source))?;
        Ok(tx)
    }
}

impl Tx {
    /// Runs one statement and gives its rows.
    pub(crate) async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        run(self.client(), self.name, sql, params).await
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
        let statement = client.prepare_cached(sql).await.map_err(|source| self.error(source))?;
        client.execute(&statement, params).await.map_err(|source| self.error(source))
    }

    /// Ends the transaction and makes what it did durable.
    pub(crate) async fn commit(mut self) -> Result<(), Error> {
        let committed = self.client().batch_execute("COMMIT").await;
        match committed {
            Ok(()) => {
                // The connection is clean again: it goes back to the pool.
                drop(self.client.take());
                Ok(())
            }
            Err(source) => Err(self.error(source)),
        }
    }

    fn client(&self) -> &Object {
        self.client.as_ref().expect("the connection is taken only by commit, which consumes self")
    }

    fn error(&self, source: tokio_postgres::Error) -> Error {
        Error::Db { name: self.name, source }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            // Closing the connection is what rolls back, whatever state it is in.
            drop(Object::take(client));
        }
    }
}

async fn run(
    client: &Object,
    name: &'static str,
    sql: &str,
    params: Params<'_>,
) -> Result<Vec<Row>, Error> {
    let wrap = |source| Error::Db { name, source };
    let statement = client.prepare_cached(sql).await.map_err(wrap)?;
    let rows = client.query_raw(&statement, params.iter().copied()).await.map_err(wrap)?;
    pin!(rows).try_collect().await.map_err(wrap)
}
