//! `crabtree cron`: jobs with a schedule.

use std::process::ExitCode;

use chrono::{DateTime, Local, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use crabtree_actors::settings::duration_ms;
use crabtree_protocol::Scope;
use serde_json::{Value, json};

use super::{Failure, Global, print_json, print_line, printable, table};

/// What to do with jobs.
#[derive(Subcommand)]
pub enum CronCommand {
    /// List the jobs, the one that is due next first
    #[command(after_help = "Example:\n  crabtree cron list --all")]
    List {
        /// Those that are off, too
        #[arg(long)]
        all: bool,
    },
    /// Add a job
    #[command(after_help = "Examples:\n  \
        crabtree cron add \"0 9 * * 1-5\" 'Sum up my mail' --tz Europe/Berlin --channel telegram --to 123456789\n  \
        crabtree cron add 20m 'The tea is ready' --main\n  \
        crabtree cron add 'every 1h' 'Look after the queue' --quiet")]
    Add(Adding),
    /// Run a job now
    #[command(after_help = "Example:\n  crabtree cron run 48918144-0adc-4f1a-96fc-512ba8af7e43")]
    Run {
        /// Its id
        id: String,
    },
    /// Turn a job on
    #[command(after_help = "Example:\n  crabtree cron enable 48918144-0adc-4f1a-96fc-512ba8af7e43")]
    Enable {
        /// Its id
        id: String,
    },
    /// Turn a job off
    #[command(after_help = "Example:\n  crabtree cron disable 48918144-0adc-4f1a-96fc-512ba8af7e43")]
    Disable {
        /// Its id
        id: String,
    },
    /// Remove a job, and end what it does
    #[command(
        visible_alias = "remove",
        after_help = "Example:\n  crabtree cron rm 48918144-0adc-4f1a-96fc-512ba8af7e43"
    )]
    Rm {
        /// Its id
        id: String,
    },
    /// Show what became of a job's instants, or of all jobs'
    #[command(after_help = "Example:\n  crabtree cron runs --limit 5")]
    Runs {
        /// Its id
        id: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: u32,
    },
}

/// A job to be added.
#[derive(Args)]
pub struct Adding {
    /// When: five to seven fields of cron, `every 1h`, `20m` from now, or a time like 2027-02-01T16:00:00Z
    when: String,
    /// What the agent is to do, or with --main: be told
    what: String,
    /// What to call it [default: how it begins]
    #[arg(long)]
    name: Option<String>,
    /// Tell the agent in its main session, instead of having it work on its own
    #[arg(long, conflicts_with_all = ["channel", "to", "quiet"])]
    main: bool,
    /// The time zone of the fields [default: the gateway's]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// The agent
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// The channel that hears what came of it [default: where the main session was spoken to last]
    #[arg(long)]
    channel: Option<String>,
    /// The chat on it
    #[arg(long)]
    to: Option<String>,
    /// Nobody hears what came of it
    #[arg(long)]
    quiet: bool,
}

pub(super) async fn run(global: &Global, command: CronCommand) -> Result<ExitCode, Failure> {
    let patch = |id: &str, enabled: bool| json!({ "id": id, "patch": { "enabled": enabled } });
    match command {
        CronCommand::List { all } => {
            let params = json!({ "enabled": if all { "all" } else { "enabled" }, "limit": 200 });
            let jobs = global.connect(&[Scope::Read]).await?.request("cron.list", params).await?;
            told(global, &jobs, &listed(&jobs))
        }
        CronCommand::Add(adding) => {
            let params = params(&adding, Utc::now())?;
            let job = global.connect(&[Scope::Admin]).await?.request("cron.add", params).await?;
            let next = job["nextRunAtMs"].as_i64().map_or_else(|| "never".into(), time);
            told(global, &job, &format!("added {}; due next: {next}", word(&job, "id")))
        }
        CronCommand::Run { id } => {
            let params = json!({ "id": id, "mode": "force" });
            let ran = global.connect(&[Scope::Admin]).await?.request("cron.run", params).await?;
            let text = match ran["runId"].as_str() {
                Some(run) => format!("on its way as {run}"),
                None => format!("not run: {}", word(&ran, "reason")),
            };
            told(global, &ran, &text)
        }
        CronCommand::Enable { id } => change(global, "cron.update", patch(&id, true), "it is on").await,
        CronCommand::Disable { id } => change(global, "cron.update", patch(&id, false), "it is off").await,
        CronCommand::Rm { id } => change(global, "cron.remove", json!({ "id": id }), "removed").await,
        CronCommand::Runs { id, limit } => {
            let params = match id {
                Some(id) => json!({ "id": id, "limit": limit }),
                None => json!({ "scope": "all", "limit": limit }),
            };
            let runs = global.connect(&[Scope::Read]).await?.request("cron.runs", params).await?;
            told(global, &runs, &ran(&runs))
        }
    }
}

async fn change(global: &Global, method: &str, params: Value, done: &str) -> Result<ExitCode, Failure> {
    let changed = global.connect(&[Scope::Admin]).await?.request(method, params).await?;
    told(global, &changed, done)
}

fn told(global: &Global, answer: &Value, text: &str) -> Result<ExitCode, Failure> {
    if global.json {
        print_json(answer);
    } else {
        print_line(text);
    }
    Ok(ExitCode::SUCCESS)
}

fn word<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or("?")
}

/// A time as people here write it.
fn time(ms: i64) -> String {
    let at = DateTime::<Utc>::from_timestamp_millis(ms);
    at.map_or_else(|| "?".into(), |at| at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string())
}

fn params(adding: &Adding, now: DateTime<Utc>) -> Result<Value, Failure> {
    let what = adding.what.trim();
    let name = adding.name.clone().unwrap_or_else(|| what.chars().take(40).collect());
    let mut params = json!({ "name": name, "schedule": schedule(adding, now)?, "wakeMode": "now" });
    if let Some(agent) = &adding.agent {
        params["agentId"] = json!(agent);
    }
    if adding.main {
        params["sessionTarget"] = json!("main");
        params["payload"] = json!({ "kind": "systemEvent", "text": what });
        return Ok(params);
    }
    params["sessionTarget"] = json!("isolated");
    params["payload"] = json!({ "kind": "agentTurn", "message": what });
    params["delivery"] = json!({ "mode": if adding.quiet { "none" } else { "announce" } });
    for (name, value) in [("channel", &adding.channel), ("to", &adding.to)] {
        if let Some(value) = value {
            params["delivery"][name] = json!(value);
        }
    }
    Ok(params)
}

fn schedule(adding: &Adding, now: DateTime<Utc>) -> Result<Value, Failure> {
    let when = adding.when.trim();
    if let Some(span) = when.strip_prefix("every ").map(str::trim) {
        let ms = duration_ms(span).filter(|ms| *ms > 0);
        let ms =
            ms.ok_or_else(|| Failure::failed(format!("{span:?} is no time span; write 30s, 5m, 1h or 2d")))?;
        return Ok(json!({ "kind": "every", "everyMs": ms }));
    }
    let span = duration_ms(when).filter(|_| when.ends_with(|c: char| c.is_ascii_alphabetic()));
    if let Some(ms) = span {
        let at = now + chrono::Duration::milliseconds(ms);
        return Ok(json!({ "kind": "at", "at": at.to_rfc3339_opts(SecondsFormat::Millis, true) }));
    }
    if when.starts_with('@') || when.split_whitespace().count() >= 5 {
        let mut schedule = json!({ "kind": "cron", "expr": when });
        if let Some(tz) = &adding.tz {
            schedule["tz"] = json!(tz);
        }
        return Ok(schedule);
    }
    Ok(json!({ "kind": "at", "at": when }))
}

fn listed(jobs: &Value) -> String {
    let rows: Vec<[String; 5]> = jobs["jobs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|job| {
            let on = if job["enabled"] == true { "on" } else { "off" };
            let next = job["nextRunAtMs"].as_i64().map_or_else(|| "-".into(), time);
            let last = job["state"]["lastRunStatus"].as_str().unwrap_or("-");
            [word(job, "id").into(), on.into(), next, last.into(), printable(word(job, "name"))]
        })
        .collect();
    if rows.is_empty() {
        return "No jobs. Add one: crabtree cron add 'every 1h' 'Look after the queue'".into();
    }
    table::lines(&rows).join("\n")
}

fn ran(runs: &Value) -> String {
    let rows: Vec<[String; 4]> = runs["entries"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|run| {
            let due = run["dueAtMs"].as_i64().map_or_else(|| "?".into(), time);
            let what = run["error"].as_str().or(run["summary"].as_str()).unwrap_or_default();
            let what: String = what.chars().take(80).collect();
            [due, word(run, "status").into(), printable(word(run, "jobName")), printable(&what)]
        })
        .collect();
    if rows.is_empty() { "Nothing yet.".into() } else { table::lines(&rows).join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(when: &str) -> Value {
        let adding = Adding {
            when: when.into(),
            what: " do it ".into(),
            name: None,
            main: false,
            tz: Some("Europe/Berlin".into()),
            agent: None,
            channel: None,
            to: None,
            quiet: true,
        };
        let now = DateTime::parse_from_rfc3339("2026-11-20T12:00:00Z").unwrap().with_timezone(&Utc);
        params(&adding, now).unwrap()
    }

    #[test]
    fn when_is_read_as_people_write_it() {
        let when = |text: &str| written(text)["schedule"].clone();
        assert_eq!(when("every 1h"), json!({ "kind": "every", "everyMs": 3_600_000 }));
        assert_eq!(when("20m"), json!({ "kind": "at", "at": "2026-11-20T12:20:00.000Z" }));
        assert_eq!(when("2027-02-01T16:00:00Z"), json!({ "kind": "at", "at": "2027-02-01T16:00:00Z" }));
        assert_eq!(
            when("0 9 * * 1-5"),
            json!({ "kind": "cron", "expr": "0 9 * * 1-5", "tz": "Europe/Berlin" })
        );
    }

    #[test]
    fn what_is_added_is_named_by_its_beginning() {
        let params = written("every 1h");
        assert_eq!((&params["name"], &params["payload"]["message"]), (&json!("do it"), &json!("do it")));
        assert_eq!(params["delivery"], json!({ "mode": "none" }));
    }
}
