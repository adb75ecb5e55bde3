//! What is wrong with the gateway itself, read from the living tree.

use crate::channels::AccountName;
use crate::estate::Estate;
use crate::health;
use crate::settings::AlertEvent;
use crate::tree::{ExitKind, Node};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// With whom: the path of an actor.
    pub subject: String,
    /// What.
    pub event: AlertEvent,
    /// Why, as its actor says.
    pub cause: String,
    /// Since when, ms.
    pub since: i64,
}

/// All of it.
pub fn troubles(estate: &Estate) -> Vec<Trouble> {
    let Some(root) = estate.root.get() else { return Vec::new() };
    let now = estate.clock.now_ms();
    let (parked, stuck) = health::ailing(root);
    let mut all: Vec<Trouble> = parked.iter().filter_map(|node| given_up(node)).collect();
    for trouble in &mut all {
        // Of an account its channel knows more than how its actor ended.
        let name = trouble.account().map(|(channel, account)| AccountName {
            channel: channel.to_owned(),
            account: account.to_owned(),
        });
        if let Some(why) = name.and_then(|name| estate.channels.status(&name).last_error) {
            trouble.cause = why;
        }
    }
    all.extend(stuck.iter().map(|(node, busy_ms)| Trouble {
        subject: node.path().to_string(),
        event: AlertEvent::Stuck,
        cause: format!("at one message for {} s", busy_ms / 1000),
        since: now - *busy_ms as i64,
    }));
    if let Some((what, since)) = health::store_trouble(root) {
        let subject = format!("{}/store", root.path());
        all.push(Trouble { subject, event: AlertEvent::Store, cause: what, since });
    }
    let channels = root.child("channels").and_then(|node| node.info());
    let broken = channels.as_deref().and_then(|info| info.get("broken")?.as_object());
    for (name, why) in broken.into_iter().flatten() {
        let subject = format!("{}/channels/{}", root.path(), name.replace('/', "%2F"));
        let cause = why.as_str().unwrap_or_default().to_owned();
        all.push(Trouble { subject, event: AlertEvent::Channel, cause, since: now });
    }
    all
}

/// What an operator has parked is not wrong.
fn given_up(node: &Node) -> Option<Trouble> {
    let exit = node.last_exit().filter(|exit| exit.kind != ExitKind::Stopped)?;
    Some(Trouble {
        subject: node.path().to_string(),
        event: AlertEvent::Parked,
        cause: exit.reason,
        since: node.state().1,
    })
}

impl Trouble {
    /// Channel and account, if it is one's.
    pub fn account(&self) -> Option<(&str, &str)> {
        let (_, name) = self.subject.split_once("/channels/")?;
        name.split_once("%2F")
    }
}

/// Whether a value says that something is wrong.
pub fn says(info: &Value) -> Option<(String, i64)> {
    let trouble = info.get("trouble")?;
    Some((trouble.get("what")?.as_str()?.to_owned(), trouble.get("since")?.as_i64()?))
}
