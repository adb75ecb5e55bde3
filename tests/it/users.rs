//! People, as far as somebody who is believed names them; and that nothing looks for updates.

use crate::client::{Client, Intro, connect_params};
use crate::gateway::Embedded;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

#[tokio::test]
async fn who_holds_the_secret_on_a_device_is_the_owner_and_a_program_is_nobody() {
    let gateway = Embedded::start().await;
    let mut program = Client::admin(gateway.addr).await;
    let error = program.refused("users.self", json!({})).await;
    assert_eq!(error["message"], "users.self requires an authenticated user");
    let device = Intro { device: Some([3; 32]), ..Intro::default() };
    let mut owner = Client::connect(gateway.addr, &device).await.unwrap();
    let profile = owner.call("users.self", json!({})).await["profile"].clone();
    assert_eq!((&profile["id"], &profile["displayName"]), (&json!("gateway-owner"), &Value::Null));
    assert!(profile["createdAt"].as_i64().unwrap() > 1_700_000_000_000, "{profile}");
    let all = owner.call("users.list", json!({})).await;
    assert_eq!(all, json!({ "profiles": [profile] }));
    let status = owner.call("update.status", json!({})).await;
    assert_eq!(
        (&status["updateAvailable"], &status["schedule"]["autoEnabled"]),
        (&Value::Null, &json!(false))
    );
}

#[tokio::test]
async fn a_person_whom_a_trusted_proxy_names_has_a_profile_that_stays() {
    let config = json!({ "gateway": {
        "trustedProxies": ["127.0.0.1"],
        "auth": { "mode": "trusted-proxy", "trustedProxy": {
            "userHeader": "x-forwarded-user", "allowLoopback": true, "deviceAutoApprove": { "enabled": true },
        } },
        "controlUi": { "allowedOrigins": ["https://gw.example"] },
    } });
    let auth = crabtree_actors::settings::AuthSecret::TrustedProxy(None);
    let gateway = Embedded::with_auth(config, auth).await;
    let mut ids = vec![];
    for user in ["nick@example.com", "nick@example.com", "ann"] {
        let mut request = format!("ws://{}", gateway.addr).into_client_request().unwrap();
        for (name, value) in [
            ("x-forwarded-for", "203.0.113.70"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "gw.example"),
            ("x-forwarded-user", user),
            ("origin", "https://gw.example"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let (mut client, challenge) = Client::over(connect_async(request).await.unwrap().0).await;
        let intro = Intro {
            id: "openclaw-control-ui",
            mode: "webchat",
            scopes: vec!["operator.read"],
            auth: json!({}),
            device: Some(device_of(user)),
            ..Intro::default()
        };
        let hello = client.response_to("connect", connect_params(&intro, &challenge)).await;
        assert_eq!(hello["ok"], true, "{hello}");
        let profile = client.call("users.self", json!({})).await["profile"].clone();
        let emails: Vec<&str> = [user].into_iter().filter(|user| user.contains('@')).collect();
        assert_eq!(
            (&profile["emails"], &profile["displayName"]),
            (&json!(emails), &json!(user.split('@').next()))
        );
        ids.push(profile["id"].as_str().unwrap().to_owned());
        let all = client.call("users.list", json!({})).await["profiles"].clone();
        let listed = all.as_array().unwrap().iter().filter(|one| one["id"] == ids[ids.len() - 1].as_str());
        assert!(listed.count() <= 1, "{all}");
    }
    assert!(ids[0] == ids[1] && ids[1] != ids[2], "{ids:?}");
}

/// A device of their own for each.
fn device_of(user: &str) -> [u8; 32] {
    let mut seed = [11; 32];
    seed[..user.len()].copy_from_slice(user.as_bytes());
    seed
}
