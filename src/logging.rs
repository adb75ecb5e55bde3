//! The log: human lines (or JSON) on standard output, and the same events in the ring that `logs.tail` reads.
//! For `main` only: subscriber and panic hook are global to the process.

use std::{
    fmt::{Debug, Write},
    io::IsTerminal,
    sync::Arc,
};

use crabtree_actors::{log_ring::LogRing, settings::LogLevel};
use serde_json::{Map, Value, json};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::{format::Writer, time::FormatTime, time::SystemTime},
    layer::{Context, SubscriberExt},
};

use crate::config::Environment;

/// Crates whose events belong to a subsystem, which is the rest of the target.
const OURS: [&str; 3] = ["crabtree::", "crabtree_actors::", "crabtree_protocol::"];

/// What is logged: `level` for the gateway, warnings for what it is built on, and `OPENCLAW_LOG_<SUBSYSTEM>=level`
/// for one subsystem. Returns warnings about levels that do not exist.
pub fn filter(level: LogLevel, env: &Environment) -> (Targets, Vec<String>) {
    let level = level_filter(level);
    let mut targets =
        // These log what providers and servers answer, whatever is in it; failures are told by whoever asked.
        Targets::new()
            .with_default(level.min(LevelFilter::WARN))
            .with_target("crabtree", level)
            .with_target("genai", LevelFilter::OFF)
            .with_target("rmcp", LevelFilter::OFF);
    let mut warnings = Vec::new();
    for (name, value) in env.with_prefix("OPENCLAW_LOG_").filter(|(name, _)| *name != "LEVEL") {
        match serde_json::from_value(value.to_ascii_lowercase().into()) {
            Ok(level) => {
                for prefix in OURS {
                    let target = format!("{prefix}{}", name.to_ascii_lowercase());
                    targets = targets.with_target(target, level_filter(level));
                }
            }
            Err(error) => warnings.push(format!("OPENCLAW_LOG_{name}: {error}")),
        }
    }
    (targets, warnings)
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Silent => LevelFilter::OFF,
        LogLevel::Fatal | LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Installs the subscriber and the panic hook.
pub fn install(filter: Targets, json: bool, ring: Arc<LogRing>) -> anyhow::Result<()> {
    let lines = tracing_subscriber::fmt::layer().log_internal_errors(false);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = if json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.with_ansi(std::io::stdout().is_terminal()).boxed()
    };
    let outputs = lines.and_then(RingLayer { ring });
    tracing::subscriber::set_global_default(Registry::default().with(outputs.with_filter(filter)))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        tracing::error!(target: "crabtree::panic", place, thread, "panicked");
        tracing::trace!(target: "crabtree::panic", payload = panic.payload_as_str().unwrap_or_default(), "payload");
    }));
    Ok(())
}

/// Feeds the ring with one JSON object an event, in the shape that OpenClaw's `logs` command reads.
struct RingLayer {
    ring: Arc<LogRing>,
}

impl<S: Subscriber> Layer<S> for RingLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut time = String::new();
        // Without a clock the line goes out undated.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        self.ring.push(line(*event.metadata().level(), event.metadata().target(), &time, fields));
    }
}

/// The numbered keys are the arguments of the log call, as OpenClaw writes them; `message` is all of it as text.
fn line(level: Level, target: &str, time: &str, Fields { message, others }: Fields) -> String {
    let subsystem = OURS.iter().find_map(|prefix| target.strip_prefix(prefix)).unwrap_or(target);
    let name = json!({ "subsystem": subsystem.replace("::", "/") }).to_string();
    let text = others.iter().fold(message.clone(), |text, (key, value)| format!("{text} {key}={value}"));
    let mut line = json!({
        "0": message,
        "_meta": {"date": time, "logLevelName": level.as_str(), "name": name},
        "time": time,
        "message": text,
    });
    if !others.is_empty() {
        line["1"] = Value::Object(others);
    }
    line.to_string()
}

/// The fields of an event: its message, and the others by name.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.others.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.put(field, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // A `Debug` that fails leaves what it wrote.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_flag_and_subsystem() {
        let env = [
            ("OPENCLAW_LOG_STORE", "TRACE"),
            ("OPENCLAW_LOG_ROUTER", "error"),
            ("OPENCLAW_LOG_LEVEL", "silent"),
            ("OPENCLAW_LOG_X", "loud"),
        ];
        let (filter, warnings) = filter(LogLevel::Info, &env.into_iter().collect());
        assert!(filter.would_enable("crabtree::gateway", &Level::INFO));
        assert!(!filter.would_enable("crabtree::gateway", &Level::DEBUG));
        assert!(filter.would_enable("crabtree::store", &Level::TRACE));
        assert!(filter.would_enable("crabtree_actors::store::rows", &Level::TRACE));
        assert!(!filter.would_enable("crabtree::router", &Level::WARN));
        assert!(filter.would_enable("hyper", &Level::WARN) && !filter.would_enable("hyper", &Level::INFO));
        assert!(
            warnings.len() == 1 && warnings[0].contains("OPENCLAW_LOG_X") && warnings[0].contains("loud")
        );
        let silent = super::filter(LogLevel::Silent, &Environment::default()).0;
        assert!(
            !silent.would_enable("crabtree::gateway", &Level::ERROR)
                && !silent.would_enable("x", &Level::ERROR)
        );
    }

    #[test]
    fn events_reach_the_ring_in_stock_shape() {
        let ring = Arc::new(LogRing::default());
        let subscriber = Registry::default().with(RingLayer { ring: ring.clone() });
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "crabtree::tree", path = "gateway/store", restarts = 2, "child {}", "exited");
            tracing::info!(target: "hyper::proto", "plain");
        });
        let lines = ring.tail(None, 10, usize::MAX).lines;
        let line: Value = serde_json::from_str(&lines[0]).expect("a JSON line");
        assert_eq!(
            (&line["0"], &line["message"]),
            (&json!("child exited"), &json!(r#"child exited path="gateway/store" restarts=2"#))
        );
        assert_eq!(line["1"], json!({"path": "gateway/store", "restarts": 2}));
        assert_eq!(line["_meta"]["logLevelName"], "WARN");
        assert_eq!(line["_meta"]["name"], r#"{"subsystem":"tree"}"#);
        assert!(line["time"].as_str().is_some_and(|time| time.ends_with('Z') && time.len() > 20), "{line}");
        assert!(lines[1].contains("hyper/proto") && !lines[1].contains("\"1\""));
    }
}
