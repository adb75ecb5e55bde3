use crabtree_actors::config::{ConfigFile, Kept};
use crabtree_actors::process::Guard;
use crabtree_actors::secrets::{Ask as Asked, Keyring, Secrets, rotate, spots};
use crabtree_actors::settings::{AuthMode, LogLevel, SecretInput};

use super::*;

fn sources(file: &str, env: &[(&str, &str)], flags: Value) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().expect("a directory");
    if !file.is_empty() {
        std::fs::write(dir.path().join("openclaw.json"), file).expect("it is writable");
    }
    let env = env.iter().copied().collect();
    let sources = Sources { state_dir: dir.path().into(), file: None, env, flags };
    (dir, sources)
}

fn loaded(file: &str, env: &[(&str, &str)], flags: Value) -> Result<Loaded, String> {
    load(&sources(file, env, flags).1).map_err(|error| error.to_string())
}

fn error(file: &str, env: &[(&str, &str)]) -> String {
    loaded(file, env, json!({})).err().expect("it is refused")
}

#[test]
fn the_limit_of_sockets_has_openclaws_own_variable() {
    let limit = |env: &[_]| {
        let loaded = loaded("", env, json!({})).expect("it loads");
        loaded.settings.gateway.max_preauth_connections_per_ip
    };
    assert_eq!((limit(&[]), limit(&[("OPENCLAW_MAX_PREAUTH_CONNECTIONS_PER_IP", "7")])), (32, 7));
}

#[test]
fn each_layer_wins_over_the_one_before() {
    let port = |file, env: &[_], flags| loaded(file, env, flags).map(|loaded| loaded.settings.gateway.port);
    let file = "{ gateway: { port: 1, /* JSON5 */ }, }";
    let openclaw = ("OPENCLAW_GATEWAY_PORT", "2");
    let ours = ("CRABTREE_GATEWAY__PORT", "3");
    assert_eq!(port("", &[], json!({})), Ok(18789));
    assert_eq!(port(file, &[], json!({})), Ok(1));
    assert_eq!(port(file, &[openclaw], json!({})), Ok(2));
    assert_eq!(port(file, &[openclaw, ours], json!({})), Ok(3));
    assert_eq!(port(file, &[openclaw, ours], json!({"gateway": {"port": 4}})), Ok(4));
}

#[test]
fn the_environment_reaches_every_setting() {
    let env = [
        ("CRABTREE_GATEWAY__HANDSHAKE_TIMEOUT_MS", "9"),
        ("CRABTREE_GATEWAY__CHAOS__ENABLED", "true"),
        ("CRABTREE_AGENTS__LIST", r#"[{"id":"a"}]"#),
        ("CRABTREE_AGENTS__DEFAULTS__MODEL", r#"{"primary":"x/y"}"#),
        ("CRABTREE_STATE_DIR", "/nowhere"),
        ("CRABTREE_GATEWAY_PORT", "1"),
        ("CRABTREE_GATEWAY__PROT", "1"),
        ("OPENCLAW_GATEWAY_TOKEN", "12345"),
        ("OPENCLAW_LOG_LEVEL", "DEBUG"),
    ];
    let loaded = loaded("", &env, json!({})).expect("it loads");
    let Settings { gateway, agents, logging, .. } = loaded.settings;
    assert!(gateway.chaos.enabled && gateway.handshake_timeout_ms == 9);
    assert_eq!((agents.list[0].id.as_str(), agents.defaults.model.primary.as_str()), ("a", "x/y"));
    assert!(gateway.auth.token == Some(SecretInput::Text("12345".into())));
    assert_eq!((gateway.auth.effective_mode(), logging.level), (AuthMode::Token, LogLevel::Debug));
    assert!(loaded.warnings.iter().any(|w| w.contains("CRABTREE_GATEWAY_PORT is not used")));
    assert!(loaded.warnings.iter().any(|w| w.contains("CRABTREE_GATEWAY__PROT: this version")));
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
}

#[test]
fn unknown_keys_warn_and_stay() {
    let loaded = loaded("{tts: {telegram: {botToken: 'x'}}}", &[], json!({})).expect("it loads");
    assert_eq!(loaded.raw["tts"]["telegram"]["botToken"], "x");
    assert!(loaded.exists && loaded.warnings.len() == 1 && loaded.warnings[0].contains("tts"));
    assert!(loaded.hash.starts_with("blake3:v1:"));
}

#[test]
fn errors_name_place_and_key() {
    let text = error("{gateway: {port: 'abc'}}", &[]);
    assert!(text.contains("openclaw.json: gateway.port: ") && text.contains("expected u16"), "{text}");
    let text = error("{gateway: {bind: 'lam'}}", &[]);
    assert!(text.contains("gateway.bind: ") && text.contains("loopback"), "{text}");
    let text = error("", &[("CRABTREE_GATEWAY__PORT", "99999")]);
    assert!(text.starts_with("the environment variable CRABTREE_GATEWAY__PORT: gateway.port: "), "{text}");
    let text = error("{gateway: {auth: {token: 55555}}}", &[]);
    assert!(text.contains("gateway.auth.token: ") && !text.contains("55555"), "{text}");
    let text = error("{gateway: {port: }", &[]);
    assert!(text.contains("openclaw.json cannot be read"), "{text}");
    assert!(error("[]", &[]).contains("an object was expected"));
    assert!(error("{agents: {list: [{name: 'x'}]}}", &[]).contains("agents.list.0: missing field `id`"));
}

#[test]
fn toml_is_read_and_a_named_file_must_exist() {
    let (dir, mut sources) = sources("", &[], json!({}));
    sources.file = Some(dir.path().join("c.toml"));
    assert!(load(&sources).err().expect("no file").to_string().contains("c.toml cannot be read"));
    std::fs::write(dir.path().join("c.toml"), "[gateway]\nport = 7\n").expect("it is writable");
    let loaded = load(&sources).map_err(|e| e.to_string());
    assert_eq!(loaded.map(|l| (l.settings.gateway.port, l.raw)), Ok((7, json!({"gateway": {"port": 7}}))));
}

#[test]
fn the_example_shows_the_defaults() {
    let example = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config/openclaw.example.json5"));
    let mut loaded = loaded(example, &[], json!({})).expect("it loads");
    assert_eq!(loaded.warnings, [""; 0]);
    assert!(loaded.settings.gateway.auth.mode.take() == Some(AuthMode::Token));
    assert!(loaded.settings == Settings::default());
}

/// A main file that includes another one, both with secrets, the first in an older form.
const SECRETS: [(&str, &str); 2] = [
    (
        "openclaw.json",
        "// main\n{ gateway: { auth: { token: 'plain-1' } }, telegram: { botToken: 'plain-2' }, \
         mcp: { $include: 'mcp.json5' } }\n",
    ),
    ("mcp.json5", "// servers\n{ servers: { a: { command: 'x', env: { WORD: 'plain-3' } } } }\n"),
];

fn with_secrets() -> (tempfile::TempDir, Sources) {
    let (dir, sources) = sources("", &[], json!({}));
    SECRETS
        .iter()
        .for_each(|(name, text)| std::fs::write(dir.path().join(name), text).expect("it is written"));
    (dir, sources)
}

/// accepts: K2
#[test]
fn what_is_published_of_several_files_holds_no_secret_and_what_is_kept_holds_all() {
    let (dir, sources) = with_secrets();
    let secrets = Secrets::new(dir.path(), Guard::none(), &[0; 32]);
    let mut loaded = load(&sources).expect("it loads");
    let kept = Kept::of(&loaded);
    secrets.prepare(&mut loaded, Asked::Anew);
    let published = |loaded: &Loaded| {
        let origin = &loaded.origin;
        let settings = serde_json::to_value(&loaded.settings).expect("it is plain data");
        let files: Vec<_> = origin.included.iter().map(|file| (&file.text, &file.content)).collect();
        let documents = (&loaded.raw, &origin.written, &origin.used, settings);
        format!("{documents:?} {files:?} {} {:?} {:?}", loaded.text, loaded.warnings, origin.issues)
    };
    let told = published(&loaded);
    assert!(!told.contains("plain-") && told.contains("// main"), "{told}");
    let used = kept.used().expect("it is known");
    assert_eq!(used["channels"]["telegram"]["botToken"], "plain-2");
    assert_eq!(used["mcp"]["servers"]["a"]["env"]["WORD"], "plain-3");
    let good = kept.good().expect("nothing is broken");
    assert!((1..=3).all(|n| good.contains(&format!("plain-{n}"))), "{good}");

    let broken = "{ models: { providers: { x: 'plain-4' } }, acp: 'plain-5' }";
    std::fs::write(dir.path().join("openclaw.json"), broken).expect("it is written");
    let mut loaded = load(&sources).expect("it loads");
    assert_eq!((loaded.issues().len(), Kept::of(&loaded).good().is_none()), (2, true));
    let said: Vec<_> = loaded.issues().iter().map(|issue| issue.message.clone()).collect();
    assert!(said.iter().all(|said| !said.contains("plain-")), "{said:?}");
    secrets.prepare(&mut loaded, Asked::Anew);
    assert!(loaded.origin.used.is_null());
}

/// accepts: K2
#[test]
fn secrets_of_several_files_are_sealed_where_they_stand_and_sealed_anew() {
    let (dir, sources) = with_secrets();
    let main = SECRETS[0].1.replace("telegram: { botToken: 'plain-2' }, ", "");
    std::fs::write(dir.path().join("openclaw.json"), main).expect("it is written");
    let file = ConfigFile::new(sources.reader());
    let recipient = || Keyring::made(dir.path()).expect("it is made").recipient().expect("there is a key");
    let mut sealed = rotate::seal_config(&file, recipient(), false).expect("they are sealed");
    sealed.sort();
    assert_eq!(sealed, ["gateway.auth.token", "mcp.servers.a.env.WORD"]);
    let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("it is there");
    let both = || text("openclaw.json") + &text("mcp.json5");
    assert!(!both().contains("plain-") && both().matches("sealed:").count() == 2, "{}", both());
    assert!(both().contains("// main") && both().contains("// servers") && both().contains("$include"));
    assert!(!dir.path().join("mcp.json5.bak").exists() && !dir.path().join("openclaw.json.bak").exists());

    let before = (recipient().text(), both());
    let done = rotate::rotate(dir.path(), &file).expect("the key is replaced");
    assert_eq!((done.config, done.left.is_empty(), done.retired), (2, true, true));
    assert!(recipient().text() != before.0 && both() != before.1);
    let keys = Keyring::open(dir.path()).expect("it opens");
    let loaded = file.read(None).ok().expect("it is read").loaded;
    let opened: Vec<_> = spots::sealed(&loaded.raw)
        .into_iter()
        .map(|(_, text)| keys.open_sealed(&text).expect("it opens").expose().to_owned())
        .collect();
    assert_eq!(opened, ["plain-1", "plain-3"]);
}

#[test]
fn a_secret_in_an_older_place_is_not_overlooked_when_secrets_are_sealed() {
    let (dir, sources) = with_secrets();
    let recipient = Keyring::made(dir.path()).expect("it is made").recipient().expect("there is a key");
    let refusal =
        rotate::seal_config(&ConfigFile::new(sources.reader()), recipient, false).expect_err("older");
    assert!(refusal.message.contains("crabtree config migrate"), "{}", refusal.message);
    let text = std::fs::read_to_string(dir.path().join("openclaw.json")).expect("it is there");
    assert_eq!(text, SECRETS[0].1);
}
