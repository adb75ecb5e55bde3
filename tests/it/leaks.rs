//! No secret of a gateway under test goes out: each frame that clients get, each plain HTTP answer and each line of the
//! log is searched for the secrets its configuration was given, and the tokens it gave to devices.
//!
//! Some go out by design: [`BY_DESIGN`], and in hello-ok the device's own token.

use crate::client::TOKEN;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{LazyLock, Once};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

/// Requests whose answers have secrets in them.
const BY_DESIGN: [&str; 4] =
    ["device.token.rotate", "device.pair.setupCode", "secrets.resolve", "secrets.store.list"];
/// Shorter ones are found in innocent words.
const SHORTEST: usize = 8;
/// Secrets of one gateway that are looked for; some tests let in a thousand devices.
const MOST: usize = 64;
/// What is read of the log of a process.
const MAX_LOG: usize = 16 * 1024 * 1024;

/// The secrets of each gateway, by its port.
static KNOWN: LazyLock<Mutex<BTreeMap<u16, BTreeSet<String>>>> = LazyLock::new(Mutex::default);
/// Those of all configurations, for the log, whose lines do not say whose they are.
static CONFIGURED: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);
/// Lines of the log with a secret in them.
static LOGGED: LazyLock<Mutex<Vec<String>>> = LazyLock::new(Mutex::default);

/// Whether the answer to this request may have secrets in it.
pub fn may_answer(method: &str) -> bool {
    BY_DESIGN.contains(&method)
}

/// These are secrets of the gateway at this address.
pub fn register(addr: SocketAddr, secrets: impl IntoIterator<Item = String>) {
    let mut known = KNOWN.lock();
    known.entry(addr.port()).or_default().extend(secrets.into_iter().filter(|s| s.len() >= SHORTEST));
}

/// The secrets in this configuration are.
pub fn register_config(addr: SocketAddr, text: &str) {
    let document: Value = json5::from_str(text).unwrap_or_default();
    let plain = crabtree_actors::secrets::spots::plain(&document).into_iter().map(|(_, secret)| secret);
    let plain: Vec<_> = plain.filter(|secret| secret.len() >= SHORTEST).collect();
    CONFIGURED.lock().extend(plain.iter().cloned());
    register(addr, plain);
}

/// The secrets of whoever listened there before are not those of who does now.
pub fn forget(addr: SocketAddr) {
    KNOWN.lock().remove(&addr.port());
}

/// Panics if a secret of the gateway is in what it said.
pub fn check(port: u16, said: &str) {
    let found = KNOWN.lock().get(&port).and_then(|known| found(known, said));
    if let Some(secret) = &found {
        panic!("a secret went out ({secret:.4}…): {}", said.replace(secret, "<the secret>"));
    }
}

fn found(known: &BTreeSet<String>, said: &str) -> Option<String> {
    known.iter().find(|secret| said.contains(secret.as_str())).cloned()
}

/// The same for a frame; the token in a hello-ok is the device's own, and a secret from then on.
pub fn check_frame(addr: SocketAddr, frame: &Value, text: &str) {
    if frame["payload"]["type"] != "hello-ok" {
        return check(addr.port(), text);
    }
    let mut rest = frame.clone();
    let auth = rest["payload"]["auth"].take();
    check(addr.port(), &rest.to_string());
    let few = KNOWN.lock().get(&addr.port()).is_none_or(|known| known.len() < MOST);
    register(addr, auth["deviceToken"].as_str().filter(|_| few).map(str::to_owned));
}

/// Looks at the log of gateways in this process from now on, and at its end at what was found.
pub struct Watch;

impl Watch {
    /// Begins.
    pub fn begin() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let level = crabtree_actors::settings::LogLevel::Trace;
            let env = crabtree::config::Environment::default();
            let (filter, _) = crabtree::logging::filter(level, &BTreeMap::new(), &env);
            CONFIGURED.lock().insert(TOKEN.to_owned());
            let lines = Lines { known: |said| found(&CONFIGURED.lock(), said), leaks: &LOGGED };
            let subscriber = Registry::default().with(lines.with_filter(filter));
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        Self
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let leaks = LOGGED.lock().clone();
        assert!(leaks.is_empty() || std::thread::panicking(), "the log has secrets in it: {leaks:#?}");
    }
}

/// Panics if a secret of the gateway is in the log of its process.
pub fn check_log(addr: SocketAddr, log: &Path) {
    let text = std::fs::read(log).unwrap_or_default();
    check(addr.port(), &String::from_utf8_lossy(&text[..text.len().min(MAX_LOG)]));
}

/// Searches each line of the log.
struct Lines {
    known: fn(&str) -> Option<String>,
    leaks: &'static Mutex<Vec<String>>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        if let Some(secret) = (self.known)(&line.0) {
            let thread = std::thread::current().name().unwrap_or("another thread").to_owned();
            let place = event.metadata().target();
            self.leaks.lock().push(format!("{thread}: {place}: {}", line.0.replace(&secret, "<the secret>")));
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, "{field}={value} ");
    }
}

mod tests {
    use super::*;
    use crate::client::Client;
    use crate::gateway::Embedded;
    use serde_json::json;

    /// accepts: K2
    #[tokio::test]
    async fn a_frame_with_a_secret_in_it_fails_the_test() {
        let gateway =
            Embedded::with(json!({ "agents": { "list": [{ "id": "main", "name": "Tell No One" }] } })).await;
        register(gateway.addr, ["Tell No One".to_owned()]);
        let addr = gateway.addr;
        let told =
            tokio::spawn(async move { Client::admin(addr).await.call("agents.list", json!({})).await });
        let failure = told.await.unwrap_err().into_panic();
        let text = failure.downcast_ref::<String>().unwrap();
        assert!(text.starts_with("a secret went out") && !text.contains("Tell No One"), "{text}");
    }

    #[test]
    fn a_line_of_the_log_with_a_secret_in_it_is_found() {
        static LEAKS: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let known = |said: &str| found(&BTreeSet::from(["s3cret-of-the-log".to_owned()]), said);
        let subscriber = Registry::default().with(Lines { known, leaks: &LEAKS });
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("nothing");
            tracing::warn!(url = "http://x/bots3cret-of-the-log/getMe", "failed");
            tracing::error!("panicked: {}", "s3cret-of-the-log");
        });
        assert_eq!(LEAKS.lock().len(), 2);
    }

    #[test]
    fn what_a_configuration_keeps_secret_is_known() {
        let addr: SocketAddr = ([127, 0, 0, 1], 1).into();
        register_config(
            addr,
            "{ channels: { telegram: { botToken: '12345:abcdef' } }, gateway: { port: 1 } }",
        );
        assert!(std::panic::catch_unwind(|| check(1, "x 12345:abcdef y")).is_err());
        check(1, "port 12345");
        check(2, "12345:abcdef");
        forget(addr);
        check(1, "12345:abcdef");
    }
}
