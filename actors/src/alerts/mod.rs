//! **Owns** what was told of what is wrong with the gateway itself, and when.
//! **Hears** its own timer, and looks at the living tree; **tells** the chat that the configuration names, by rows of
//! the outbox, and never through an account that is not at work itself.
//! **On crash** nothing is lost: what was told is in the same commit as the message, and is read again. Only what was
//! told while the store took nothing may be told once more.

mod ledger;
mod trouble;
mod words;

pub use trouble::{Trouble, says};
pub use words::plain;

use crate::channels::{self, AccountMsg, AccountName, Answer, Doing};
use crate::estate::Estate;
use crate::settings::AlertTarget;
use crate::store::{self, DeliveryRow, Store, StoreError, WriteOp};
use crate::tree::*;
use ledger::{Ledger, News};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How often the tree is looked at: what is wrong is told within 5 s.
const LOOK: Duration = Duration::from_secs(2);
/// How long the store may take; then the message goes out without being kept.
const KEEP_LIMIT: Duration = Duration::from_secs(5);
/// Where it is kept what was told.
const META: &str = "alerts";

/// What it hears.
pub enum AlertsMsg {
    /// Look at the tree.
    Look,
    /// What was told before.
    Loaded(Result<Option<String>, StoreError>),
    /// A message is on its way, and this is what was told then; or it is not.
    Told(Result<Box<(Ledger, Vec<News>)>, String>),
}

/// See the module.
pub struct Alerts {
    estate: Arc<Estate>,
    store: Store,
    ledger: Option<Ledger>,
    /// A message is being put on its way.
    telling: bool,
    /// It was said in the log that nobody can be told.
    mute: bool,
    _look: Timer,
}

impl Behavior for Alerts {
    type Msg = AlertsMsg;
    type Args = Store;
    const KIND: &'static str = "alerts";

    fn start(ctx: &mut Ctx<AlertsMsg>, store: Store) -> Result<Self, Fault> {
        let reader = store.clone();
        let kept = async move {
            // What an earlier incarnation was writing comes before.
            reader.write(WriteOp::Fence).await?;
            reader.read(|c| store::meta(c, META)).await
        };
        ctx.task(kept, AlertsMsg::Loaded);
        let look = ctx.after(LOOK, AlertsMsg::Look);
        let estate = store.estate.clone();
        Ok(Self { estate, store, ledger: None, telling: false, mute: false, _look: look })
    }

    fn handle(&mut self, ctx: &mut Ctx<AlertsMsg>, msg: AlertsMsg) -> Result<(), Fault> {
        match msg {
            AlertsMsg::Look => {
                self._look = ctx.after(LOOK, AlertsMsg::Look);
                self.look(ctx);
            }
            AlertsMsg::Loaded(kept) => {
                // Where it cannot be read, what is wrong is told once more rather than not at all.
                let kept = kept.ok().flatten().unwrap_or_default();
                self.ledger = Some(Ledger::resumed(&kept, ctx.now_ms()));
            }
            AlertsMsg::Told(told) => self.told(ctx, told),
        }
        Ok(())
    }
}

impl Alerts {
    fn look(&mut self, ctx: &mut Ctx<AlertsMsg>) {
        let Some(ledger) = self.ledger.as_mut().filter(|_| !self.telling && self.estate.admits()) else {
            return;
        };
        let config = self.estate.config.load();
        let settings = &config.settings.alerts;
        let targets = settings.targets();
        if targets.is_empty() {
            return;
        }
        let (now, troubles) =
            (ctx.now_ms(), ledger::wanted(trouble::troubles(&self.estate), &settings.events));
        let news = ledger.look(troubles, now);
        ctx.publish_info(json!({ "open": ledger.open(), "due": news.len() }));
        if news.is_empty() {
            return;
        }
        let Some((name, rows)) = message(&self.estate, &targets, &news, now) else {
            if !std::mem::replace(&mut self.mute, true) {
                tracing::error!(target: "crabtree::alerts", due = news.len(),
                    "nobody can be told what is wrong: no account of alerts.channel and alerts.fallbacks is at work");
            }
            return;
        };
        self.mute = false;
        self.telling = true;
        let mut next = ledger.clone();
        next.told(&news, now);
        let store = self.store.clone();
        ctx.task(async move { tell(store, name, rows, next, news).await }, AlertsMsg::Told);
    }

    fn told(&mut self, ctx: &mut Ctx<AlertsMsg>, told: Result<Box<(Ledger, Vec<News>)>, String>) {
        self.telling = false;
        match told {
            Ok(told) => {
                let (ledger, news) = *told;
                for one in &news {
                    let Trouble { subject, event, .. } = one.trouble();
                    let (event, well) = (event.as_str(), matches!(one, News::Well(..)));
                    self.estate.meters.alerts.count(event);
                    tracing::info!(target: "crabtree::alerts", %subject, event, well, "told");
                    let facts = json!({ "path": subject, "event": event, "well": well });
                    self.estate.stability.note("alert.sent", facts, ctx.now_ms());
                }
                self.ledger = Some(ledger);
            }
            // It is due still.
            Err(why) => tracing::error!(target: "crabtree::alerts", "an alert was not sent: {why}"),
        }
    }
}

/// The message, and the first account that is at work to send it: one that is connected if there is one.
fn message(
    estate: &Estate,
    targets: &[AlertTarget],
    news: &[News],
    now: i64,
) -> Option<(AccountName, Vec<DeliveryRow>)> {
    let ails = |name: &AccountName| {
        let is_its = |one: &News| one.trouble().account() == Some((&*name.channel, &*name.account));
        news.iter().any(|one| matches!(one, News::Wrong(_)) && is_its(one))
    };
    let found: Vec<_> = (targets.iter())
        .filter_map(|target| {
            let name =
                channels::the_account(estate, Some(&target.channel), target.account.as_deref()).ok()?;
            let condition = channels::condition(estate, &name);
            (condition.running && !ails(&name)).then_some((target, name, condition.connected))
        })
        .collect();
    let (target, name, _) = found.iter().find(|(_, _, connected)| *connected).or(found.first())?;
    let answer = Answer {
        id: format!("alert-{}", Uuid::new_v4()),
        channel: name.channel.clone(),
        account: name.account.clone(),
        to: channels::address(Some(&target.channel), &target.to, None),
        reply_to: None,
        capabilities: estate.channels.capabilities(&name.channel).into(),
    };
    Some((name.clone(), answer.rows(&words::message(&estate.boot.host, news), now)))
}

/// Puts a message on its way: as rows, in one commit with what was told by them; or at once where the store takes
/// nothing, which may be what is to be told.
async fn tell(
    store: Store,
    name: AccountName,
    rows: Vec<DeliveryRow>,
    ledger: Ledger,
    news: Vec<News>,
) -> Result<Box<(Ledger, Vec<News>)>, String> {
    let value = serde_json::to_string(&ledger).map_err(|e| e.to_string())?;
    let kept = WriteOp::PutMeta { key: META.into(), value };
    let op = WriteOp::All(vec![kept, WriteOp::Deliver(rows.clone())]);
    match tokio::time::timeout(KEEP_LIMIT, store.write(op)).await {
        Ok(Ok(_)) => drop(store.estate.channels.slot(&name).send(AccountMsg::Deliver)),
        unkept => {
            let why = unkept.map_or_else(|late| late.to_string(), |e| format!("{:?}", e.err()));
            tracing::warn!(target: "crabtree::alerts", "an alert is sent without being kept: {why}");
            for row in rows {
                // Under the same id: where the store has it after all, platforms that can show it once.
                let say = Doing::say(&row).ok_or("its address is not one")?;
                channels::act(&store, &name, say).await.map_err(|e| e.to_string())?;
            }
        }
    }
    Ok(Box::new((ledger, news)))
}
