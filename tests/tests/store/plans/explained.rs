//! The plans of all statements of a database, as the server writes them to its log.
//!
//! Postgres' module `auto_explain` is switched on for one database; the sessions that begin after that are explained.

use serde_json::Value;
use tokio_postgres::Client;

use crate::database::Fresh;

/// A database whose statements are explained.
pub(crate) struct Explained {
    client: Client,
}

/// How a statement was run.
pub(crate) struct Plan {
    /// `family::function`, from the comment that every statement of the store begins with.
    pub(crate) statement: String,
    pub(crate) scans: Vec<Scan>,
}

/// One look into a table.
pub(crate) struct Scan {
    /// Postgres' name of the kind of scan.
    pub(crate) node: String,
    pub(crate) table: String,
    /// What it was narrowed by; empty where everything was read.
    pub(crate) condition: String,
}

impl Explained {
    pub(crate) async fn on(fresh: &Fresh) -> Self {
        let client = fresh.sql().await;
        client.batch_execute("LOAD 'auto_explain'").await.expect(
            "the module auto_explain is not installed. Debian has it in the server's package (tests/setup postgres); \
             elsewhere it is in postgresql-contrib",
        );
        let name = fresh.name();
        client
            .batch_execute(&format!(
                "ALTER DATABASE {name} SET session_preload_libraries = 'auto_explain';
                 ALTER DATABASE {name} SET auto_explain.log_min_duration = 0;
                 ALTER DATABASE {name} SET auto_explain.log_format = 'json'"
            ))
            .await
            .unwrap();
        Self { client }
    }

    /// Every plan of a statement of the store so far.
    pub(crate) async fn plans(&self) -> Vec<Plan> {
        // The fixture keeps the server's log beside its socket.
        let log =
            "SELECT pg_read_file(current_setting('unix_socket_directories') || '/postgres.log')";
        let log: String = self.client.query_one(log, &[]).await.unwrap().get(0);
        entries(&log).iter().filter_map(|json| plan(&serde_json::from_str(json).unwrap())).collect()
    }
}

/// The JSON of each entry: what follows the line that ends with `plan:`, as far as it is indented.
fn entries(log: &str) -> Vec<String> {
    let mut entries = Vec::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        if line.contains("LOG:  duration: ") && line.ends_with("plan:") {
            let mut json = String::new();
            while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
                json.push_str(line);
            }
            entries.push(json);
        }
    }
    entries
}

fn plan(entry: &Value) -> Option<Plan> {
    let statement = entry["Query Text"].as_str()?.strip_prefix("-- ")?;
    let mut scans = Vec::new();
    collect(&entry["Plan"], &mut scans);
    Some(Plan { statement: statement.lines().next()?.to_owned(), scans })
}

fn collect(node: &Value, scans: &mut Vec<Scan>) {
    let text = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
    let kind = text("Node Type");
    let table = match kind.as_str() {
        "Seq Scan" | "Index Scan" | "Index Only Scan" => text("Relation Name"),
        // Names its index alone, and the index is named after its table.
        "Bitmap Index Scan" => table_of(&text("Index Name")),
        _ => String::new(),
    };
    if !table.is_empty() {
        scans.push(Scan { node: kind, table, condition: text("Index Cond") });
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        collect(child, scans);
    }
}

fn table_of(index: &str) -> String {
    let end = ["_pkey", "_by_", "_event_id_body_hash_key", "_room_id_key"]
        .iter()
        .filter_map(|ending| index.find(ending))
        .min();
    index[..end.unwrap_or(index.len())].to_owned()
}
