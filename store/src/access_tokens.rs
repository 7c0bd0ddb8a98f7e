//! Table `access_tokens`: tokens that their clients have used, sealed by the proxy.
//!
//! This module sees hashes and sealed bytes only; the key never comes here.

use crate::{AccountId, DeviceNid, Error, Store};

/// A stored token and whose it is.
#[derive(Clone, Debug)]
pub struct StoredToken {
    /// Keyed hash of the token.
    pub token_hash: Vec<u8>,
    /// The sealed token.
    pub sealed: Vec<u8>,
    /// Whose account.
    pub account_id: AccountId,
    /// The user of the account.
    pub user_id: String,
    /// Whose device.
    pub device_nid: DeviceNid,
    /// The device's Matrix ID.
    pub device_id: String,
}

const SELECT: &str =
    "SELECT t.token_hash, t.sealed, t.account_id, a.user_id, t.device_nid, d.device_id
     FROM access_tokens t
     JOIN accounts a ON a.account_id = t.account_id
     JOIN devices d ON d.device_nid = t.device_nid";

impl Store {
    /// Keeps a token that its client has just used. `now` is in milliseconds.
    pub async fn put_token(
        &self,
        account_id: AccountId,
        device_nid: DeviceNid,
        token_hash: &[u8],
        sealed: &[u8],
        now: i64,
    ) -> Result<(), Error> {
        self.query(
            "access_tokens::put_token",
            "-- access_tokens::put_token
            INSERT INTO access_tokens (token_hash, account_id, device_nid, sealed, last_used_at)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (token_hash) DO UPDATE
            SET account_id = EXCLUDED.account_id,
                device_nid = EXCLUDED.device_nid,
                sealed = EXCLUDED.sealed,
                last_used_at = EXCLUDED.last_used_at",
            &[&token_hash, &account_id.0, &device_nid.0, &sealed, &now],
        )
        .await?;
        Ok(())
    }

    /// Whose a token is, by its keyed hash.
    pub async fn token(&self, token_hash: &[u8]) -> Result<Option<StoredToken>, Error> {
        let sql = format!("-- access_tokens::token\n{SELECT} WHERE t.token_hash = $1");
        let rows = self.query("access_tokens::token", &sql, &[&token_hash]).await?;
        Ok(rows.first().map(token_of))
    }

    /// The latest token of each device of these accounts that has one: what polling for them begins with. Devices
    /// that run a main poll come first.
    pub async fn latest_tokens(&self, accounts: &[AccountId]) -> Result<Vec<StoredToken>, Error> {
        let ids: Vec<i64> = accounts.iter().map(|id| id.0).collect();
        let sql = format!(
            "-- access_tokens::latest_tokens
            {SELECT}
            WHERE d.account_id = ANY($1) AND NOT EXISTS (
                SELECT 1
                FROM access_tokens newer
                WHERE newer.device_nid = t.device_nid
                    AND (newer.last_used_at, newer.token_hash) > (t.last_used_at, t.token_hash)
            )
            ORDER BY (a.main_device_nid = t.device_nid) DESC NULLS LAST, t.device_nid"
        );
        let rows = self.query("access_tokens::latest_tokens", &sql, &[&ids]).await?;
        Ok(rows.iter().map(token_of).collect())
    }

    /// The latest token of a device, if it has one.
    pub async fn latest_token_of(&self, device: DeviceNid) -> Result<Option<StoredToken>, Error> {
        let sql = format!(
            "-- access_tokens::latest_token_of
            {SELECT}
            WHERE t.device_nid = $1
            ORDER BY t.last_used_at DESC, t.token_hash DESC
            LIMIT 1"
        );
        let rows = self.query("access_tokens::latest_token_of", &sql, &[&device.0]).await?;
        Ok(rows.first().map(token_of))
    }

    /// Forgets a token that upstream no longer knows. Its device and data stay.
    pub async fn remove_token(&self, token_hash: &[u8]) -> Result<(), Error> {
        self.query(
            "access_tokens::remove_token",
            "-- access_tokens::remove_token
            DELETE FROM access_tokens WHERE token_hash = $1",
            &[&token_hash],
        )
        .await?;
        Ok(())
    }

    /// Forgets all tokens of a device: nothing polls for it until a client brings one. Its data stays.
    pub async fn remove_tokens_of(&self, device: DeviceNid) -> Result<(), Error> {
        self.query(
            "access_tokens::remove_tokens_of",
            "-- access_tokens::remove_tokens_of
            DELETE FROM access_tokens WHERE device_nid = $1",
            &[&device.0],
        )
        .await?;
        Ok(())
    }

    /// Forgets tokens not used since `before` (milliseconds) whose devices have a newer one: those that
    /// were rotated away. One that is still good is learnt again when its client uses it.
    pub async fn remove_superseded_tokens(&self, before: i64) -> Result<usize, Error> {
        let rows = self
            .query(
                "access_tokens::remove_superseded_tokens",
                "-- access_tokens::remove_superseded_tokens
                DELETE FROM access_tokens t
                WHERE t.last_used_at < $1
                    AND EXISTS (
                        SELECT 1
                        FROM access_tokens newer
                        WHERE newer.device_nid = t.device_nid
                            AND newer.last_used_at > t.last_used_at
                    )
                RETURNING t.token_hash",
                &[&before],
            )
            .await?;
        Ok(rows.len())
    }

    /// Any stored token, hash and sealed bytes: to try whether the secret is the one they were sealed
    /// with.
    pub async fn any_sealed_token(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>, Error> {
        let rows = self
            .query(
                "access_tokens::any_sealed_token",
                "-- access_tokens::any_sealed_token
                SELECT token_hash, sealed FROM access_tokens LIMIT 1",
                &[],
            )
            .await?;
        Ok(rows.first().map(|row| (row.get("token_hash"), row.get("sealed"))))
    }
}

fn token_of(row: &tokio_postgres::Row) -> StoredToken {
    StoredToken {
        token_hash: row.get("token_hash"),
        sealed: row.get("sealed"),
        account_id: AccountId(row.get("account_id")),
        user_id: row.get("user_id"),
        device_nid: DeviceNid(row.get("device_nid")),
        device_id: row.get("device_id"),
    }
}
