//! WhatsApp, spoken by the bridge in `examples/whatsapp-bridge`: a driver with its place and credentials settled.

use super::contract::{Account, Capabilities, Channel, Link, Orders, Trouble};
use super::driver::{Doors, Driver};
use crate::process::Guard;
use crate::settings::expanded;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NAME: &str = "whatsapp";

/// See the module.
pub struct WhatsApp {
    driver: Arc<Driver>,
    state: PathBuf,
}

impl WhatsApp {
    /// The channel with its settings (`channels.whatsapp`); its accounts keep their credentials in directories of
    /// their own under `state`.
    ///
    /// # Errors
    /// What to change in the settings.
    pub fn new(channel: &Value, guard: Guard, state: PathBuf) -> Result<Self, String> {
        let driver = json!({ "driver": settled(channel, Vec::new()) });
        let driver = Driver::new(NAME, &driver, guard, Doors::default())?;
        Ok(Self { driver: Arc::new(driver), state })
    }

    /// The account as the driver needs it.
    fn account(&self, account: &Account) -> Result<Account, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if account.id.is_empty() || !account.id.chars().all(plain) {
            return Err(format!(
                "channels.{NAME}.accounts has the name {:?}, which cannot be that of a directory; use letters, \
                 digits, - and _",
                account.id
            ));
        }
        let missing = || {
            format!(
                "channels.{NAME}.bridge is missing; name the bridge's program, \
                 .../examples/whatsapp-bridge/bridge.mjs"
            )
        };
        let bridge = expanded(account.text("bridge").ok_or_else(missing)?);
        if !bridge.is_file() {
            return Err(format!("channels.{NAME}.bridge names no file: {}", bridge.display()));
        }
        let args = arguments(&bridge, &self.state.join(&account.id), &account.settings);
        let settings = json!({ "driver": settled(&account.settings, args) });
        Ok(Account { id: account.id.clone(), settings })
    }
}

fn arguments(bridge: &Path, state: &Path, settings: &Value) -> Vec<String> {
    let mut args: Vec<_> = [bridge, Path::new("--state"), state].map(|arg| arg.display().to_string()).into();
    if settings.get("sendReadReceipts") == Some(&Value::Bool(false)) {
        args.push("--no-receipts".into());
    }
    args
}

/// `driver` with what is left out filled in; what the bridge is started with is always ours.
fn settled(settings: &Value, args: Vec<String>) -> Value {
    let mut driver = settings.get("driver").and_then(Value::as_object).cloned().unwrap_or_default();
    driver.entry("command").or_insert_with(|| json!("node"));
    driver.insert("args".into(), json!(args));
    let capabilities = driver.entry("capabilities").or_insert_with(|| json!({}));
    if let Some(capabilities) = capabilities.as_object_mut() {
        for (name, value) in defaults() {
            capabilities.entry(name).or_insert(value);
        }
    }
    driver.into()
}

/// What WhatsApp can do, apart from changing messages: it allows that for a while only.
fn defaults() -> Map<String, Value> {
    let defaults = json!({
        "textLimit": 4000, "typing": true, "reactions": true, "files": true, "editsEveryMs": 0,
    });
    defaults.as_object().cloned().unwrap_or_default()
}

impl Channel for WhatsApp {
    fn name(&self) -> &str {
        NAME
    }

    fn label(&self) -> &str {
        "WhatsApp"
    }

    fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    fn check(&self, account: &Account) -> Result<(), String> {
        self.driver.check(&self.account(account)?)
    }

    fn run(self: Arc<Self>, account: Account, link: Link, orders: Orders) -> BoxFuture<'static, Trouble> {
        match self.account(&account) {
            Ok(account) => self.driver.clone().run(account, link, orders),
            Err(why) => Box::pin(async { Trouble::Fatal(why) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whatsapp() -> WhatsApp {
        WhatsApp::new(&json!({}), Guard::none(), "/state".into()).unwrap()
    }

    fn account(id: &str, settings: Value) -> Account {
        Account { id: id.into(), settings }
    }

    #[test]
    fn the_bridge_is_started_with_a_directory_of_the_account() {
        let bridge = tempfile::NamedTempFile::new().unwrap();
        let path = bridge.path().display().to_string();
        let settled =
            |settings| whatsapp().account(&account("work", settings)).unwrap().settings["driver"].clone();
        let driver = settled(json!({ "bridge": path }));
        assert_eq!(driver["command"], "node");
        assert_eq!(driver["args"], json!([path, "--state", "/state/work"]));
        let driver = settled(json!({
            "bridge": path, "sendReadReceipts": false,
            "driver": { "command": "/opt/node", "args": ["--inspect"], "capabilities": { "textLimit": 9 } },
        }));
        assert_eq!(driver["command"], "/opt/node");
        assert_eq!(driver["args"], json!([path, "--state", "/state/work", "--no-receipts"]));
        assert_eq!(driver["capabilities"]["textLimit"], 9);
        assert_eq!(driver["capabilities"]["files"], true);
    }

    #[test]
    fn what_is_missing_is_named_and_no_account_leaves_its_directory() {
        for (id, settings, told) in [
            ("default", json!({}), "channels.whatsapp.bridge is missing"),
            ("default", json!({ "bridge": "/no/such/bridge.mjs" }), "names no file: /no/such/bridge.mjs"),
            ("../other", json!({ "bridge": "/etc/hosts" }), "cannot be that of a directory"),
            ("", json!({ "bridge": "/etc/hosts" }), "cannot be that of a directory"),
        ] {
            let why = whatsapp().check(&account(id, settings)).unwrap_err();
            assert!(why.contains(told), "{why}");
        }
        assert!(whatsapp().check(&account("default", json!({ "bridge": "/etc/hosts" }))).is_ok());
    }

    #[test]
    fn it_can_what_whatsapp_can() {
        let can = whatsapp().capabilities();
        assert!(can.typing.is_some() && can.reactions && can.files);
        assert_eq!(can.text_limit, 4000);
        assert!(can.edits.is_none() && !can.idempotent);
    }
}
