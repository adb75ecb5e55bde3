//! A node for tests: it answers only when it is told to.

use crate::client::{Client, TOKEN};
use crabtree_protocol::proof::DeviceKey;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// What a node says it is.
#[derive(Clone)]
pub struct Kind {
    pub client: &'static str,
    pub platform: &'static str,
    pub family: &'static str,
    pub name: &'static str,
    pub caps: &'static str,
    pub commands: &'static str,
    pub permissions: Value,
}

impl Kind {
    pub fn of(
        client: &'static str,
        platform: &'static str,
        family: &'static str,
        name: &'static str,
    ) -> Self {
        Self { client, platform, family, name, caps: "", commands: "", permissions: Value::Null }
    }

    /// A node host on Linux with these commands.
    pub fn linux(commands: &'static str) -> Self {
        Self { caps: "system", commands, ..Self::of("node-host", "linux", "Linux", "box") }
    }
}

pub struct Fake {
    pub client: Client,
    pub id: String,
}

impl Fake {
    /// Connects as the device its name stands for.
    pub async fn connect(addr: SocketAddr, kind: &Kind) -> Self {
        Self::connect_with(addr, kind, json!({ "token": TOKEN })).await
    }

    /// The same, with this `auth`.
    pub async fn connect_with(addr: SocketAddr, kind: &Kind, auth: Value) -> Self {
        let mut seed = [9; 32];
        for (to, from) in seed.iter_mut().zip(kind.name.bytes()) {
            *to = from;
        }
        let key = DeviceKey::from_seed(&seed);
        let (mut client, challenge) = Client::open(addr).await;
        let words = |text: &str| json!(text.split_whitespace().collect::<Vec<_>>());
        let mut params = json!({
            "minProtocol": 4, "maxProtocol": 4,
            "client": {
                "id": kind.client, "displayName": kind.name, "version": "1.0.0", "platform": kind.platform,
                "deviceFamily": kind.family, "mode": "node", "instanceId": "an-instance",
            },
            "role": "node", "scopes": [], "caps": words(kind.caps), "commands": words(kind.commands),
            "pathEnv": "/usr/bin", "auth": auth,
        });
        if !kind.permissions.is_null() {
            params["permissions"] = kind.permissions.clone();
        }
        let mut typed = serde_json::from_value(params).unwrap();
        let nonce = challenge["nonce"].as_str().unwrap();
        key.sign_device(&mut typed, nonce, challenge["ts"].as_u64().unwrap());
        let params = serde_json::to_value(typed).unwrap();
        let answer = client.response_to("connect", params).await;
        assert_eq!(answer["ok"], true, "{answer}");
        client.hello = answer["payload"].clone();
        Self { client, id: key.device_id().to_string() }
    }

    /// Its row is known, whatever it asks for is stored: it has an answer.
    pub async fn settled(&mut self) {
        self.client.response_to("node.event", json!({ "event": "nothing" })).await;
    }

    /// Something that only it is told: no number.
    pub async fn told(&mut self, name: &str) -> Value {
        let event = self.client.event(|e| e["event"] == name).await;
        assert!(event.get("seq").is_none(), "{event}");
        self.client.events.retain(|e| *e != event);
        event["payload"].clone()
    }

    /// The next command.
    pub async fn asked(&mut self) -> Value {
        self.told("node.invoke.request").await
    }

    /// Sends a result; what it is answered.
    pub async fn answer(&mut self, id: &Value, result: Value) -> Value {
        let mut params = json!({ "id": id, "nodeId": self.id });
        params.as_object_mut().unwrap().extend(result.as_object().unwrap().clone());
        self.client.call("node.invoke.result", params).await
    }

    /// Carries out one command that an operator gives; what the operator is answered.
    pub async fn serve(&mut self, operator: &mut Client, command: &str, result: Value) -> Value {
        let id = operator.send("node.invoke", invocation(self, command, json!({}))).await;
        let asked = self.asked().await;
        assert_eq!(asked["command"], command);
        assert_eq!(self.answer(&asked["id"], result).await, json!({ "ok": true }));
        operator.response(&id).await
    }
}

/// The parameters of `node.invoke`.
pub fn invocation(node: &Fake, command: &str, params: Value) -> Value {
    json!({ "nodeId": node.id, "command": command, "params": params, "idempotencyKey": "k" })
}

/// Why an operator's command is refused.
pub async fn refused_by(operator: &mut Client, node: &Fake, command: &str) -> Value {
    operator.refused("node.invoke", invocation(node, command, json!({}))).await
}
