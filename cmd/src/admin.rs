//! `syncv3 admin`: accounts, devices and sessions, seen and mended in the database alone, beside a running proxy or without.
//!
//! `table` is for people, `json` for machines. Never a token: the store gives none out.

mod json;
mod table;

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use proxy::clock::now_ms;
use store::{Account, SessionId, Store};

use self::table::Table;
use crate::{
    config::{self, Admin, AdminConfig},
    database::Database,
    private_postgres,
};

/// Accounts that are read at once: tens of thousands are listed in little memory.
const PAGE: i64 = 500;

/// Why nothing could be seen or done.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no user `{0}`: nobody of that name has synced through this proxy")]
    NoUser(String),
    #[error("`{user}` has no device `{device}`: `syncv3 admin devices {user}` lists them")]
    NoDevice { user: String, device: String },
    #[error("`{user}` has no session {session}: `syncv3 admin sessions {user}` lists them")]
    NoSession { user: String, session: i64 },
    #[error("v2 holds nothing back for the device `{device}` of `{user}`")]
    NoV2 { user: String, device: String },
    #[error("there is no private Postgres in `{0}` yet: give -db or -data-dir as the proxy has it")]
    NoDatabase(String),
}

/// Answers one question, or carries out one order.
pub(crate) async fn run(config: AdminConfig, what: Admin) -> Result<ExitCode, Box<dyn Error>> {
    let storage = &config.storage;
    if matches!(storage.database, config::Database::Private)
        && !private_postgres::is_made(&storage.data_dir)?
    {
        return Err(Refusal::NoDatabase(storage.data_dir.display().to_string()).into());
    }
    let database = Database::share(storage).await?;
    let desk = Desk { store: &database.store, expiry: config.session_expiry };
    let outcome = desk.attend(&database, what).await;
    database.close().await;
    match outcome {
        Err(error) if is_broken_pipe(&*error) => Ok(ExitCode::SUCCESS),
        outcome => outcome.map(|()| ExitCode::SUCCESS),
    }
}

/// Whoever read the output has seen enough, as `head` has.
fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Where questions are answered.
struct Desk<'a> {
    store: &'a Store,
    expiry: Duration,
}

impl Desk<'_> {
    async fn attend(&self, database: &Database, what: Admin) -> Result<(), Box<dyn Error>> {
        database.wait_until_ready().await?;
        self.store.require_schema().await?;
        match what {
            Admin::Accounts { user: None, json } => self.list_accounts(json).await,
            Admin::Accounts { user: Some(user), json } => self.show_account(user, json).await,
            Admin::Devices { user, json } => self.list_devices(&user, json).await,
            Admin::Sessions { user, device, json } => {
                self.list_sessions(&user, device.as_deref(), json).await
            }
            Admin::DropSession { user, session } => self.drop_session(user, session).await,
            Admin::DropV2 { user, device } => self.drop_v2(user, device).await,
            Admin::Resync { user } => self.resync(&user).await,
        }
    }

    async fn list_accounts(&self, json: bool) -> Result<(), Box<dyn Error>> {
        let mut table = Table::of_accounts();
        let mut after = String::new();
        loop {
            let page = self.store.account_statuses(&after, PAGE).await?;
            if json {
                json::write(page.iter().map(json::account))?;
            } else {
                table.write(page.iter().map(|account| table::account(account, now_ms())))?;
            }
            let Some(last) = page.last() else { break };
            after.clone_from(&last.user_id);
        }
        Ok(())
    }

    async fn show_account(&self, user: String, json: bool) -> Result<(), Box<dyn Error>> {
        let account = self.store.account_status(&user).await?.ok_or(Refusal::NoUser(user))?;
        if json {
            json::write([json::account(&account)])?;
        } else {
            Table::of_accounts().write([table::account(&account, now_ms())])?;
        }
        Ok(())
    }

    async fn list_devices(&self, user: &str, json: bool) -> Result<(), Box<dyn Error>> {
        let account = self.account(user).await?;
        let devices = self.store.device_statuses(account.account_id).await?;
        if json {
            json::write(devices.iter().map(json::device))?;
        } else {
            let rows = devices.iter().map(|device| table::device(device, now_ms()));
            Table::of_devices().write(rows)?;
        }
        Ok(())
    }

    async fn list_sessions(
        &self,
        user: &str,
        device: Option<&str>,
        json: bool,
    ) -> Result<(), Box<dyn Error>> {
        let account = self.account(user).await?;
        if let Some(device) = device {
            self.require_device(&account, device).await?;
        }
        let sessions = self.store.session_statuses(account.account_id, device).await?;
        let live_since = self.live_since();
        if json {
            json::write(sessions.iter().map(|session| json::session(session, live_since)))?;
        } else {
            let rows = sessions.iter().map(|session| table::session(session, now_ms(), live_since));
            Table::of_sessions().write(rows)?;
        }
        Ok(())
    }

    async fn drop_session(&self, user: String, session: i64) -> Result<(), Box<dyn Error>> {
        let account = self.account(&user).await?;
        let dropped =
            self.store.drop_session(account.account_id, SessionId(session), self.live_since());
        if !dropped.await? {
            return Err(Refusal::NoSession { user, session }.into());
        }
        say(&format!("session {session} of {user} is gone: its client begins a new one"))
    }

    async fn drop_v2(&self, user: String, device: String) -> Result<(), Box<dyn Error>> {
        let account = self.account(&user).await?;
        self.require_device(&account, &device).await?;
        if !self.store.drop_v2(account.account_id, &device, self.live_since()).await? {
            return Err(Refusal::NoV2 { user, device }.into());
        }
        say(&format!("v2 holds nothing back for {device} of {user} until it syncs again"))
    }

    async fn resync(&self, user: &str) -> Result<(), Box<dyn Error>> {
        let account = self.account(user).await?;
        self.store.resync(account.account_id).await?;
        say(&format!("{user} begins anew with the next poll; a running proxy makes it within 30 s"))
    }

    async fn account(&self, user: &str) -> Result<Account, Box<dyn Error>> {
        let account = self.store.find_account(user).await?;
        account.ok_or_else(|| Refusal::NoUser(user.to_owned()).into())
    }

    async fn require_device(&self, account: &Account, device: &str) -> Result<(), Box<dyn Error>> {
        let devices = self.store.device_statuses(account.account_id).await?;
        if devices.iter().any(|known| known.device_id == device) {
            return Ok(());
        }
        let (user, device) = (account.user_id.clone(), device.to_owned());
        Err(Refusal::NoDevice { user, device }.into())
    }

    /// Sessions not used since then hold nothing back.
    fn live_since(&self) -> i64 {
        now_ms().saturating_sub(i64::try_from(self.expiry.as_millis()).unwrap_or(i64::MAX))
    }
}

fn say(line: &str) -> Result<(), Box<dyn Error>> {
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}
