//! `crabtree healthcheck`: the question that containers ask every few seconds. It needs no token, and reads
//! the configuration only to know the certificate of a port that speaks TLS.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use crabtree_actors::tls::Fingerprint;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Failure, Global, print_json, print_line, tls};
use crate::config::{self, Environment};
use crate::dial;
use crate::listener::SPEAK_TLS;
use crate::owner;

/// How long the gateway has to answer.
const LIMIT: Duration = Duration::from_secs(3);
/// The longest answer that is read.
const MAX_ANSWER: u64 = 16 * 1024;

pub(super) async fn run(global: &Global) -> Result<ExitCode, Failure> {
    let state_dir = config::state_dir(global.state_dir.as_deref(), &Environment::of_process())?;
    let limit = global.timeout_ms.map_or(LIMIT, Duration::from_millis);
    let Some(address) = owner::address(&state_dir) else {
        let text = format!("no gateway runs with the state directory {}", state_dir.display());
        return Err(
            Failure::failed(text).or_next("start it with `crabtree run`, or name another --state-dir")
        );
    };
    let asked = tokio::time::timeout(limit, readiness(global, address)).await;
    let late = |_| Err(format!("nothing came within {} ms", limit.as_millis()));
    let (status, told) = asked.unwrap_or_else(late).map_err(|why| {
        Failure::failed(format!("the gateway at {address} does not answer: {why}"))
            .or_next("`crabtree doctor` says what is wrong; start it anew if it hangs")
    })?;
    if status != 200 || told["ready"] != true {
        return Err(Failure::failed(format!(
            "the gateway at {address} is not ready: {}",
            failing(status, &told)
        ))
        .or_next("wait if it starts or stops; else `crabtree doctor` says what is wrong"));
    }
    if global.json {
        print_json(&json!({ "ok": true, "address": address, "uptimeMs": told["uptimeMs"] }));
    } else {
        print_line(&format!("ready on {address}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Status and body of `/readyz`, with TLS where that is spoken.
async fn readiness(global: &Global, address: SocketAddr) -> Result<(u16, Value), String> {
    let mut answer = ask(address, false, None).await?;
    if answer == SPEAK_TLS {
        let (loaded, _) = global.loaded().map_err(|failure| failure.told())?;
        answer = ask(address, true, tls::own(&loaded)).await?;
    }
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status.ok_or("that is no HTTP")?, serde_json::from_str(body).unwrap_or_default()))
}

async fn ask(address: SocketAddr, sealed: bool, pin: Option<Fingerprint>) -> Result<String, String> {
    let stream = dial::connect(address.ip().to_string(), address.port(), sealed, pin).await;
    let mut stream = stream.map_err(|error| error.to_string())?;
    let asked = async {
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    asked.await.map_err(|error| error.to_string())
}

/// Why it is not ready, in its own words.
fn failing(status: u16, told: &Value) -> String {
    let words = |key: &str| {
        let all = told[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.collect::<Vec<_>>().join(", ")
    };
    let (failing, waiting) = (words("failing"), words("waitingFor"));
    match (failing.is_empty(), waiting.is_empty()) {
        (true, _) => format!("it answers with status {status}"),
        (false, true) => failing,
        (false, false) => format!("{failing}, waiting for {waiting}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_is_not_ready_says_why() {
        let told =
            json!({ "ready": false, "failing": ["startup-sidecars"], "waitingFor": ["store", "devices"] });
        assert_eq!(failing(503, &told), "startup-sidecars, waiting for store, devices");
        assert_eq!(failing(503, &json!({ "failing": ["gateway-draining"] })), "gateway-draining");
        assert_eq!(failing(404, &Value::Null), "it answers with status 404");
    }
}
