//! The log: human lines (or JSON) on standard output, and the same events in the ring that `logs.tail` reads, and in a
//! file if there is to be one.
//! For `main` only: subscriber and panic hook are global to the process.

mod file;

use std::{
    collections::BTreeMap,
    fmt::{Debug, Write},
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
};

use crabtree_actors::log_ring::LogRing;
use crabtree_actors::settings::{ConsoleStyle, LogLevel, LoggingSettings};
use file::LogFile;
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
    reload::{self, Handle},
};

use crate::config::Environment;

/// The levels, as the ring counts them.
const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

/// Crates whose events belong to a subsystem, which is the rest of the target.
const OURS: [&str; 3] = ["crabtree::", "crabtree_actors::", "crabtree_protocol::"];

/// The log of this process.
pub struct Log {
    env: Environment,
    console: Handle<Targets, Registry>,
    kept: Handle<Targets, Registry>,
    file: Option<LogFile>,
}

impl Log {
    /// Takes up other levels. Returns warnings about those that do not exist.
    pub fn change(&self, settings: &LoggingSettings) -> Vec<String> {
        let (console, kept, warnings) = filters(settings, &self.env);
        // Fails only when the subscriber is gone, and the process with it.
        let _ = (self.console.reload(console), self.kept.reload(kept));
        warnings
    }

    /// Waits until the file has what was written, for a while.
    pub fn flush(&self) {
        self.file.iter().for_each(LogFile::flush);
    }
}

/// What the console shows, and what is kept: the ring and the file.
fn filters(settings: &LoggingSettings, env: &Environment) -> (Targets, Targets, Vec<String>) {
    let (kept, warnings) = filter(settings.level, &settings.subsystems, env);
    // The variable is for both, as in OpenClaw.
    let own = settings.console_level.filter(|_| env.get("OPENCLAW_LOG_LEVEL").is_none());
    let console = own.map_or_else(|| kept.clone(), |level| filter(level, &settings.subsystems, env).0);
    (console, kept, warnings)
}

/// What is logged: `level` for the gateway, warnings for what it is built on, and for one subsystem what the settings
/// or `OPENCLAW_LOG_<SUBSYSTEM>=level` say. Returns warnings about levels that do not exist.
pub fn filter(
    level: LogLevel,
    subsystems: &BTreeMap<String, LogLevel>,
    env: &Environment,
) -> (Targets, Vec<String>) {
    let level = level_filter(level);
    let mut targets =
        // These log what providers and servers answer, whatever is in it; failures are told by whoever asked.
        Targets::new()
            .with_default(level.min(LevelFilter::WARN))
            .with_target("crabtree", level)
            .with_target("genai", LevelFilter::OFF)
            .with_target("rmcp", LevelFilter::OFF);
    let mut own: BTreeMap<String, LogLevel> =
        subsystems.iter().map(|(name, level)| (name.replace('/', "::"), *level)).collect();
    let mut warnings = Vec::new();
    for (name, value) in env.with_prefix("OPENCLAW_LOG_").filter(|(name, _)| *name != "LEVEL") {
        match serde_json::from_value(value.to_ascii_lowercase().into()) {
            Ok(level) => drop(own.insert(name.to_ascii_lowercase(), level)),
            Err(error) => warnings.push(format!("OPENCLAW_LOG_{name}: {error}")),
        }
    }
    for (name, level) in own {
        for prefix in OURS {
            targets = targets.with_target(format!("{prefix}{name}"), level_filter(level));
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

/// Installs the subscriber and the panic hook. Returns warnings about what is not as it was asked for.
pub fn install(
    settings: &LoggingSettings,
    state_dir: &Path,
    env: &Environment,
    ring: Arc<LogRing>,
) -> anyhow::Result<(Log, Vec<String>)> {
    let (console, kept, mut warnings) = filters(settings, env);
    let file = settings.file.as_deref().and_then(|path| {
        let path = place(path, state_dir, env);
        let opened = LogFile::open(path.clone(), settings.max_file_bytes, ring.clone());
        let failed = |e| format!("logging.file: {} cannot be written: {e}; there is no file", path.display());
        opened.map_err(|e| warnings.push(failed(e))).ok()
    });
    let lines = tracing_subscriber::fmt::layer().log_internal_errors(false);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.console_style {
        Some(ConsoleStyle::Json) => lines.json().flatten_event(true).boxed(),
        _ => lines.with_ansi(std::io::stdout().is_terminal()).boxed(),
    };
    let (console, console_handle) = reload::Layer::new(console);
    let (kept, kept_handle) = reload::Layer::new(kept);
    let keeper = RingLayer { ring, file: file.clone() };
    let outputs = vec![lines.with_filter(console).boxed(), keeper.with_filter(kept).boxed()];
    tracing::subscriber::set_global_default(Registry::default().with(outputs))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        tracing::error!(target: "crabtree::panic", place, thread, "panicked");
        tracing::trace!(target: "crabtree::panic", payload = panic.payload_as_str().unwrap_or_default(), "payload");
    }));
    let log = Log { env: env.clone(), console: console_handle, kept: kept_handle, file };
    Ok((log, warnings))
}

/// Where the file is: `~/` is the home directory, what is relative is in the state directory.
fn place(path: &str, state_dir: &Path, env: &Environment) -> PathBuf {
    match (path.strip_prefix("~/"), env.get("HOME")) {
        (Some(rest), Some(home)) => Path::new(home).join(rest),
        _ => state_dir.join(path),
    }
}

/// Feeds the ring and the file with one JSON object an event, in the shape that OpenClaw's `logs` command reads.
struct RingLayer {
    ring: Arc<LogRing>,
    file: Option<LogFile>,
}

impl<S: Subscriber> Layer<S> for RingLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut time = String::new();
        // Without a clock the line goes out undated.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let level = *event.metadata().level();
        let line = line(level, event.metadata().target(), &time, fields);
        self.ring.count(LEVELS.iter().position(|known| *known == level).unwrap_or_default());
        if let Some(file) = &self.file {
            file.push(line.clone());
        }
        self.ring.push(line);
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
        let own = BTreeMap::from([
            ("channels/telegram".to_owned(), LogLevel::Debug),
            ("store".into(), LogLevel::Error),
        ]);
        let (filter, warnings) = filter(LogLevel::Info, &own, &env.into_iter().collect());
        assert!(filter.would_enable("crabtree_actors::channels::telegram", &Level::DEBUG));
        assert!(filter.would_enable("crabtree::gateway", &Level::INFO));
        assert!(!filter.would_enable("crabtree::gateway", &Level::DEBUG));
        assert!(filter.would_enable("crabtree::store", &Level::TRACE));
        assert!(filter.would_enable("crabtree_actors::store::rows", &Level::TRACE));
        assert!(!filter.would_enable("crabtree::router", &Level::WARN));
        assert!(filter.would_enable("hyper", &Level::WARN) && !filter.would_enable("hyper", &Level::INFO));
        assert!(
            warnings.len() == 1 && warnings[0].contains("OPENCLAW_LOG_X") && warnings[0].contains("loud")
        );
        let silent = super::filter(LogLevel::Silent, &BTreeMap::new(), &Environment::default()).0;
        assert!(
            !silent.would_enable("crabtree::gateway", &Level::ERROR)
                && !silent.would_enable("x", &Level::ERROR)
        );
    }

    #[test]
    fn the_console_has_a_level_of_its_own_unless_the_environment_names_one() {
        let settings = LoggingSettings { console_level: Some(LogLevel::Error), ..LoggingSettings::default() };
        let shown = |env: &[(&str, &str)]| {
            let (console, kept, _) = filters(&settings, &env.iter().copied().collect());
            let is_on = |targets: &Targets| targets.would_enable("crabtree::store", &Level::INFO);
            (is_on(&console), is_on(&kept))
        };
        assert_eq!((shown(&[]), shown(&[("OPENCLAW_LOG_LEVEL", "info")])), ((false, true), (true, true)));
    }

    #[test]
    fn a_file_is_in_the_state_directory_or_where_it_is_said() {
        let env = [("HOME", "/home/me")].into_iter().collect();
        let at = |path| place(path, Path::new("/state"), &env).display().to_string();
        assert_eq!(
            [at("a.log"), at("/var/a.log"), at("~/a.log")],
            ["/state/a.log", "/var/a.log", "/home/me/a.log"]
        );
    }

    #[test]
    fn events_reach_the_ring_in_stock_shape() {
        let ring = Arc::new(LogRing::default());
        let subscriber = Registry::default().with(RingLayer { ring: ring.clone(), file: None });
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
        assert_eq!(ring.counted(), [0, 1, 1, 0, 0]);
        assert!(lines[1].contains("hyper/proto") && !lines[1].contains("\"1\""));
    }
}
