//! Logging out: the account stops, and its key to the platform leaves the configuration.

use crate::channels::{AccountName, ChannelsMsg, Roster};
use crate::config::edit::{Change, Step};
use crate::config::{ConfigMsg, Edit, Writing};
use crate::connection::ConnectionMsg;
use crate::methods::Call;
use crate::settings::{ChannelsSettings, DEFAULT_ACCOUNT, Loaded};
use crate::tree::{Ctx, Reply};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::channel_acts::LoggedOut;
use crabtree_protocol::params::channels::AccountParams;
use serde_json::{Value, json};

pub(in crate::methods) fn logout(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<AccountParams>() else { return };
    let estate = call.estate().clone();
    let settings = &estate.config.load().settings.channels;
    let (name, credential) = match meant(&estate.channels, settings, &params) {
        Ok(meant) => meant,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (channels, config, responder) =
        (call.wiring.channels.clone(), call.wiring.config.clone(), call.responder);
    ctx.detached(async move {
        let (done, stopped) = Reply::oneshot();
        let _ = channels.send(ChannelsMsg::Stop(vec![name.clone()], done));
        // One that is gone already is as good as stopped.
        let _ = stopped.await;
        let plan = move |loaded: &Loaded| Ok(plan(loaded, &name, credential));
        // An actor that is down drops the responder with the message: retryable.
        let _ = config.send(ConfigMsg::Edit(Box::new(plan), responder));
    });
}

fn meant(
    roster: &Roster,
    settings: &ChannelsSettings,
    params: &AccountParams,
) -> Result<(AccountName, &'static str), Refusal> {
    let channel = params.channel.to_string();
    let is_known = settings.0.contains_key(&channel) || roster.channel(&channel).is_some();
    if !is_known {
        return Err(Refusal::invalid_request("invalid channels.logout channel"));
    }
    let credential = roster.channel(&channel).and_then(|known| known.credential());
    let Some(credential) = credential else {
        return Err(Refusal::invalid_request(format!("channel {channel} does not support logout")));
    };
    let account = params.account_id.as_deref().map(str::trim).filter(|account| !account.is_empty());
    let accounts = settings.accounts(&channel);
    let default = accounts.iter().find(|(id, _)| id == DEFAULT_ACCOUNT).or(accounts.first());
    let account = account
        .map(str::to_owned)
        .or_else(|| default.map(|(id, _)| id.clone()))
        .unwrap_or(DEFAULT_ACCOUNT.into());
    Ok((AccountName { channel, account }, credential))
}

/// Takes the key away: the account's own, and of the default account that of the channel.
fn plan(loaded: &Loaded, name: &AccountName, credential: &'static str) -> Edit {
    let key = |steps: &[&str]| -> Vec<Step> {
        ["channels", name.channel.as_str()].iter().chain(steps).map(|step| Step::from(*step)).collect()
    };
    let stands = |steps: &[&str]| {
        let section = &loaded.raw["channels"][&name.channel];
        steps.iter().try_fold(section, |place: &Value, step| place.get(*step)).is_some()
    };
    let own = ["accounts", name.account.as_str(), credential];
    let shared = [credential];
    let mut changes = Vec::new();
    if stands(&own) {
        changes.push(Change::Remove(key(&own)));
    }
    let is_inherited = stands(&shared);
    if is_inherited && name.account == DEFAULT_ACCOUNT {
        changes.push(Change::Remove(key(&shared)));
    }
    let answer = LoggedOut {
        channel: name.channel.clone(),
        account_id: name.account.clone(),
        cleared: !changes.is_empty(),
        logged_out: !is_inherited || name.account == DEFAULT_ACCOUNT,
    };
    Edit { writing: Writing::Changes(changes), answer: Box::new(move |_| json!(answer)) }
}
