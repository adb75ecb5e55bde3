//! A node: a machine that a gateway gives commands to, and that tells how it is.

use crate::measured::{Ws, challenged, frame, introduce};
use crate::rpc::call;
use crate::target::Target;
use anyhow::{Context, Result, bail};
use crabtree_protocol::client::encode_request;
use crabtree_protocol::proof::DeviceKey;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Every gateway that is measured knows it by the same key.
const SEED: [u8; 32] = [7; 32];
/// How often it comes, and how long nothing comes to it when it was told everything.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(100);

/// Connects a node whose wishes an operator has approved. A gateway may want to see it anew after that.
pub async fn join(target: &Target) -> Result<Ws> {
    let key = DeviceKey::from_seed(&SEED);
    for _ in 0..LOOKS {
        let (mut ws, challenge) = challenged(TcpStream::connect(target.addr).await?, target.addr).await?;
        introduce(&mut ws, &introduction(target, &key, &challenge)?).await?;
        // What it is told at first is no answer to what it will ask.
        while tokio::time::timeout(LOOK, frame(&mut ws)).await.is_ok_and(|told| told.is_ok()) {}
        if is_approved(target, key.device_id().as_str()).await? {
            return Ok(ws);
        }
    }
    bail!("the node is not approved")
}

/// Whether it was so already; if not, it is now, if it has asked.
async fn is_approved(target: &Target, node_id: &str) -> Result<bool> {
    let mut operator = target.client().await?;
    let listed = call(&mut operator, "node.pair.list", &json!({})).await?;
    let its = |list: &str| listed[list].as_array()?.iter().find(|row| row["nodeId"] == node_id);
    if let Some(asked) = its("pending") {
        let approval = json!({ "requestId": asked["requestId"] });
        call(&mut operator, "node.pair.approve", &approval).await?;
        return Ok(false);
    }
    Ok(its("paired").is_some())
}

fn introduction(target: &Target, key: &DeviceKey, challenge: &str) -> Result<Utf8Bytes> {
    let challenge: Value = serde_json::from_str(challenge)?;
    let (nonce, ts) = (&challenge["payload"]["nonce"], &challenge["payload"]["ts"]);
    let mut params = serde_json::from_value(json!({
        "minProtocol": 4,
        "maxProtocol": 4,
        "client": {
            "id": "node-host", "displayName": "measured", "version": "0", "platform": "linux",
            "deviceFamily": "Linux", "mode": "node", "instanceId": "measured",
        },
        "caps": ["system"],
        "commands": ["system.which"],
        "role": "node",
        "scopes": [],
        "auth": { "token": target.token },
    }))?;
    key.sign_device(
        &mut params,
        nonce.as_str().context("a challenge without a nonce")?,
        ts.as_u64().context("a challenge without a time")?,
    );
    let params = serde_json::to_string(&params)?;
    Ok(encode_request("c", "connect", Some(params.as_bytes())).try_into()?)
}
