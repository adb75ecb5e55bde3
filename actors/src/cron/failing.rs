//! Who hears that a job keeps failing, and that it is well again, as OpenClaw has it. Pure.
//!
//! What fails for one reason is one incident: it is told once, however long it lasts and whatever restarts meanwhile.

use super::entry::MOST_FAILURES;
use super::job::Job;
use crate::alerts;
use crate::settings::FailureAlert;
use crabtree_protocol::params::cron::{Delivery, DeliveryMode, Schedule};
use crabtree_protocol::value::Text;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Failures in a row before anybody hears of them.
const AFTER: u64 = 2;
/// Pause between two alerts of one job, ms.
const COOLDOWN_MS: i64 = 3_600_000;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<'a> {
    /// Well, as far as is known.
    Well,
    /// Not at all: why.
    Failed(&'a str),
    /// It did its work, and nobody who should have heard of it did: why.
    Untold(&'a str),
}

/// What people were told of a job that fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Incident {
    /// Why it failed, as they read it.
    pub cause: String,
    /// Where they were told.
    pub to: Delivery,
    /// When, ms.
    pub at_ms: i64,
}

/// Something to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// Where.
    pub to: Delivery,
    /// What.
    pub text: String,
    /// What goes on from then on; nothing, if the job is well.
    pub incident: Option<Incident>,
}

/// What a job, or all of them, says of alerts.
///
/// # Errors
/// What is wrong with it.
pub fn read(wanted: &Value) -> Result<Option<FailureAlert>, String> {
    if *wanted == Value::Bool(false) {
        return Ok(None);
    }
    let read: FailureAlert =
        serde_json::from_value(wanted.clone()).map_err(|e| format!("failureAlert: {e}; or it is false"))?;
    match read.mode {
        Some(DeliveryMode::Webhook) => Err("failureAlert.mode \"webhook\" is not there: use announce".into()),
        _ => Ok(Some(read)),
    }
}

/// What is to be told of this end, if anything. The job is as it was before it.
pub fn news(job: &Job, general: Option<&FailureAlert>, end: End<'_>, now: i64) -> Option<News> {
    let known = job.state.failure_incident.as_ref();
    let (cause, failures) = match end {
        End::Well => {
            let text = format!("✅ The job \"{}\" is well again.", job.name);
            return known.map(|known| News { to: known.to.clone(), text, incident: None });
        }
        End::Failed(why) => (alerts::plain(why), job.state.consecutive_errors.unwrap_or(0) + 1),
        End::Untold(why) => (alerts::plain(why), 0),
    };
    let is_once = matches!(job.schedule, Schedule::At { .. });
    let ends = failures >= MOST_FAILURES && job.enabled && !is_once;
    let policy = policy(job, general, ends)?;
    let to = match end {
        End::Untold(_) => policy.elsewhere?,
        _ => policy.elsewhere.or(policy.announced)?,
    };
    let is_known = known.is_some_and(|known| known.cause == cause && known.to == to);
    let is_soon = known.is_some_and(|known| (0..policy.cooldown_ms).contains(&(now - known.at_ms)));
    let is_seldom = matches!(end, End::Failed(_)) && failures < policy.after;
    if !ends && (is_known || is_soon || is_seldom) {
        return None;
    }
    let what = match end {
        End::Untold(_) => "did its work, but nobody was told".to_owned(),
        _ if ends => format!("was turned off after {failures} failures in a row"),
        _ if failures == 1 => "failed".to_owned(),
        _ => format!("failed {failures} times in a row"),
    };
    let next = match ends {
        true => format!("when that is mended, `crabtree cron enable {}`", job.id),
        false => format!("`crabtree cron runs {}` shows its runs", job.id),
    };
    let text = format!("⚠️ The job \"{}\" {what}.\nCause: {cause}\nNext: {next}.", job.name);
    Some(News { text, incident: Some(Incident { cause, to: to.clone(), at_ms: now }), to })
}

struct Policy {
    after: u64,
    cooldown_ms: i64,
    /// Where failures go, if that is not where the job's answers go.
    elsewhere: Option<Delivery>,
    /// Where its answers go; where somebody was heard last, if alerts are wanted and there is nothing else.
    announced: Option<Delivery>,
}

/// How alerts of a job are to be; none, if nobody wants them. `ends`: it is turned off, which is told whatever the
/// job says.
fn policy(job: &Job, general: Option<&FailureAlert>, ends: bool) -> Option<Policy> {
    let own = match &job.failure_alert {
        Some(wanted) => match read(wanted) {
            Ok(None) if !ends => return None,
            read => read.ok().flatten(),
        },
        None => None,
    };
    let of_job = job.delivery.as_ref();
    let is_unwanted = general.is_some_and(|general| general.enabled == Some(false))
        || of_job.is_some_and(|delivery| delivery.best_effort == Some(true));
    if own.is_none() && is_unwanted && !ends {
        return None;
    }
    let failures = of_job.and_then(|delivery| delivery.failure_destination.as_ref());
    let failures = failures.and_then(|wanted| read(wanted).ok().flatten());
    let layers = [own.as_ref(), failures.as_ref(), general];
    let layers = || layers.into_iter().flatten();
    let named = |name: fn(&FailureAlert) -> &Option<Text>| layers().find_map(|layer| name(layer).clone());
    let (channel, to) = (named(|layer| &layer.channel), named(|layer| &layer.to));
    let account_id = named(|layer| &layer.account_id);
    let blank = Delivery::announce();
    let elsewhere =
        (channel.is_some() || to.is_some()).then(|| Delivery { channel, to, account_id, ..blank.clone() });
    let primary = of_job.filter(|_| job.announces()).cloned();
    let is_asked_for = own.is_some() || general.is_some();
    Some(Policy {
        after: layers().find_map(|layer| layer.after).map_or(AFTER, |after| after.get()),
        cooldown_ms: layers().find_map(|layer| layer.cooldown_ms).map_or(COOLDOWN_MS, |ms| ms.get() as i64),
        elsewhere,
        announced: primary.or_else(|| is_asked_for.then_some(blank)),
    })
}

#[cfg(test)]
#[path = "failing_tests.rs"]
mod tests;
