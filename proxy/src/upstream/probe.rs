//! Looks once at what answers under an address: `syncv3 check` and the start-up ask.
//!
//! Neighbours: `cmd`. It must not judge: whether the versions suffice, or whether another proxy is in the way, is for
//! the caller to say.

use serde::Deserialize;

use super::{Address, Client, Error};

/// What a probe asks for is short, in bytes.
const LARGEST_REPLY: usize = 1024 * 1024;

/// What answers under an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The versions of the Matrix specification that it speaks.
    pub versions: Vec<String>,
    /// Whether it is a proxy of our kind, most likely this very one.
    pub is_syncv3: bool,
}

#[derive(Deserialize)]
struct Ping {
    service: String,
}

/// Asks what answers under an address. Fails if it is no homeserver that speaks the client API, and no proxy either.
pub async fn probe(address: &Address) -> Result<Probe, Error> {
    let client = Client::new(address, LARGEST_REPLY)?;
    let ping = client.get_open("/_syncv3/ping").await;
    let is_syncv3 = match ping {
        Ok(body) => {
            serde_json::from_slice::<Ping>(&body).is_ok_and(|ping| ping.service == "syncv3")
        }
        // A proxy that was asked by way of a path refuses to go round in circles.
        Err(Error::Matrix { status: 508, .. } | Error::Status { status: 508, .. }) => true,
        Err(_) => false,
    };
    match client.versions().await {
        Ok(versions) => Ok(Probe { versions, is_syncv3 }),
        // A proxy in front of itself refuses to go round in circles; that it is one is the better answer.
        Err(_) if is_syncv3 => Ok(Probe { versions: Vec::new(), is_syncv3 }),
        Err(error) => Err(error),
    }
}
