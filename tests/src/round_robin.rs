//! What stands in front of several processes in production, in the smallest form: each connection goes to the next one.
//!
//! It has a thread of its own, because tests that share a proxy do not share a runtime.

use std::io::ErrorKind;
use std::thread::JoinHandle;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A running forwarder. Dropping it cuts all its connections.
#[derive(Debug)]
pub struct RoundRobin {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RoundRobin {
    /// Listens on a loopback port, and forwards each connection to the next of these.
    pub fn start(port: u16, backends: Vec<u16>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = forward(port, &backends) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for RoundRobin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // What went wrong in it is on standard error already.
            let _ = thread.join();
        }
    }
}

async fn forward(port: u16, backends: &[u16]) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    for backend in backends.iter().copied().cycle() {
        let mut client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => panic!("cannot accept: {error}"),
        };
        tokio::spawn(async move {
            // One that is down takes nothing: its clients see their connection end, and come again.
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", backend)).await else { return };
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}
