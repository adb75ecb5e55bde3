use crabtree_actors::settings::Secret;
use serde_json::{Value, json};

use super::*;

const TAILNET: Ipv4Addr = Ipv4Addr::new(100, 101, 102, 103);

fn gateway(value: Value) -> GatewaySettings {
    serde_json::from_value(value).expect("gateway settings")
}

fn token() -> AuthSecret {
    AuthSecret::Token(Secret::new("t"))
}

/// Where it listens, on a machine in a tailnet or none, in a container or not.
fn listens(
    value: Value,
    secret: &AuthSecret,
    tailnet: Option<Ipv4Addr>,
    container: bool,
) -> Result<Vec<String>, String> {
    let found = addresses(&gateway(value), secret, Machine { tailnet, container });
    found.map(|all| all.iter().map(ToString::to_string).collect()).map_err(|error| error.to_string())
}

#[test]
fn a_client_on_this_machine_is_told_where_to_go() {
    let url = |value| local_url(&gateway(value)).map_err(|e| e.to_string());
    assert_eq!(url(json!({})).as_deref(), Ok("ws://127.0.0.1:18789"));
    assert_eq!(url(json!({"bind": "lan", "port": 1})).as_deref(), Ok("ws://127.0.0.1:1"));
    assert_eq!(url(json!({"tls": {"enabled": true}})).as_deref(), Ok("wss://127.0.0.1:18789"));
    assert_eq!(url(json!({"bind": "tailnet"})).as_deref(), Ok("ws://127.0.0.1:18789"));
    let custom = |host: &str| url(json!({"bind": "custom", "customBindHost": host}));
    assert_eq!(custom("::1").as_deref(), Ok("ws://[::1]:18789"));
    assert_eq!(custom("192.168.1.5").as_deref(), Ok("ws://127.0.0.1:18789"));
    assert!(url(json!({"bind": "custom"})).expect_err("no host").contains("gateway.customBindHost"));
    assert!(custom("x").expect_err("bad host").contains("\"x\""));
}

/// accepts: J6, J11
#[test]
fn binding_follows_the_settings_and_this_machine_is_never_left_out() {
    let on = |value, tailnet, container| listens(value, &token(), tailnet, container);
    let plain = |value| on(value, None, false).expect("it may listen");
    let loopback = ["127.0.0.1:18789", "[::1]:18789"];
    assert_eq!(plain(json!({})), loopback);
    assert_eq!(plain(json!({"bind": "auto"})), loopback);
    assert_eq!(on(json!({"bind": "auto"}), None, true).expect("it may"), ["0.0.0.0:18789"]);
    assert_eq!(plain(json!({"bind": "lan", "port": 1})), ["0.0.0.0:1"]);
    assert_eq!(
        on(json!({"bind": "tailnet"}), Some(TAILNET), false).expect("it may"),
        ["100.101.102.103:18789", "127.0.0.1:18789"]
    );
    assert_eq!(plain(json!({"bind": "tailnet"})), loopback, "without a tailnet");
    let custom = |host: &str| plain(json!({"bind": "custom", "customBindHost": host}));
    assert_eq!(custom(" 192.168.1.5 "), ["192.168.1.5:18789", "127.0.0.1:18789"]);
    assert_eq!(custom("127.0.0.1"), ["127.0.0.1:18789"]);
    assert_eq!(custom("0.0.0.0"), ["0.0.0.0:18789"]);
    assert_eq!(custom("::"), ["[::]:18789"]);
}

/// accepts: J11, C5
#[test]
fn nothing_is_opened_to_others_without_a_lock() {
    let refused =
        |value, secret: &AuthSecret| listens(value, secret, Some(TAILNET), true).expect_err("refused");
    let open = AuthSecret::None;
    for bind in [
        json!({"bind": "lan"}),
        json!({"bind": "auto"}),
        json!({"bind": "tailnet"}),
        json!({"bind": "custom", "customBindHost": "192.168.1.5"}),
        json!({"bind": "custom", "customBindHost": "::"}),
    ] {
        let why = refused(bind.clone(), &open);
        assert!(
            why.contains("gateway.auth.mode to \"token\"") && why.contains("gateway.bind"),
            "{bind}: {why}"
        );
    }
    assert!(listens(json!({}), &open, None, false).is_ok(), "this machine alone");
    assert!(listens(json!({"bind": "tailnet"}), &open, None, false).is_ok(), "it falls back to this machine");
    let proxy = AuthSecret::TrustedProxy(None);
    assert!(refused(json!({}), &proxy).contains("gateway.trustedProxies"));
    assert!(listens(json!({"trustedProxies": ["10.0.0.1"]}), &proxy, None, false).is_ok());
}

/// accepts: J9
#[test]
fn tailscale_brings_clients_to_this_machine_only_and_everybody_only_with_a_password() {
    let with = |mode: &str, bind: &str, secret: &AuthSecret| {
        listens(json!({"bind": bind, "tailscale": {"mode": mode}}), secret, None, false)
    };
    let password = AuthSecret::Password(Secret::new("p"));
    assert!(with("serve", "loopback", &token()).is_ok() && with("funnel", "loopback", &password).is_ok());
    for secret in [&token(), &AuthSecret::None] {
        assert!(with("funnel", "loopback", secret).expect_err("refused").contains("gateway.auth.password"));
    }
    assert!(with("serve", "loopback", &AuthSecret::None).expect_err("refused").contains("\"token\""));
    for mode in ["serve", "funnel"] {
        let why = with(mode, "lan", &password).expect_err("refused");
        assert!(why.contains("gateway.bind to \"loopback\""), "{why}");
    }
}

#[test]
fn an_address_of_a_tailnet_is_known_by_its_range() {
    let of = |text: &str| tailnet(text.parse().expect("an address"));
    assert_eq!(of("100.101.102.103"), Some(TAILNET));
    for text in ["100.64.0.0", "100.127.255.255"] {
        assert!(of(text).is_some(), "{text}");
    }
    for text in ["100.63.255.255", "100.128.0.0", "10.0.0.1", "fd7a:115c:a1e0::1"] {
        assert_eq!(of(text), None, "{text}");
    }
}
