//! `crabtree devices`: who is paired with a running gateway.

use std::{process::ExitCode, time::SystemTime};

use clap::{Args, Subcommand, ValueEnum};
use crabtree_protocol::Scope;
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use serde_json::{Value, json};

use super::{Client, Failure, Global, print_json, print_line, printable, table::lines};

/// Characters of an id that tell devices and requests apart in a list.
const SHORT: usize = 12;

/// What to do with devices.
#[derive(Subcommand)]
pub enum DevicesCommand {
    /// List the devices that ask to be paired, and those that are
    #[command(after_help = "Example:\n  crabtree devices list --json | jq -r '.pending[].requestId'")]
    List,
    /// Pair a device that asks
    #[command(after_help = "Example:\n  crabtree devices approve 6102bdd8\n\n\
        The beginning of an id is enough. Look at what the device asks for first: `crabtree devices list`.")]
    Approve {
        /// The request, or the beginning of its id
        request: String,
    },
    /// Refuse a device that asks
    #[command(after_help = "Example:\n  crabtree devices reject 6102bdd8")]
    Reject {
        /// The request, or the beginning of its id
        request: String,
    },
    /// Give a paired device a name
    #[command(after_help = "Example:\n  crabtree devices rename 246d8fe0 'The kitchen tablet'")]
    Rename {
        /// The device, its name, or the beginning of its id
        device: String,
        /// What you call it, up to 64 characters
        name: String,
    },
    /// Forget a device: its connections end, and it has to be paired again
    #[command(after_help = "Example:\n  crabtree devices remove 246d8fe0")]
    Remove {
        /// The device, its name, or the beginning of its id
        device: String,
    },
    /// Give a device a new token: the old one is dead, its connections end
    #[command(after_help = "Example:\n  crabtree devices rotate 246d8fe0 --role operator\n\n\
        The new token is told to the device alone, when it connects with the gateway's token the next time.")]
    Rotate {
        /// The device and the role
        #[command(flatten)]
        of: OfDevice,
        /// What the new token may do [default: the same as the old one]
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
    },
    /// Take a device's token back: its connections end, and the role has to be approved again
    #[command(after_help = "Example:\n  crabtree devices revoke 246d8fe0 --role node")]
    Revoke {
        /// The device and the role
        #[command(flatten)]
        of: OfDevice,
    },
    /// Make a setup code and draw it, for a phone to scan or a node to be started with
    #[command(after_help = "Examples:\n  \
        crabtree devices invite --public-url wss://home.example\n  \
        crabtree devices invite --access node --json | jq -r .setupCode\n\n\
        A code is good once, for the first device that shows it, and for ten minutes. Whoever has it may pair: show it\n\
        to nobody else. `limited` makes a phone a node and an operator that does not administer, `node` a headless\n\
        node; `full` makes an administrator, and asks for wss:// (or this machine).")]
    Invite {
        /// What the device is given
        #[arg(long, value_enum, default_value_t = Access::Limited)]
        access: Access,
        /// Where the device reaches the gateway [default: what the configuration says]
        #[arg(long, value_name = "URL")]
        public_url: Option<String>,
    },
}

/// A device in one of its roles.
#[derive(Args)]
pub struct OfDevice {
    /// The device, its name, or the beginning of its id
    pub device: String,
    /// Which of its tokens
    #[arg(long, value_parser = ["operator", "node"], default_value = "operator")]
    pub role: String,
}

/// What a setup code gives.
#[derive(Clone, Copy, ValueEnum)]
pub enum Access {
    /// A node, and an operator that does not administer
    Limited,
    /// A headless node
    Node,
    /// A node and an administrator
    Full,
}

impl Access {
    fn name(self) -> &'static str {
        match self {
            Self::Limited => "limited",
            Self::Node => "node",
            Self::Full => "full",
        }
    }
}

pub(super) async fn run(global: &Global, command: DevicesCommand) -> Result<ExitCode, Failure> {
    // To give a device what one does not have oneself is not possible: deciding takes administration.
    let mut client = global.connect(&[Scope::Admin]).await?;
    let (answer, told) = match command {
        DevicesCommand::List => {
            let list = client.request("device.pair.list", json!({})).await?;
            let told = listed(&list, now_ms());
            (list, told)
        }
        DevicesCommand::Approve { request } => {
            let request = find(&mut client, "pending", &request).await?;
            let params = json!({"requestId": request["requestId"]});
            let done = client.request("device.pair.approve", params).await?;
            let told = format!("paired {} with {}", name(&done["device"]), given(&done["device"]));
            (done, told)
        }
        DevicesCommand::Reject { request } => {
            let request = find(&mut client, "pending", &request).await?;
            let params = json!({"requestId": request["requestId"]});
            (client.request("device.pair.reject", params).await?, format!("refused {}", name(&request)))
        }
        DevicesCommand::Rename { device, name: label } => {
            let device = find(&mut client, "paired", &device).await?;
            let params = json!({"deviceId": device["deviceId"], "label": label});
            let done = client.request("device.pair.rename", params).await?;
            let told = format!("{} is called {} now", name(&device), word(&done, "label"));
            (done, told)
        }
        DevicesCommand::Remove { device } => {
            let device = find(&mut client, "paired", &device).await?;
            let params = json!({"deviceId": device["deviceId"]});
            let told = format!("forgot {}; it has to be paired again", name(&device));
            (client.request("device.pair.remove", params).await?, told)
        }
        DevicesCommand::Rotate { of, scopes } => {
            let device = find(&mut client, "paired", &of.device).await?;
            let mut params = json!({"deviceId": device["deviceId"], "role": of.role});
            if !scopes.is_empty() {
                params["scopes"] = json!(scopes);
            }
            let told = format!("{} gets a new {} token when it connects again", name(&device), of.role);
            (client.request("device.token.rotate", params).await?, told)
        }
        DevicesCommand::Revoke { of } => {
            let device = find(&mut client, "paired", &of.device).await?;
            let params = json!({"deviceId": device["deviceId"], "role": of.role});
            let told = format!("{} has no {} token any more", name(&device), of.role);
            (client.request("device.token.revoke", params).await?, told)
        }
        DevicesCommand::Invite { access, public_url } => {
            let mut params = json!({"bootstrapProfile": access.name(), "includeQr": global.json});
            if let Some(url) = public_url {
                params["publicUrl"] = json!(url);
            }
            let code = client.request("device.pair.setupCode", params).await;
            let code = code.map_err(|failure| {
                failure.or_next(
                    "say where devices reach the gateway: crabtree devices invite --public-url wss://HOST",
                )
            })?;
            let told = invitation(&code)?;
            (code, told)
        }
    };
    if global.json {
        print_json(&answer);
    } else {
        print_line(&told);
    }
    Ok(ExitCode::SUCCESS)
}

/// The one request or device that is meant.
async fn find(client: &mut Client, list: &str, said: &str) -> Result<Value, Failure> {
    let known = client.request("device.pair.list", json!({})).await?;
    meant(known[list].as_array().map_or(&[], Vec::as_slice), list, said).cloned()
}

fn meant<'a>(rows: &'a [Value], list: &str, said: &str) -> Result<&'a Value, Failure> {
    let (key, what) = if list == "pending" { ("requestId", "request") } else { ("deviceId", "device") };
    let names = ["operatorLabel", "displayName"];
    let exact = |row: &&Value| {
        row[key] == said || what == "device" && names.iter().any(|name| row[*name].as_str() == Some(said))
    };
    let begins = |row: &&Value| !said.is_empty() && row[key].as_str().is_some_and(|id| id.starts_with(said));
    let mut found: Vec<&Value> = rows.iter().filter(exact).collect();
    if found.is_empty() {
        found = rows.iter().filter(begins).collect();
    }
    match found[..] {
        [only] => Ok(only),
        [] => Err(Failure::failed(format!("no {what} is called {said:?} or begins like that"))
            .or_next("`crabtree devices list` shows them")),
        _ => Err(Failure::failed(format!("{} of them are called {said:?} or begin like that", found.len()))
            .or_next("write more of the id")),
    }
}

fn word<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or("?")
}

fn words(list: &Value) -> String {
    let words: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if words.is_empty() { "-".into() } else { words.join(",") }
}

/// What people call a device.
fn name(row: &Value) -> String {
    let said = row["operatorLabel"].as_str().or(row["displayName"].as_str());
    printable(&said.map_or_else(|| short(word(row, "deviceId")), str::to_owned))
}

fn short(id: &str) -> String {
    id.chars().take(SHORT).collect()
}

/// What a device may do, without the prefix that all scopes have.
fn given(row: &Value) -> String {
    let scopes = words(&row["scopes"]).replace("operator.", "");
    format!("{}: {scopes}", words(&row["roles"]))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// How long ago, roughly.
fn ago(at: &Value, now: i64) -> String {
    let Some(at) = at.as_i64() else { return "never".into() };
    let seconds = (now - at).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86400),
    }
}

fn listed(list: &Value, now: i64) -> String {
    let rows = |name: &str| list[name].as_array().cloned().unwrap_or_default();
    let (pending, paired) = (rows("pending"), rows("paired"));
    let mut text = Vec::new();
    if !pending.is_empty() {
        let mut table = vec![["REQUEST", "DEVICE", "FROM", "ASKS FOR", "WHEN"].map(str::to_owned)];
        table.extend(pending.iter().map(|row| {
            let from = row["remoteIp"].as_str().unwrap_or("here").to_owned();
            [short(word(row, "requestId")), name(row), from, given(row), ago(&row["ts"], now)]
        }));
        text.extend(lines(&table));
        text.push("approve one with `crabtree devices approve REQUEST`".into());
        text.push(String::new());
    }
    if paired.is_empty() {
        text.push("no device is paired".into());
    } else {
        let mut table = vec![["ID", "DEVICE", "PLATFORM", "MAY", "SEEN"].map(str::to_owned)];
        table.extend(paired.iter().map(|row| {
            let seen =
                if row["connected"] == true { "connected".into() } else { ago(&row["lastSeenAtMs"], now) };
            let platform = row["platform"].as_str().unwrap_or("-").to_owned();
            [short(word(row, "deviceId")), name(row), platform, given(row), seen]
        }));
        text.extend(lines(&table));
    }
    printable(&text.join("\n"))
}

/// The code as a picture and as text.
fn invitation(answer: &Value) -> Result<String, Failure> {
    let code = word(answer, "setupCode");
    let drawn = QrCode::with_error_correction_level(code, EcLevel::L)
        .map_err(|error| Failure::failed(format!("the code cannot be drawn: {error}")))?;
    // Inverted, since terminals are dark: cameras want dark dots on a light ground.
    let picture = drawn.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    let downgraded = if answer["accessDowngraded"] == true {
        "\n`full` needs wss://, so this code gives less."
    } else {
        ""
    };
    Ok(format!(
        "{picture}\n{}\n\nAccess {}, gateway {}. Good once, within ten minutes.{downgraded}",
        printable(code),
        word(answer, "access"),
        printable(word(answer, "gatewayUrl")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Value {
        let id = |n: &str| format!("{n}{}", "0".repeat(60));
        json!({
            "pending": [
                {"requestId": "6102bdd8-0ec2-46a5-8757-cb769197fd72", "deviceId": id("ab12"), "roles": ["node"],
                 "scopes": [], "remoteIp": "192.168.1.9", "ts": 1_000},
            ],
            "paired": [
                {"deviceId": id("cd34"), "displayName": "Phone\u{1b}[2J", "operatorLabel": "Mine",
                 "platform": "ios", "roles": ["node", "operator"], "scopes": ["operator.read"], "connected": true},
                {"deviceId": id("cd56"), "displayName": "Phone", "platform": "linux", "roles": ["operator"],
                 "scopes": ["operator.admin"], "connected": false, "lastSeenAtMs": 1_000},
            ],
        })
    }

    #[test]
    fn requests_come_before_devices() {
        let text = listed(&list(), 181_000);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "REQUEST       DEVICE        FROM         ASKS FOR  WHEN");
        assert_eq!(lines[1], "6102bdd8-0ec  ab1200000000  192.168.1.9  node: -   3 min ago");
        assert!(lines[2].contains("crabtree devices approve"));
        assert_eq!(lines[4], "ID            DEVICE  PLATFORM  MAY                  SEEN");
        assert_eq!(lines[5], "cd3400000000  Mine    ios       node,operator: read  connected");
        assert_eq!(lines[6], "cd5600000000  Phone   linux     operator: admin      3 min ago");
        assert_eq!(listed(&json!({"pending": [], "paired": []}), 0), "no device is paired");
    }

    #[test]
    fn a_name_or_the_beginning_of_an_id_is_enough_if_it_is_one_ones() {
        let list = list();
        let found = |rows: &str, said: &str| {
            let rows = list[rows].as_array().map(|all| (all, rows)).expect("rows");
            meant(rows.0, rows.1, said).map(|row| short(word(row, "deviceId"))).map_err(|f| f.told())
        };
        assert_eq!(found("pending", "6102"), Ok("ab1200000000".into()));
        assert_eq!(found("paired", "Mine"), Ok("cd3400000000".into()));
        assert_eq!(found("paired", "cd5"), Ok("cd5600000000".into()));
        assert!(found("paired", "cd").is_err_and(|why| why.contains("2 of them")));
        assert!(found("paired", "x").is_err_and(|why| why.contains("crabtree devices list")));
        assert!(found("paired", "").is_err());
    }

    #[test]
    fn an_invitation_is_drawn_and_written() {
        let answer =
            json!({"setupCode": "abc".repeat(50), "access": "limited", "gatewayUrl": "ws://h.local:1"});
        let text = invitation(&answer).expect("it is drawn");
        assert!(text.contains(&"abc".repeat(50)) && text.contains("Access limited, gateway ws://h.local:1."));
        assert!(text.lines().next().is_some_and(|line| line.chars().count() > 30));
    }
}
