//! What sessions used: by session, by day, by turn; out of the outcomes of what was asked in them.

mod days;
mod tally;

use super::list::{Extras, Rows, title};
use crate::agents::Usage;
use crate::connection::ConnectionMsg;
use crate::methods::{Call, store_refusal};
use crate::store::{
    self, Archived, HistoryPage, ListFilter, MessageRow, RunUsage, SessionRecord, UsageFilter, UsageRow,
};
use crate::tree::Ctx;
use crabtree_protocol::params::core::{DEFAULT_USAGE_DAYS, NoParams, UsageCostParams};
use crabtree_protocol::params::session_usage::{
    DEFAULT_USAGE_LOGS, GroupBy, MAX_USAGE_LOGS, MAX_USAGE_POINTS, UsageDetailParams, UsageParams,
};
use crabtree_protocol::{Refusal, SessionKey};
use days::{Days, date};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tally::{Tally, by, with};

/// Sessions in an answer, unless told; and at the most.
const DEFAULT_SESSIONS: u64 = 50;
const MAX_SESSIONS: u64 = 1_000;
/// Runs a time series looks back on.
const MAX_RUNS: u32 = 10_000;
/// Characters of a message in a log.
const LOG_CHARS: usize = 2_000;

/// Everything is read from the store when it is asked for.
fn fresh() -> Value {
    json!({ "status": "fresh", "cachedFiles": 0, "pendingFiles": 0, "staleFiles": 0 })
}

pub fn status(call: Call<'_>) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    let now = call.estate().clock.now_ms();
    call.responder.ok(&json!({ "updatedAt": now, "providers": [] }));
}

pub fn cost(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<UsageCostParams>() else { return };
    let now = call.estate().clock.now_ms();
    let days = Days::back(params.days.map_or(DEFAULT_USAGE_DAYS, |days| days.get()) as i64, now);
    let agent = params.agent_id.filter(|_| params.agent_scope.is_none()).map(|id| id.into_string());
    let (from_ms, to_ms) = days.bounds();
    let filter = UsageFilter { key: None, agent, from_ms, to_ms };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let rows = store.read(move |c| store::usage(c, &filter)).await;
        responder.settle(rows.map_err(|e| store_refusal(&e)).map(|rows| cost_page(&rows, days, now)));
    });
}

fn cost_page(rows: &[UsageRow], days: Days, now: i64) -> Value {
    let sums = by(rows, |row| days.day(row.quarter));
    let daily = (days.first..=days.last).map(|day| {
        let of_day = sums.get(&day).map_or_else(|| Tally::default().totals(), Tally::totals);
        with(json!({ "date": date(day) }), of_day)
    });
    json!({
        "updatedAt": now,
        "days": days.count(),
        "daily": daily.collect::<Vec<_>>(),
        "totals": Tally::of(rows).totals(),
        "cacheStatus": fresh(),
    })
}

pub fn usage(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<UsageParams>() else { return };
    let now = call.estate().clock.now_ms();
    let agent = params.agent_id.as_ref().filter(|_| params.agent_scope.is_none()).map(ToString::to_string);
    let key = params.key.as_deref().map(|key| call.key_of(key, agent.as_deref())).transpose();
    let (key, days) = match key.and_then(|key| Ok((key, Days::of(&params, now)?))) {
        Ok(asked) => asked,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (from_ms, to_ms) = days.bounds();
    let filter = UsageFilter { key: key.map(|key| key.to_string()), agent, from_ms, to_ms };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let used = store.read(move |c| {
            let rows = store::usage(c, &filter)?;
            let keys: BTreeSet<&str> = rows.iter().map(|row| row.session_key.as_str()).collect();
            let of = ListFilter {
                keys: Some(keys.iter().map(ToString::to_string).collect()),
                archived: Archived::All,
                limit: keys.len() as u32,
                ..ListFilter::default()
            };
            let (records, _) = store::list_sessions(c, &of)?;
            Ok((rows, records))
        });
        responder.settle(used.await.map_err(|e| store_refusal(&e)).map(|(rows, records)| {
            let records = records.into_iter().map(|record| (record.key.clone(), record)).collect();
            let shown = Rows::new(&store.estate);
            usage_page(&Used { rows, records, days, shown }, &params, now)
        }));
    });
}

/// What was used, and by whom.
struct Used<'a> {
    rows: Vec<UsageRow>,
    records: HashMap<String, SessionRecord>,
    days: Days,
    shown: Rows<'a>,
}

fn usage_page(used: &Used<'_>, params: &UsageParams, now: i64) -> Value {
    let mut sessions = BTreeMap::<&str, Vec<&UsageRow>>::new();
    for row in &used.rows {
        sessions.entry(&row.session_key).or_default().push(row);
    }
    let by_family = params.group_by == Some(GroupBy::Family) || params.include_historical == Some(true);
    let limit = params.limit.map_or(DEFAULT_SESSIONS, |limit| limit.get().min(MAX_SESSIONS)) as usize;
    let longest = sessions.values().map(|rows| span(rows)).max().unwrap_or(0);
    let count = sessions.len();
    let mut latest: Vec<_> = sessions.into_iter().collect();
    latest.sort_by_key(|(_, rows)| std::cmp::Reverse(rows.iter().map(|row| row.last_at).max()));
    let shown: Vec<Value> =
        latest.iter().take(limit).map(|(key, rows)| used.session(key, rows, by_family)).collect();
    json!({
        "updatedAt": now,
        "startDate": date(used.days.first),
        "endDate": date(used.days.last),
        "sessions": shown,
        "totals": Tally::of(&used.rows).totals(),
        "aggregates": used.aggregates(count, longest),
        "creatorOptions": [],
        "cacheStatus": fresh(),
    })
}

/// From the first to the last thing that happened, ms.
fn span(rows: &[&UsageRow]) -> i64 {
    let first = rows.iter().map(|row| row.first_at).min().unwrap_or(0);
    rows.iter().map(|row| row.last_at).max().unwrap_or(0) - first
}

impl Used<'_> {
    /// The row of a session, whichever of its ids it had at the time; it may be gone.
    fn session(&self, key: &str, rows: &[&UsageRow], by_family: bool) -> Value {
        let record = self.records.get(key);
        let session = record.map(|record| self.shown.row(record, Extras::default()));
        let of =
            |name: &str| session.as_ref().and_then(|row| row.get(name)).filter(|v| !v.is_null()).cloned();
        let last_at = rows.iter().map(|row| row.last_at).max();
        let agent = SessionKey::canonical(key, "main").map(|key| key.agent_id().to_owned());
        let id = record.map_or("", |record| record.session_id.as_str());
        let mut row = json!({
            "key": key,
            "sessionId": id,
            "scope": if by_family { "family" } else { "instance" },
            "updatedAt": of("updatedAt").unwrap_or_else(|| json!(last_at)),
            "agentId": agent.unwrap_or_default(),
            "usage": self.usage(id, rows),
            "hasContextWeight": false,
        });
        let known = [
            (
                "label",
                record.zip(session.as_ref()).and_then(|(record, row)| title(row, record)).map(Value::from),
            ),
            ("chatType", of("chatType")),
            ("channel", of("channel")),
            ("modelProvider", of("modelProvider")),
            ("model", of("model")),
            ("sessionFamilyKey", by_family.then(|| json!(key))),
            ("currentSessionId", by_family.then(|| json!(id))),
            ("includedSessionIds", by_family.then(|| json!([id]))),
            ("historicalInstanceCount", by_family.then(|| json!(1))),
        ];
        for (name, value) in known.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            row[name] = value;
        }
        row
    }

    /// Everything a session used.
    fn usage(&self, session_id: &str, rows: &[&UsageRow]) -> Value {
        let all = || rows.iter().copied();
        let tally = Tally::of(all());
        let models = by(all(), |row| (&row.provider, &row.model));
        let days = by(all(), |row| self.days.day(row.quarter));
        let quarters = by(all(), |row| row.quarter);
        let by_model_and_day = by(all(), |row| (self.days.day(row.quarter), &row.provider, &row.model));
        let at = |quarter: i64| json!({ "date": date(quarter.div_euclid(96)), "quarterIndex": quarter.rem_euclid(96) });
        let mut usage = with(
            tally.totals(),
            json!({
                "sessionId": session_id,
                "firstActivity": rows.iter().map(|row| row.first_at).min(),
                "lastActivity": rows.iter().map(|row| row.last_at).max(),
                "durationMs": span(rows),
                "messageCounts": tally.messages(),
                "modelUsage": model_rows(&models),
                "activityDates": days.keys().map(|day| date(*day)).collect::<Vec<_>>(),
                "dailyBreakdown": each(&days, |day, sum| with(dated(*day, sum), sum.totals())),
                "dailyMessageCounts": each(&days, |day, sum| with(json!({ "date": date(*day) }), sum.messages())),
                "utcQuarterHourMessageCounts": each(&quarters, |q, sum| with(at(*q), sum.messages())),
                "utcQuarterHourTokenUsage": each(&quarters, |q, sum| with(at(*q), sum.totals())),
                "dailyModelUsage": each(&by_model_and_day, model_of_day),
                "dailyLatency": daily_latency(&days),
            }),
        );
        if let Some(latency) = tally.latency() {
            usage["latency"] = latency;
        }
        usage
    }

    /// Sums over all sessions.
    fn aggregates(&self, sessions: usize, longest: i64) -> Value {
        let rows = &self.rows;
        let tally = Tally::of(rows);
        let days = by(rows, |row| self.days.day(row.quarter));
        let agent = |row: &UsageRow| row.session_key.split(':').nth(1).unwrap_or_default().to_owned();
        let channel = |row: &UsageRow| {
            let key = SessionKey::canonical(&row.session_key, "main").ok();
            key.and_then(|key| key.place().and_then(|place| place.channel.map(str::to_owned)))
        };
        let with_totals =
            |name: &str, value: &str, sum: &Tally| json!({ name: value, "totals": sum.totals() });
        let counted = |name: &str, value: &str, sum: &Tally| json!({ name: value, "count": sum.runs, "totals": sum.totals() });
        let channels = by(rows, channel);
        let of_channels = channels.iter().filter_map(|(channel, sum)| Some((channel.as_deref()?, sum)));
        let mut sums = json!({
            "sessionCount": sessions,
            "longestSessionDurationMs": longest,
            "messages": tally.messages(),
            "tools": { "totalCalls": 0, "uniqueTools": 0, "tools": [] },
            "byModel": model_rows(&by(rows, |row| (&row.provider, &row.model))),
            "byProvider": each(&by(rows, |row| &row.provider), |name, sum| counted("provider", name, sum)),
            "byAgent": each(&by(rows, agent), |id, sum| with_totals("agentId", id, sum)),
            "byChannel": of_channels.map(|(name, sum)| with_totals("channel", name, sum)).collect::<Vec<_>>(),
            "byCreator": [],
            "costDaily": each(&days, |day, sum| with(json!({ "date": date(*day) }), sum.totals())),
            "dailyLatency": daily_latency(&days),
            "modelDaily": each(
                &by(rows, |row| (self.days.day(row.quarter), &row.provider, &row.model)),
                model_of_day,
            ),
            "daily": each(&days, |day, sum| with(dated(*day, sum), json!({
                "messages": sum.message_count(), "toolCalls": 0, "errors": sum.errors(),
            }))),
        });
        if let Some(latency) = tally.latency() {
            sums["latency"] = latency;
        }
        sums
    }
}

fn each<K>(sums: &BTreeMap<K, Tally>, row: impl Fn(&K, &Tally) -> Value) -> Value {
    sums.iter().map(|(key, sum)| row(key, sum)).collect()
}

fn dated(day: i64, sum: &Tally) -> Value {
    json!({ "date": date(day), "tokens": sum.used.tokens(), "cost": sum.used.cost().total() })
}

fn daily_latency(days: &BTreeMap<i64, Tally>) -> Value {
    let row = |(day, sum): (&i64, &Tally)| Some(with(json!({ "date": date(*day) }), sum.latency()?));
    days.iter().filter_map(row).collect()
}

fn model_rows(sums: &BTreeMap<(&String, &String), Tally>) -> Value {
    each(
        sums,
        |(provider, model), sum| json!({ "provider": provider, "model": model, "count": sum.runs, "totals": sum.totals() }),
    )
}

fn model_of_day((day, provider, model): &(i64, &String, &String), sum: &Tally) -> Value {
    with(dated(*day, sum), json!({ "provider": provider, "model": model, "count": sum.runs }))
}

/// The session somebody wants to know more of.
fn detail<'a>(call: Call<'a>) -> Option<(SessionKey, UsageDetailParams, Call<'a>)> {
    let (params, call) = call.parse::<UsageDetailParams>()?;
    let key = match params.key.as_deref().map(str::trim) {
        Some(key) if !key.is_empty() => call.key_of(key, params.agent_id.as_deref()),
        _ => Err(Refusal::usage_key_required(call.method.name())),
    };
    match key {
        Ok(key) => Some((key, params, call)),
        Err(refusal) => {
            call.responder.refuse(refusal);
            None
        }
    }
}

pub fn logs(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((key, params, call)) = detail(call) else { return };
    let limit =
        params.limit.map_or(DEFAULT_USAGE_LOGS, |limit| limit.clamp(1.0, MAX_USAGE_LOGS as f64) as usize);
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let page = HistoryPage { limit: limit as u32, offset: 0 };
        let history = store.read(move |c| store::history(c, key.as_str(), page)).await;
        responder.settle(
            history
                .map_err(|e| store_refusal(&e))
                .map(|history| json!({ "logs": history.rows.iter().filter_map(log).collect::<Vec<_>>() })),
        );
    });
}

/// A message with words in it, and what it took.
fn log(row: &MessageRow) -> Option<Value> {
    let text: String = store::text_of(&row.message).chars().take(LOG_CHARS).collect();
    let known = matches!(row.kind.as_str(), "user" | "assistant" | "toolResult");
    let mut log = json!({ "timestamp": row.created_at, "role": row.kind, "content": text });
    if row.kind == "assistant" {
        log["tokens"] = json!(row.message["usage"]["totalTokens"].as_u64().unwrap_or(0));
        log["cost"] = row.message["usage"]["cost"].get("total").cloned().unwrap_or_else(|| json!(0));
    }
    (known && !text.is_empty()).then_some(log)
}

pub fn timeseries(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((key, _, call)) = detail(call) else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let name = key.clone();
        let found = store.read(move |c| {
            let runs = store::run_usage(c, name.as_str(), 0, i64::MAX, MAX_RUNS)?;
            Ok((store::session(c, name.as_str())?, runs))
        });
        responder.settle(found.await.map_err(|e| store_refusal(&e)).and_then(|(record, runs)| {
            let record = record.ok_or_else(|| Refusal::no_transcript(key.as_str()))?;
            Ok(json!({ "sessionId": record.session_id, "points": points(&runs) }))
        }));
    });
}

fn points(runs: &[RunUsage]) -> Vec<Value> {
    let mut so_far = Usage::default();
    let each = runs.len().div_ceil(MAX_USAGE_POINTS).max(1);
    let point = |runs: &[RunUsage]| {
        let used: Usage = runs.iter().map(|run| run.used).sum();
        so_far = so_far + used;
        json!({
            "timestamp": runs.last().map(|run| run.at),
            "input": used.input,
            "output": used.output,
            "cacheRead": used.cache_read,
            "cacheWrite": used.cache_write,
            "totalTokens": used.tokens(),
            "cost": used.cost().total(),
            "cumulativeTokens": so_far.tokens(),
            "cumulativeCost": so_far.cost().total(),
        })
    };
    runs.chunks(each).map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DAY_MS, QUARTER_MS};

    #[test]
    fn every_day_has_a_row_and_the_totals_are_their_sum() {
        let row = |day: i64, input, output| UsageRow {
            quarter: day * DAY_MS / QUARTER_MS + 5,
            used: Usage { input, output, ..Usage::default() },
            ..UsageRow::default()
        };
        let page = cost_page(&[row(1, 3, 4), row(2, 10, 20)], Days::back(3, 2 * DAY_MS + 5), 0);
        let rows = page["daily"].as_array().unwrap();
        let brief: Vec<_> =
            rows.iter().map(|row| (row["date"].as_str().unwrap(), &row["totalTokens"])).collect();
        assert_eq!(brief, [("1970-01-01", &json!(0)), ("1970-01-02", &json!(7)), ("1970-01-03", &json!(30))]);
        assert_eq!((&page["totals"]["input"], &page["totals"]["totalTokens"]), (&json!(13), &json!(37)));
    }

    #[test]
    fn many_runs_are_summed_up_to_few_points() {
        let run = |n: i64| RunUsage { at: n, used: Usage::free(1, 2), ..RunUsage::default() };
        let points = points(&(1..=401).map(run).collect::<Vec<_>>());
        assert_eq!(points.len(), 134);
        let last = points.last().unwrap();
        assert_eq!((&last["timestamp"], &last["totalTokens"]), (&json!(401), &json!(6)));
        assert_eq!(last["cumulativeTokens"], 1203);
    }
}
