//! A restart that was asked for: by a client, or by a change that a running gateway cannot take up. Part of the Estate.
//! Whoever runs the process looks after it; where nobody does, none can be asked for.

use crate::estate::Estate;
use crate::settings::GatewaySettings;
use crate::store::Store;
use crate::work::Work;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a restart waits until nothing is under way. As long as OpenClaw's; it comes then all the same.
pub const DEFERRAL: Duration = Duration::from_secs(300);
/// How long after a change that a running gateway cannot take up it is started anew, as recorded: more may follow.
const AFTER_CHANGE: Duration = Duration::from_secs(5);
/// How often is looked whether anything is under way.
const LOOK: Duration = Duration::from_millis(100);

/// A restart that was asked for.
#[derive(Clone, Debug)]
struct Asked {
    at_once: bool,
    since: Instant,
}

/// See the module.
pub struct Restarts(watch::Sender<Option<Asked>>);

impl Default for Restarts {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

/// Whoever runs the process, and starts it anew when that was asked for.
pub struct Attendant {
    store: Store,
    asked: watch::Receiver<Option<Asked>>,
}

impl Restarts {
    /// Whether somebody would start it anew.
    pub fn are_attended(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Asks for a restart; whether another had been asked for already, which this one joins.
    pub fn ask(&self, at_once: bool) -> bool {
        let mut joined = false;
        self.0.send_modify(|asked| {
            joined = asked.is_some();
            let since = asked.as_ref().map_or_else(Instant::now, |asked| asked.since);
            let at_once = at_once || asked.as_ref().is_some_and(|asked| asked.at_once);
            *asked = Some(Asked { at_once, since });
        });
        joined
    }

    /// It came to nothing: the gateway goes on.
    pub fn give_up(&self) {
        self.0.send_replace(None);
    }
}

impl Attendant {
    /// From now on restarts may be asked for.
    pub fn of(store: Store) -> Self {
        let asked = store.estate.restarts.0.subscribe();
        Self { store, asked }
    }

    /// Resolves when it is time: a restart was asked for, and nothing is under way, or it must not wait (any longer).
    pub async fn due(&mut self) {
        loop {
            let asked = match self.asked.wait_for(Option::is_some).await {
                Ok(asked) => asked.clone(),
                // The sender is a part of the Estate that is held here.
                Err(_) => return std::future::pending().await,
            };
            let Some(Asked { at_once, since }) = asked else { continue };
            let over = at_once || since.elapsed() >= DEFERRAL;
            if over || Work::of(&self.store, 0).await.total() == 0 {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Has the gateway started anew that listens elsewhere from now on, if somebody would do it.
pub fn after_change(estate: &Arc<Estate>, last: &GatewaySettings, next: &GatewaySettings) {
    let place = |gateway: &GatewaySettings| (gateway.port, gateway.bind, gateway.custom_bind_host.clone());
    if place(last) == place(next) || !estate.restarts.are_attended() {
        return;
    }
    tracing::info!(target: "crabtree::gateway", "it will listen elsewhere: starting anew in {} s", AFTER_CHANGE.as_secs());
    let estate = estate.clone();
    tokio::spawn(async move {
        tokio::time::sleep(AFTER_CHANGE).await;
        estate.restarts.ask(false);
    });
}
