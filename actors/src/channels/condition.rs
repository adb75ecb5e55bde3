//! How accounts are, for people and clients to look at: what their actors and platforms say, put together.

use super::roster::{AccountName, Status};
use crate::estate::Estate;
use crate::settings::ChannelsSettings;
use crate::tree::NodeState;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// How an account is.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Which.
    pub name: AccountName,
    /// Whether its actor runs.
    pub running: bool,
    /// Whether the platform knows it, too.
    pub connected: bool,
    /// In a word: `healthy`, `starting`, `restarting`, `parked`, `stopped`.
    pub health: &'static str,
    /// How often it was begun anew.
    pub restarts: u64,
    /// What was wrong last.
    pub last_error: Option<String>,
    /// What it says itself.
    pub status: Status,
}

/// The accounts that are configured, of one channel or of all.
pub fn configured(settings: &ChannelsSettings, channel: Option<&str>) -> Vec<AccountName> {
    let is_meant = |name: &&String| *name != "defaults" && channel.is_none_or(|channel| channel == *name);
    let of = |name: &String| {
        let one = |(account, _)| AccountName { channel: name.clone(), account };
        settings.accounts(name).into_iter().map(one).collect::<Vec<_>>()
    };
    settings.0.keys().filter(is_meant).flat_map(of).collect()
}

/// How an account is now.
pub fn condition(estate: &Estate, name: &AccountName) -> Condition {
    let status = estate.channels.status(name);
    let path = format!("gateway/channels/{}", name.path().replace('/', "%2F"));
    let node = estate.root.get().and_then(|root| root.find(&path));
    let state = node.as_ref().map(|node| node.state().0);
    let running = state == Some(NodeState::Running);
    let health = match state {
        Some(NodeState::Running) if status.connected => "healthy",
        Some(NodeState::Running | NodeState::Starting) => "starting",
        Some(NodeState::Parked) => "parked",
        Some(_) => "restarting",
        // It was not started: what it needs is not there.
        None if status.fatal => "parked",
        None => "stopped",
    };
    let exit = || node.as_ref().and_then(|node| node.last_exit()).map(|exit| exit.reason.to_string());
    Condition {
        name: name.clone(),
        running,
        connected: running && status.connected,
        health,
        restarts: node.as_ref().map_or(0, |node| u64::from(node.restarts())),
        last_error: status.last_error.clone().or_else(exit),
        status,
    }
}

impl Condition {
    /// As `health` and `channels.status` show it.
    pub fn shown(&self) -> Value {
        let status = &self.status;
        json!({
            "accountId": self.name.account,
            "enabled": true,
            "configured": true,
            "running": self.running,
            "connected": self.connected,
            "healthState": self.health,
            "reconnectAttempts": self.restarts,
            "lastError": self.last_error,
            "lastStartAt": status.last_start_at,
            "lastInboundAt": status.last_inbound_at,
            "lastOutboundAt": status.last_outbound_at,
        })
    }
}

/// `channels`, `channelOrder` and `channelLabels` of `health`: each channel as its default account is, and its accounts.
pub fn summary(estate: &Estate, conditions: &[Condition]) -> [(&'static str, Value); 3] {
    let mut channels: BTreeMap<&str, Vec<&Condition>> = BTreeMap::new();
    for condition in conditions {
        channels.entry(&condition.name.channel).or_default().push(condition);
    }
    let label = |name: &str| {
        let known = estate.channels.channel(name);
        known.map_or_else(|| name.to_owned(), |channel| channel.label().to_owned())
    };
    let one = |accounts: &Vec<&Condition>| {
        let first = accounts.iter().find(|one| one.name.account == crate::settings::DEFAULT_ACCOUNT);
        let mut shown = first.or(accounts.first()).map_or_else(|| json!({}), |one| one.shown());
        let all = accounts.iter().map(|one| (one.name.account.clone(), one.shown()));
        shown["accounts"] = Value::Object(all.collect());
        shown
    };
    let order: Vec<&str> = channels.keys().copied().collect();
    let labels: Map<_, _> = order.iter().map(|name| ((*name).to_owned(), json!(label(name)))).collect();
    let shown: Map<_, _> = channels.iter().map(|(name, all)| ((*name).to_owned(), one(all))).collect();
    [("channels", shown.into()), ("channelOrder", json!(order)), ("channelLabels", labels.into())]
}
