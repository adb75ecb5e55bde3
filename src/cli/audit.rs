//! `crabtree audit`: who did what, and whether the list is as it was written.

use std::process::ExitCode;

use chrono::{DateTime, Local, Utc};
use clap::Subcommand;
use crabtree_actors::store::Offline;
use crabtree_protocol::Scope;
use serde_json::{Value, json};

use super::{Failure, Global, print_json, print_line, printable, table};
use crate::owner;

/// Rows of one page.
const PAGE: u64 = 500;

/// What to do with the ledger.
#[derive(Subcommand)]
pub enum AuditCommand {
    /// Print who did what, the newest first
    #[command(
        after_help = "Examples:\n  crabtree audit list\n  crabtree audit list --since 2h --method config.\n  \
        crabtree audit list --who 192.168.1.7 --limit 1000 --json\n\n\
        What was said is not in it, and no secret: names, ids and decisions."
    )]
    List {
        /// Not before: 30m, 12h, 7d, or a time such as 2026-11-20T08:00:00Z
        #[arg(long, value_name = "WHEN", value_parser = since)]
        since: Option<i64>,
        /// Whose: the id of a device, the name of a client, a user, an agent, or an address
        #[arg(long, value_name = "WHO")]
        who: Option<String>,
        /// What begins like this: a method, "agent.run", "tool."
        #[arg(long, value_name = "METHOD")]
        method: Option<String>,
        /// At most so many rows
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u64,
    },
    /// Say whether the ledger is as it was written; exit code 1 if not
    #[command(after_help = "Examples:\n  crabtree audit verify\n  crabtree audit verify --head 1042:9f…\n\n\
        Each row is hashed over the one before it. Who can write the database could write all of it anew: keep the head \
        that this prints somewhere else, and give it back with --head.")]
    Verify {
        /// A head that was printed before
        #[arg(long, value_name = "ROW:HASH")]
        head: Option<String>,
    },
}

/// A time, or so long ago, ms.
fn since(text: &str) -> Result<i64, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.timestamp_millis());
    }
    let wrong = || format!("{text:?} is neither 30m, 12h or 7d nor a time such as 2026-11-20T08:00:00Z");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: i64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    let ago = number.checked_mul(seconds * 1000).filter(|ago| *ago >= 0).ok_or_else(wrong)?;
    Ok((Utc::now().timestamp_millis() - ago).max(0))
}

pub(super) async fn run(global: &Global, command: AuditCommand) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::List { since, who, method, limit } => list(global, since, who, method, limit).await,
        AuditCommand::Verify { head } => verify(global, head).await,
    }
}

async fn list(
    global: &Global,
    since: Option<i64>,
    who: Option<String>,
    method: Option<String>,
    limit: u64,
) -> Result<ExitCode, Failure> {
    let mut client = global.connect(&[Scope::Read]).await?;
    let mut params = json!({});
    let given = [
        ("after", since.map(Value::from)),
        ("who", who.map(Value::from)),
        ("method", method.map(Value::from)),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            params[name] = value;
        }
    }
    let mut rows: Vec<Value> = Vec::new();
    while (rows.len() as u64) < limit {
        params["limit"] = json!((limit - rows.len() as u64).min(PAGE));
        let mut page = client.request("audit.activity.list", params.clone()).await?;
        if let Value::Array(events) = page["events"].take() {
            rows.extend(events);
        }
        match page["nextCursor"].take() {
            Value::String(cursor) => params["cursor"] = cursor.into(),
            _ => break,
        }
    }
    if global.json {
        print_json(&json!({ "events": rows }));
    } else if rows.is_empty() {
        print_line("Nothing of that kind was done.");
    } else {
        let cells: Vec<[String; 6]> = rows.iter().map(cells).collect();
        table::lines(&cells).into_iter().for_each(|line| print_line(&printable(&line)));
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &Value) -> [String; 6] {
    let text = |value: &Value| value.as_str().unwrap_or_default().replace(['\n', '\t'], " ");
    let at = row["occurredAt"].as_i64().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
    let status = match row["errorCode"].as_str() {
        Some(code) => format!("{} {code}", text(&row["status"])),
        None => text(&row["status"]),
    };
    let short =
        |id: String| if id.chars().count() > 24 { id.chars().take(23).chain(['…']).collect() } else { id };
    let about = ["target", "toolName", "sessionKey"].iter().find_map(|name| row[*name].as_str());
    let summary = row["summary"].as_object().into_iter().flatten();
    let summary: Vec<String> = summary.map(|(name, value)| format!("{name}={}", words(value))).collect();
    let address = row["origin"]["address"].as_str().map(|address| format!(" {address}")).unwrap_or_default();
    [
        at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string(),
        format!("{}{address}", short(text(&row["actor"]["id"]))),
        text(&row["action"]),
        status,
        about.unwrap_or_default().to_owned(),
        summary.join(" "),
    ]
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

async fn verify(global: &Global, head: Option<String>) -> Result<ExitCode, Failure> {
    let verdict = match offline(global, head.as_deref())? {
        Some(verdict) => verdict,
        None => {
            let params = head.map_or(json!({}), |head| json!({ "head": head }));
            global.connect(&[Scope::Read]).await?.request("audit.verify", params).await?
        }
    };
    let ok = verdict["ok"] == true;
    if global.json {
        print_json(&verdict);
    } else if ok {
        print_line(&format!("{} rows, as they were written.", verdict["rows"]));
        print_line(&format!("head    {}", verdict["head"].as_str().unwrap_or_default()));
        print_line(&format!("anchor  {}", verdict["anchor"].as_str().unwrap_or_default()));
    } else {
        print_line(&printable(&format!(
            "NOT as it was written: {}",
            verdict["problem"].as_str().unwrap_or("?")
        )));
        print_line("Compare with a backup; what happened since is in the log of the machine, if anywhere.");
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The verdict without a gateway; `None` if one runs, or another machine's is asked.
fn offline(global: &Global, head: Option<&str>) -> Result<Option<Value>, Failure> {
    if global.url.is_some() {
        return Ok(None);
    }
    let (loaded, _) = global.loaded()?;
    if owner::holder(&loaded.state_dir).is_some() {
        return Ok(None);
    }
    let path = loaded.state_dir.join("store.sqlite");
    let failed = |e| Failure::failed(format!("{}: {e}", path.display()));
    let verdict = Offline::open(&path).and_then(|db| db.verify_audit(head)).map_err(failed)?;
    let verdict = verdict.ok_or_else(|| {
        Failure::failed(format!("{} is older than the ledger: start the gateway once", path.display()))
    })?;
    Ok(Some(json!({
        "ok": verdict.problem.is_none(), "rows": verdict.rows, "anchor": verdict.anchor, "head": verdict.head,
        "problem": verdict.problem,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_points_and_as_spans() {
        assert_eq!(since("1970-01-01T00:00:01Z"), Ok(1000));
        let hour = Utc::now().timestamp_millis() - since("1h").expect("a span");
        assert!((3_600_000..3_660_000).contains(&hour), "{hour}");
        for wrong in ["", "h", "1x", "-1h", "9999999999999999d", "yesterday", "1é"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
