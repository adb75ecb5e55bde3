//! Logging in at a channel that shows a code to scan, as WhatsApp does.

use crate::channels::{AccountName, ChannelsMsg};
use crate::connection::ConnectionMsg;
use crate::gateway::Wiring;
use crate::methods::Call;
use crate::methods::devices::picture;
use crate::tree::{Ctx, Reply};
use crabtree_protocol::Refusal;
use crabtree_protocol::params::channels::{Login, LoginStartParams, LoginWaitParams};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a code is waited for, and at the most, unless a client says otherwise.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
const MAX_WAIT: Duration = Duration::from_secs(180);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(100);

/// The account that shows codes: WhatsApp's, or whichever shows one.
fn account(wiring: &Wiring, wanted: Option<&str>) -> Result<AccountName, Refusal> {
    let estate = &wiring.store.estate;
    let names = super::configured(wiring, None);
    let is_meant = |name: &&AccountName| {
        wanted.is_none_or(|wanted| wanted.is_empty() || wanted == name.account)
            && (name.channel == "whatsapp" || estate.channels.status(name).qr.is_some())
    };
    let found = names.iter().find(is_meant).cloned();
    found.ok_or_else(|| Refusal::invalid_request("web login provider is not available"))
}

pub(in crate::methods) fn start(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<LoginStartParams>() else { return };
    let name = match account(call.wiring, params.account_id.as_deref()) {
        Ok(name) => name,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let wait = params.timeout_ms.map_or(DEFAULT_WAIT, |ms| Duration::from_millis(ms.get()));
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        // One that is parked because it has logged out starts again.
        let (done, _) = Reply::oneshot();
        let _ = wiring.channels.send(ChannelsMsg::Start(vec![name.clone()], done));
        responder.ok(&shown(&wiring, &name, wait, None).await);
    });
}

pub(in crate::methods) fn wait(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<LoginWaitParams>() else { return };
    let name = match account(call.wiring, params.account_id.as_deref()) {
        Ok(name) => name,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let wait = params.timeout_ms.map_or(DEFAULT_WAIT, |ms| Duration::from_millis(ms.get()));
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    // Without a code to compare with, only the login itself is waited for.
    let known = Some(params.current_qr_data_url.unwrap_or_default());
    ctx.detached(async move { responder.ok(&shown(&wiring, &name, wait, known).await) });
}

/// Waits for the login, or for a code other than the one that is known.
async fn shown(wiring: &Arc<Wiring>, name: &AccountName, wait: Duration, known: Option<String>) -> Login {
    let until = Instant::now() + wait.min(MAX_WAIT);
    loop {
        let status = wiring.store.estate.channels.status(name);
        if status.connected {
            return Login { connected: true, message: "Logged in.".into(), qr_data_url: None };
        }
        let code = status.qr.as_deref().and_then(picture);
        let is_news = code.as_ref().is_some_and(|code| match &known {
            None => true,
            Some(known) => !known.is_empty() && known != code,
        });
        if is_news || Instant::now() >= until {
            let message = match (&code, status.last_error) {
                (Some(_), _) => "Scan this code with WhatsApp: Settings, Linked devices.".to_owned(),
                (None, Some(why)) => format!("There is no code yet: {why}"),
                (None, None) => "There is no code yet.".to_owned(),
            };
            return Login { connected: false, message, qr_data_url: code };
        }
        tokio::time::sleep(LOOK).await;
    }
}
