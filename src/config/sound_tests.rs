use super::super::{Environment, Sources, load};
use super::*;
use crabtree_actors::config::Ask;
use crabtree_actors::settings::Loaded;
use tempfile::TempDir;

fn sources(text: &str) -> (TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("openclaw.json"), text).unwrap();
    let sources =
        Sources { state_dir: dir.path().into(), file: None, env: Environment::default(), flags: json!({}) };
    (dir, sources)
}

/// As it starts.
fn first(text: &str) -> Result<Loaded, ConfigError> {
    load(&sources(text).1)
}

/// As it is taken up where `last` is in force.
fn then(last: &str, text: &str) -> Loaded {
    let before = first(last).unwrap_or_else(|e| panic!("{e}"));
    let ask = Ask { draft: None, last: Some(&before.origin.used) };
    sources(text).1.reader()(ask).unwrap_or_else(|e| panic!("{e}"))
}

fn issues(loaded: &Loaded) -> Vec<&str> {
    loaded.issues().iter().map(|issue| issue.path.as_str()).collect()
}

/// accepts: K6
#[test]
fn a_broken_part_is_left_out_and_everything_else_counts() {
    let text = "{
        session: { mainKey: 'kept' },
        models: { providers: { good: { baseUrl: 'http://a' }, bad: { timeoutSeconds: 'x' } } },
        mcp: { servers: { good: { command: 'a' }, bad: { args: 1 } } },
        skills: { entries: { good: {}, bad: { enabled: 'no' } } },
        acp: 5, messages: { queue: { cap: 0 } },
    }";
    let loaded = first(text).unwrap_or_else(|e| panic!("{e}"));
    let settings = &loaded.settings;
    assert_eq!(settings.session.main_key, "kept");
    assert_eq!(settings.models.providers.keys().collect::<Vec<_>>(), ["good"]);
    assert_eq!(settings.mcp.servers.keys().collect::<Vec<_>>(), ["good"]);
    assert!(settings.skills.entries["good"].enabled && !settings.skills.entries["bad"].enabled);
    let mut found = issues(&loaded);
    found.sort_unstable();
    let expected = [
        "acp",
        "mcp.servers.bad.args",
        "messages.queue.cap",
        "models.providers.bad.timeoutSeconds",
        "skills.entries.bad.enabled",
    ];
    assert_eq!(found, expected);
    assert!(loaded.issues().iter().all(|issue| !issue.kept && !issue.message.is_empty()));
    assert!(loaded.raw["mcp"]["servers"]["bad"].is_object(), "the file is as it is");
}

/// What a section of its own would open wider when it is left out stops the start.
/// accepts: K2
#[test]
fn what_the_gateway_cannot_do_without_is_never_left_out() {
    for text in [
        "{ gateway: { port: 'x' } }",
        "{ store: { sync: 'never' } }",
        "{ session: { dmScope: 'x' } }",
        "{ tools: { exec: { security: 'x' } } }",
        "{ tools: { exec: { mode: 'x' } } }",
        "{ agents: { list: [{ id: 'a' }, { id: 'a' }] } }",
        "{ agents: { entries: { kid: { tools: { profile: 'x' } } } } }",
        "{ bindings: [{ match: 7 }] }",
        "{ commands: 7 }",
        "{ gateway: { $include: 'missing' } }",
        "{ $include: 'missing' }",
    ] {
        let why = first(text).err().unwrap_or_else(|| panic!("{text}: it starts")).to_string();
        assert!(why.contains("correct that"), "{text}: {why}");
    }
}

/// accepts: K6
#[test]
fn a_channel_that_is_broken_is_named_and_the_others_are_as_they_were() {
    let good = "{ channels: { telegram: { dmPolicy: 'open', botToken: 't' }, discord: { token: 'd' } } }";
    let bad = "{ channels: { telegram: { dmPolicy: 'x', botToken: 'new' }, discord: { token: 'new' }, irc: 5,
        loopback: { accounts: { a: { allowFrom: 7 }, b: {} } } } }";
    let loaded = first(bad).unwrap_or_else(|e| panic!("{e}"));
    let expected = ["channels.irc", "channels.loopback.accounts.a.allowFrom", "channels.telegram.dmPolicy"];
    assert_eq!(issues(&loaded), expected);
    let loaded = then(good, bad);
    let channels = &loaded.settings.channels.0;
    assert_eq!(channels["telegram"], json!({ "dmPolicy": "open", "botToken": "t" }), "as it was");
    assert_eq!(channels["discord"]["token"], "new");
    assert!(!channels.contains_key("irc") && !channels.contains_key("loopback"));
    assert!(loaded.issues().iter().all(|issue| issue.kept));
}

/// accepts: K6
#[test]
fn while_it_runs_every_broken_section_stays_what_it_was() {
    let good = "{ gateway: { port: 7 }, session: { mainKey: 'a' }, tools: { deny: ['exec'] } }";
    let bad = "{ gateway: { port: 'x' }, session: { mainKey: 'b' }, tools: 5, agents: { list: [{}] } }";
    let loaded = then(good, bad);
    let settings = &loaded.settings;
    assert_eq!((settings.gateway.port, settings.session.main_key.as_str()), (7, "b"));
    assert_eq!((settings.tools.deny.as_slice(), settings.agents.list.len()), (&["exec".to_owned()][..], 0));
    assert_eq!(issues(&loaded).len(), 3, "{:?}", loaded.issues());
    // What is still broken stays what it was, how often it is read.
    let ask = Ask { draft: None, last: Some(&loaded.origin.used) };
    let again = sources(bad).1.reader()(ask).unwrap_or_else(|e| panic!("{e}"));
    assert!(again.settings == loaded.settings && again.issues() == loaded.issues());
}

/// accepts: K6
#[test]
fn a_file_that_cannot_be_included_breaks_the_place_that_names_it() {
    let (dir, sources) = sources(
        "{ mcp: { $include: 'mcp.json5' }, channels: { $include: 'c.json' }, agents: { $include: 'a' } }",
    );
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("mcp.json5", "{ servers: { x: { command: 5 } } }");
    write("c.json", "{ broken");
    write("a", "{ list: [{ id: 'a' }] }");
    let loaded = load(&sources).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.settings.agent_ids(), ["a"]);
    assert_eq!(issues(&loaded), ["channels", "mcp.servers.x.command"]);
    assert!(loaded.issues()[1].message.contains("mcp.json5"), "{:?}", loaded.issues());
    assert!(loaded.issues()[0].message.contains("c.json"), "{:?}", loaded.issues());
    write("a", "{ list: [{}] }");
    let why = load(&sources).err().unwrap().to_string();
    assert!(why.contains("agents.list.0: missing field `id` (in ") && why.contains("/a)"), "{why}");
    let ask = Ask { draft: None, last: Some(&loaded.origin.used) };
    let kept = sources.clone().reader()(ask).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(kept.settings.agent_ids(), ["a"]);
}

#[test]
fn what_the_environment_breaks_is_not_mended_by_the_file() {
    let (_dir, mut sources) = sources("{ messages: { queue: { cap: 5 } } }");
    sources.env = [("CRABTREE_MESSAGES__QUEUE__CAP", "x")].into_iter().collect();
    let why = load(&sources).err().unwrap().to_string();
    assert!(why.starts_with("the environment variable CRABTREE_MESSAGES__QUEUE__CAP"), "{why}");
}
