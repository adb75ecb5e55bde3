//! `crabtree channels`: the messaging channels of a running gateway.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use crabtree_protocol::Scope;
use serde_json::{Value, json};

use super::{Client, Failure, Global, print_json, print_line, printable};

/// What to do with channels.
#[derive(Subcommand)]
pub enum ChannelsCommand {
    /// List the accounts, how they are, and what is on its way out
    #[command(after_help = "Example:\n  crabtree channels list --json")]
    List,
    /// Start accounts that are parked or stopped
    #[command(after_help = "Example:\n  crabtree channels start telegram")]
    Start(OfChannel),
    /// Stop accounts until they are started, or their configuration changes
    #[command(after_help = "Example:\n  crabtree channels stop telegram --account work")]
    Stop(OfChannel),
    /// List the people who ask to be let in
    #[command(after_help = "Example:\n  crabtree channels pending")]
    Pending,
    /// Let somebody in, by the code they were given
    #[command(after_help = "Example:\n  crabtree channels approve telegram K7PQ2MXA\n\n\
        Who is let in owns the assistant: they may give commands, and the agent does for them what it does for you.")]
    Approve(ByCode),
    /// Turn somebody away; they get another code when they write again
    #[command(after_help = "Example:\n  crabtree channels dismiss telegram K7PQ2MXA")]
    Dismiss(ByCode),
    /// Send a message
    #[command(after_help = "Examples:\n  \
        crabtree channels send telegram 123456789 'The washing is done.'\n  \
        crabtree channels send discord channel:998877 'Good morning.'")]
    Send {
        /// The channel
        channel: String,
        /// The chat: an id of a person, or group:ID, channel:ID
        to: String,
        /// What it says, in Markdown
        text: String,
        /// The account
        #[arg(long, value_name = "ID")]
        account: Option<String>,
    },
}

/// A channel, or one account of it.
#[derive(Args)]
pub struct OfChannel {
    /// The channel
    channel: String,
    /// One account only
    #[arg(long, value_name = "ID")]
    account: Option<String>,
}

/// Who asks to be let in.
#[derive(Args)]
pub struct ByCode {
    /// The channel
    channel: String,
    /// The code they were given
    code: String,
}

pub(super) async fn run(global: &Global, command: ChannelsCommand) -> Result<ExitCode, Failure> {
    match command {
        ChannelsCommand::List => list(global).await,
        ChannelsCommand::Start(of) => switch(global, "channels.start", of).await,
        ChannelsCommand::Stop(of) => switch(global, "channels.stop", of).await,
        ChannelsCommand::Pending => pending(global).await,
        ChannelsCommand::Approve(by) => decide(global, "channels.pairing.approve", &by).await,
        ChannelsCommand::Dismiss(by) => decide(global, "channels.pairing.dismiss", &by).await,
        ChannelsCommand::Send { channel, to, text, account } => {
            let key = format!("cli-{}", rand::random::<u64>());
            let params = json!({
                "channel": channel, "to": to, "message": text, "accountId": account.unwrap_or_default(),
                "idempotencyKey": key,
            });
            let sent = global.connect(&[Scope::Write]).await?.request("send", params).await?;
            told(global, &sent, &format!("sent to {to} as message {}", word(&sent, "messageId")))
        }
    }
}

fn told(global: &Global, answer: &Value, text: &str) -> Result<ExitCode, Failure> {
    if global.json {
        print_json(answer);
    } else {
        print_line(text);
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or("?")
}

async fn list(global: &Global) -> Result<ExitCode, Failure> {
    let status = global.connect(&[Scope::Read]).await?.request("channels.status", json!({})).await?;
    told(global, &status, &listed(&status))
}

fn listed(status: &Value) -> String {
    let mut lines = Vec::new();
    for (channel, accounts) in status["channelAccounts"].as_object().into_iter().flatten() {
        for row in rows(accounts) {
            let name = format!("{channel}/{}", word(row, "accountId"));
            let counts = row["deliveries"].as_object().into_iter().flatten();
            let counts: Vec<String> = counts.map(|(state, n)| format!("{n} {state}")).collect();
            lines.push(format!("{name:<24} {:<11} {}", word(row, "healthState"), counts.join(", ")));
            if let Some(error) = row["lastError"].as_str().filter(|_| row["connected"] == false) {
                lines.push(format!("{:<24} {}", "", printable(error)));
            }
        }
    }
    if lines.is_empty() {
        return "No channels yet. Configure one, for instance channels.telegram.botToken.".into();
    }
    lines.join("\n")
}

async fn switch(global: &Global, method: &str, of: OfChannel) -> Result<ExitCode, Failure> {
    let mut params = json!({ "channel": of.channel });
    if let Some(account) = of.account {
        params["accountId"] = json!(account);
    }
    let switched = global.connect(&[Scope::Admin]).await?.request(method, params).await?;
    let what = if method.ends_with("start") { "started" } else { "stopped" };
    told(global, &switched, &format!("{} accounts of {} {what}", switched["accounts"], of.channel))
}

async fn pending(global: &Global) -> Result<ExitCode, Failure> {
    let waiting =
        global.connect(&[Scope::Pairing]).await?.request("channels.pairing.list", json!({})).await?;
    let line = |row: &Value| {
        let name = row["metadata"]["name"].as_str().or(row["metadata"]["username"].as_str()).unwrap_or("");
        format!(
            "{:<12} {}  {} {}",
            word(row, "channel"),
            word(&row["metadata"], "code"),
            printable(word(row, "senderId")),
            printable(name)
        )
    };
    let lines: Vec<String> = rows(&waiting["requests"]).map(line).collect();
    let text = if lines.is_empty() { "Nobody asks to be let in.".into() } else { lines.join("\n") };
    told(global, &waiting, &text)
}

async fn decide(global: &Global, method: &str, by: &ByCode) -> Result<ExitCode, Failure> {
    let mut client: Client = global.connect(&[Scope::Pairing]).await?;
    let waiting = client.request("channels.pairing.list", json!({ "channel": by.channel })).await?;
    let has_code = |row: &&Value| word(&row["metadata"], "code").eq_ignore_ascii_case(by.code.trim());
    let Some(request) = rows(&waiting["requests"]).find(has_code) else {
        return Err(Failure::failed(format!(
            "nobody on {} waits with the code {}: codes are good for an hour; `crabtree channels pending` lists them",
            by.channel, by.code
        )));
    };
    let mut params = json!({
        "channel": by.channel, "accountId": request["accountId"], "requestId": request["requestId"],
    });
    let approves = method.ends_with("approve");
    if approves {
        params["notify"] = json!(true);
    }
    let decided = client.request(method, params).await?;
    let what = if approves { "let in" } else { "turned away" };
    told(global, &decided, &format!("{} {what}", printable(word(&decided, "senderId"))))
}
