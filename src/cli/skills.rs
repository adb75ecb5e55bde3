//! `crabtree skills`: the skills of a running gateway.

use std::{path::absolute, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use crabtree_protocol::Scope;
use serde_json::{Value, json};

use super::{Client, Failure, Global, print_json, print_line, printable, table::lines};

/// How long fetching and checking a skill is waited for.
const INSTALL: Duration = Duration::from_secs(180);
/// Characters of a description that are shown.
const SHOWN: usize = 72;

/// What to do with skills.
#[derive(Subcommand)]
pub enum SkillsCommand {
    /// List the skills of an agent, and whether they work
    #[command(after_help = "Example:\n  crabtree skills list --agent ops")]
    List(OfAgent),
    /// Install a skill from a folder, a .zip, a .tar.gz or a git repository
    #[command(after_help = "Examples:\n  \
        crabtree skills install ./my-skill\n  \
        crabtree skills install ~/Downloads/notes.zip --force\n  \
        crabtree skills install https://github.com/someone/notes-skill\n\n\
        A skill is a folder with a SKILL.md that begins with `---`, `name:`, `description:` and `---`. It is checked\n\
        first: names, sizes, no links. It goes to skills/NAME in the state directory, for all agents. A path is one on\n\
        the gateway's machine. Read a skill before you install it: your agent will do what it says.")]
    Install {
        /// Folder, archive, https URL of a repository, or path of one that ends in .git
        source: String,
        /// Take the place of a skill of the same name
        #[arg(long)]
        force: bool,
    },
    /// Say which skills do not work, and what they need; exit code 1 if one is broken
    #[command(after_help = "Example:\n  crabtree skills check && echo all are whole")]
    Check(OfAgent),
}

/// Whose skills.
#[derive(Args)]
pub struct OfAgent {
    /// The agent [default: the gateway's choice]
    #[arg(long, value_name = "ID")]
    pub agent: Option<String>,
}

pub(super) async fn run(global: &Global, command: SkillsCommand) -> Result<ExitCode, Failure> {
    match command {
        SkillsCommand::List(of) => list(global, &of).await,
        SkillsCommand::Install { source, force } => install(global, &source, force).await,
        SkillsCommand::Check(of) => check(global, &of).await,
    }
}

async fn status(global: &Global, of: &OfAgent) -> Result<Value, Failure> {
    let params = of.agent.as_ref().map_or_else(|| json!({}), |id| json!({"agentId": id}));
    global.connect(&[Scope::Read]).await?.request("skills.status", params).await
}

async fn list(global: &Global, of: &OfAgent) -> Result<ExitCode, Failure> {
    let status = status(global, of).await?;
    if global.json {
        print_json(&status);
    } else {
        print_line(&listed(&status));
    }
    Ok(ExitCode::SUCCESS)
}

fn rows<'a>(status: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    status[name].as_array().into_iter().flatten()
}

fn word<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or("?")
}

fn listed(status: &Value) -> String {
    let cells = |row: &Value| {
        let state = if row["eligible"] == true { "ready" } else { "not ready" };
        let source = word(row, "source").trim_start_matches("openclaw-").to_owned();
        let description: String = word(row, "description").chars().take(SHOWN).collect();
        [word(row, "name").to_owned(), state.to_owned(), source, description]
    };
    let mut table = vec![["SKILL", "STATE", "FROM", "FOR"].map(str::to_owned)];
    table.extend(rows(status, "skills").map(cells));
    let mut lines = lines(&table);
    if table.len() == 1 {
        lines = vec!["no skills; install one with `crabtree skills install FOLDER`".into()];
    }
    match rows(status, "broken").count() {
        0 => {}
        n => lines.push(format!("{n} more cannot be used; `crabtree skills check` says why")),
    }
    printable(&lines.join("\n"))
}

async fn check(global: &Global, of: &OfAgent) -> Result<ExitCode, Failure> {
    let status = status(global, of).await?;
    let report = report(&status);
    if global.json {
        print_json(&report);
    } else {
        print_line(&checked(&report));
    }
    Ok(if report["ok"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(status: &Value) -> Value {
    let (ready, others): (Vec<_>, Vec<_>) = rows(status, "skills").partition(|row| row["eligible"] == true);
    let names: Vec<_> = ready.iter().map(|row| &row["name"]).collect();
    let reasons: Vec<_> =
        others.iter().map(|row| json!({"name": row["name"], "reason": reason(row)})).collect();
    let ok = rows(status, "broken").next().is_none();
    json!({"ok": ok, "ready": names, "notReady": reasons, "broken": status["broken"]})
}

/// Why a skill does not work.
fn reason(row: &Value) -> String {
    if row["disabled"] == true {
        return format!("switched off: skills.entries.{}.enabled", word(row, "skillKey"));
    }
    let kinds = [
        ("os", "platform"),
        ("bins", "programs"),
        ("anyBins", "one of"),
        ("env", "variables"),
        ("config", "settings"),
    ];
    let part = |(key, title): (&str, &str)| {
        let names: Vec<_> = rows(&row["missing"], key).filter_map(Value::as_str).collect();
        (!names.is_empty()).then(|| format!("{title}: {}", names.join(", ")))
    };
    format!("needs {}", kinds.into_iter().filter_map(part).collect::<Vec<_>>().join("; "))
}

fn checked(report: &Value) -> String {
    let mut lines = vec![format!("ready      {}", rows(report, "ready").count())];
    for row in rows(report, "notReady") {
        lines.push(format!("not ready  {}  {}", word(row, "name"), word(row, "reason")));
    }
    for row in rows(report, "broken") {
        lines.push(format!("broken     {}  {}", word(row, "path"), word(row, "reason")));
    }
    printable(&lines.join("\n"))
}

async fn install(global: &Global, source: &str, force: bool) -> Result<ExitCode, Failure> {
    let mut params = origin(source)?;
    params["force"] = force.into();
    let mut target = global.target()?;
    if global.timeout_ms.is_none() {
        target.timeout = INSTALL;
    }
    let done = Client::connect(&target, &[Scope::Admin], &[]).await?.request("skills.install", params).await;
    let done =
        done.map_err(|failure| failure.or_next("`crabtree skills install --help` says what a skill is"))?;
    if global.json {
        print_json(&done);
    } else {
        print_line(&printable(word(&done, "message")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Where it comes from, in the gateway's terms.
fn origin(source: &str) -> Result<Value, Failure> {
    if source.contains("://") {
        if [".zip", ".tar.gz", ".tgz"].iter().any(|end| source.ends_with(end)) {
            return Err(Failure::failed("an archive is not fetched from elsewhere")
                .or_next("download it first, and install the file"));
        }
        return Ok(json!({"source": "git", "url": source}));
    }
    let path = absolute(source).map_err(|error| Failure::failed(format!("{source:?}: {error}")))?;
    let kind = if source.ends_with(".git") { ("git", "url") } else { ("path", "path") };
    Ok(json!({"source": kind.0, kind.1: path}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Value {
        json!({
            "skills": [
                {"name": "notes", "eligible": true, "source": "openclaw-managed", "description": "Takes notes."},
                {"name": "op", "eligible": false, "source": "openclaw-workspace", "description": "x".repeat(100),
                 "skillKey": "op", "missing": {"bins": ["op", "jq"], "env": ["K"], "os": []}},
                {"name": "off", "eligible": false, "source": "openclaw-extra", "description": "y", "skillKey": "k",
                 "disabled": true, "missing": {"bins": ["a"]}},
            ],
            "broken": [{"source": "openclaw-managed", "path": "/s/bad", "reason": "it has no SKILL.md"}],
        })
    }

    #[test]
    fn skills_are_listed_in_columns() {
        let text = listed(&status());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "SKILL  STATE      FROM       FOR");
        assert_eq!(lines[1], "notes  ready      managed    Takes notes.");
        assert_eq!(lines[2].chars().count(), 29 + SHOWN);
        assert_eq!(lines[4], "1 more cannot be used; `crabtree skills check` says why");
        assert!(listed(&json!({"skills": [], "broken": []})).starts_with("no skills; install one"));
    }

    #[test]
    fn what_does_not_work_is_told_with_its_reason() {
        let report = report(&status());
        assert_eq!(report["ok"], false);
        assert_eq!(
            checked(&report),
            "ready      1\nnot ready  op  needs programs: op, jq; variables: K\n\
             not ready  off  switched off: skills.entries.k.enabled\nbroken     /s/bad  it has no SKILL.md"
        );
    }

    #[test]
    fn a_source_says_what_it_is() {
        assert_eq!(
            origin("https://x.example/r").unwrap(),
            json!({"source": "git", "url": "https://x.example/r"})
        );
        assert_eq!(origin("/srv/r.git").unwrap(), json!({"source": "git", "url": "/srv/r.git"}));
        assert_eq!(origin("/srv/a.zip").unwrap(), json!({"source": "path", "path": "/srv/a.zip"}));
        let relative = origin("./skill").unwrap()["path"].as_str().map(str::to_owned).unwrap();
        assert!(relative.starts_with('/') && relative.ends_with("/skill"), "{relative}");
        assert!(origin("https://x.example/a.zip").is_err());
    }
}
