//! Hostile handshakes: generated ones by the hundred thousand on real sockets, and those written by hand. Nobody is
//! let in without a right credential and a proof that holds, nothing crashes, memory stays where it was, and who is
//! connected notices nothing.
//!
//! What is sent depends on a seed, which is printed. `CRABTREE_HOSTILE_SEED=n` takes another one, and
//! `CRABTREE_HOSTILE_FRAMES=n` sends more or fewer.
//!
//! | file | what |
//! |---|---|
//! | `arsenal` | what is sent |
//! | `requests` | what is sent beside a `connect` |
//! | `doorman` | who may come in, decided apart from the gateway |
//! | `siege` | the sockets it is sent on, and what came back |
//! | `proofs`, `tokens`, `guesses` | the cases written by hand |

mod arsenal;
mod doorman;
mod guesses;
mod proofs;
mod requests;
mod siege;
mod tokens;

use crate::client::{Client, Intro, TOKEN, connect_params};
use crate::flood::held;
use crate::flood::mutate::Dice;
use crate::gateway::Process;
use arsenal::{Arsenal, Challenge};
use crabtree_actors::conns::Peer;
use crabtree_actors::handshake::{Rules, Shared, judge};
use crabtree_actors::settings::{AuthSecret, Secret};
use crabtree_protocol::proof::DeviceKey;
use crabtree_protocol::{ConnectParams, RequestFrame};
use doorman::Doorman;
use serde_json::{Value, json};
use siege::{Seen, Siege};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Frames of an ordinary run.
const FRAMES: u64 = 100_000;
const SEED: u64 = 0x0b5e_55ed;
/// Attackers at the same time, each from an address of its own.
const LANES: usize = 16;
/// What the gateway may hold more after it all than after the first tenth of it, in kilobytes.
const MAX_GROWTH: u64 = 24 * 1024;
/// The longest that who is connected may wait for an answer meanwhile.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Requests to pair that are kept, whoever asks.
const MAX_PENDING: usize = 100;
/// The key that attackers do not have.
const VICTIM: [u8; 32] = [77; 32];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seed() -> u64 {
    number("CRABTREE_HOSTILE_SEED").unwrap_or(SEED)
}

fn frames() -> u64 {
    number("CRABTREE_HOSTILE_FRAMES").unwrap_or(FRAMES)
}

/// A device that is paired, and its token.
async fn paired(gateway: &Process, seed: [u8; 32]) -> (Intro, String) {
    let read = vec!["operator.read"];
    let intro = Intro { device: Some(seed), scopes: read, ..Intro::default() };
    let client = Client::connect(gateway.addr, &intro).await.unwrap();
    (intro, client.hello["auth"]["deviceToken"].as_str().unwrap().to_owned())
}

/// What attackers have read along, and the token in it: a `connect` of the victim's as it went over the wire.
async fn captured(gateway: &Process) -> (Value, String) {
    let (intro, token) = paired(gateway, VICTIM).await;
    let intro = Intro { auth: json!({ "deviceToken": token }), ..intro };
    let (mut client, challenge) = Client::open(gateway.addr).await;
    let params = connect_params(&intro, &challenge);
    assert_eq!(client.response_to("connect", params.clone()).await["ok"], true);
    (json!({ "type": "req", "id": "t1", "method": "connect", "params": params }), token)
}

/// Somebody who is connected through it all: asks again and again, and counts what it is told.
async fn bystander(mut client: Client, mut over: oneshot::Receiver<()>) -> (Client, Duration) {
    let mut longest = Duration::ZERO;
    while over.try_recv().is_err() {
        let asked = Instant::now();
        client.call("health", json!({})).await;
        longest = longest.max(asked.elapsed());
        let rest = tokio::time::sleep(Duration::from_millis(50));
        tokio::pin!(rest);
        loop {
            tokio::select! {
                () = &mut rest => break,
                frame = client.next_frame() => client.events.push(frame.expect("the bystander's socket stays open")),
            }
        }
    }
    (client, longest)
}

/// Everything that is or was restarted, or is not running.
fn disturbed(node: &Value) -> Vec<String> {
    let quiet = node["restarts"] == 0 && node["state"] == "running";
    let own = (!quiet).then(|| node["path"].to_string());
    let children = node["children"].as_array().into_iter().flatten().flat_map(disturbed);
    own.into_iter().chain(children).collect()
}

/// Waits until so many sockets are left.
async fn until_alone(addr: SocketAddr, sockets: usize) {
    let gauge = format!("crabtree_connections {sockets}\n");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (_, text) = crate::gateway::http(addr, "GET", "/metrics").await.unwrap();
        if text.contains(&gauge) {
            return;
        }
        assert!(Instant::now() < deadline, "sockets are left over: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Guesses are neither delayed nor locked out here, so that there can be so many; `guesses` shows what they meet.
fn settings(state: &Path) {
    let config = json!({ "gateway": {
        "handshakeTimeoutMs": 2_000,
        "auth": { "rateLimit": { "exemptLoopback": false, "maxAttempts": 64, "windowMs": 1 } },
    } });
    std::fs::write(state.join("openclaw.json"), config.to_string()).unwrap();
}

/// accepts: B6, B10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_hostile_frames_let_nobody_in_and_disturb_nobody() {
    let (seed, frames) = (seed(), frames());
    let state = tempfile::tempdir().unwrap();
    settings(state.path());
    let gateway = Process::start(state.path()).await;
    let (over, ended) = oneshot::channel();
    let witness = tokio::spawn(bystander(Client::admin(gateway.addr).await, ended));
    let (captured, stolen) = captured(&gateway).await;
    let (_, own) = paired(&gateway, arsenal::seed_of(0)).await;
    let siege = Arc::new(Siege {
        to: gateway.addr,
        seed,
        arsenal: Arsenal::new(captured, &stolen, &own),
        doorman: Doorman::new(&stolen, &own),
    });
    let resident = || if cfg!(target_os = "linux") { held(gateway.pid()).1 } else { 0 };
    let start = Instant::now();
    // The first of them pay for what is kept: threads, buffers, the allocator's arenas.
    let mut seen = Siege::lay(&siege, 0, frames / 10, LANES).await;
    let before = resident();
    seen.add(Siege::lay(&siege, seen.connections, frames - frames / 10, LANES).await);
    let (took, after) = (start.elapsed(), resident());
    over.send(()).unwrap();
    let (mut bystander, longest) = witness.await.unwrap();
    println!(
        "seed {seed}: {} frames on {} sockets in {took:.1?}, {:.0} frames/s, {before} kB before, {after} kB after, \
         the longest wait of who was connected {longest:.0?}\n{seen}",
        seen.frames,
        seen.connections,
        seen.frames as f64 / took.as_secs_f64(),
    );
    assert!(seen.breaches.is_empty(), "seed {seed}: {:#?}", seen.breaches);
    assert!(seen.frames >= frames);
    if frames >= FRAMES {
        assert!(seen.is_thorough(), "{seen}");
        assert!(after < before + MAX_GROWTH, "{after} kB, {before} kB before");
    }

    assert!(longest < MAX_WAIT, "{longest:?}");
    let ticks = bystander.events.iter().filter(|e| e["event"] == "tick").count();
    assert!(ticks as u64 >= took.as_secs() / 30, "{ticks} ticks in {took:?}");
    assert_eq!(bystander.seqs(), (1..=bystander.seqs().len() as u64).collect::<Vec<_>>());
    let tree = bystander.call("system.actors", json!({})).await;
    assert_eq!(disturbed(&tree["root"]), Vec::<String>::new());
    assert!(bystander.events.iter().all(|e| e["event"] != "system.actors.changed"));
    let list = bystander.call("device.pair.list", json!({})).await;
    let pending = list["pending"].as_array().unwrap().len();
    assert!((1..=MAX_PENDING).contains(&pending), "{pending} requests to pair");
    // Nothing is left of the attackers' sockets.
    until_alone(gateway.addr, 1).await;
}

/// The same frames without sockets, against the pure part of the handshake.
/// accepts: B6, B10
#[test]
fn what_the_handshake_accepts_is_what_a_second_pair_of_eyes_accepts() {
    let (seed, frames) = (seed(), frames() / 4);
    let (stolen, own) = ("a-token-of-somebody-elses-device", "a-token-of-an-own-device");
    let key = DeviceKey::from_seed(&VICTIM);
    let captured = arsenal::connect_of(&key, json!({ "deviceToken": stolen }), &Challenge::new("earlier"));
    let (arsenal, doorman) = (Arsenal::new(captured, stolen, own), Doorman::new(stolen, own));
    let secret = AuthSecret::Token(Secret::new(TOKEN));
    let rules = Rules { auth: &secret, allowed_origins: &[], locked: None };
    let (peer, mut accepted) = (Peer::new([127, 0, 0, 1].into()), 0);
    for n in 0..frames {
        let (mut dice, challenge) = (Dice((seed ^ n << 20) | 1), Challenge::new(&format!("nonce {n}")));
        let Some(text) = arsenal.first(&mut dice, &challenge).text() else { continue };
        let Ok(frame) = RequestFrame::parse(&text) else { continue };
        let Ok(params) = ConnectParams::parse(frame.params) else { continue };
        let verdict = judge(&params, &peer, rules, &challenge.nonce, challenge.ts as i64);
        let Ok(claim) = verdict.as_ref().map_err(|refusal| {
            let refusal = refusal.refusal.as_ref();
            assert!(refusal.is_none_or(|refusal| Seen::is_recorded(&json!(refusal))), "{refusal:?}");
        }) else {
            continue;
        };
        let (knows, proved) = doorman.opinion(&text, &challenge.nonce);
        assert_eq!(matches!(claim.shared, Shared::Granted(_)), knows, "seed {seed}, frame {n}: {text}");
        assert!(claim.device.is_none() || proved, "seed {seed}, frame {n}: {text}");
        accepted += 1;
    }
    println!("seed {seed}: {frames} frames, {accepted} of them hold");
    assert!(accepted > frames / 100, "{accepted} of {frames}");
}
