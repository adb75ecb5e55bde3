//! What a gateway on both platforms keeps in memory while nobody says anything.

use super::{ANN, and};
use crate::fakes::discord::{ADA, Discord};
use crate::fakes::telegram::Telegram;
use crate::gateway::Process;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// How long it is left alone.
const REST: Duration = Duration::from_secs(5);
/// How long its end may take.
const END: Duration = Duration::from_secs(20);
/// Ten times what a release build should take.
const MOST_MB: f64 = 350.0;

/// `CRABTREE_SERVER` names another binary, whose figure is printed; `config/optimise` does, and looks at what ran, and
/// `examples/beside-openclaw`, which reads it.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_rest_on_both_platforms_it_keeps_little_in_memory() {
    let (telegram, discord) = (Telegram::start().await, Discord::start().await);
    let state = tempfile::tempdir().unwrap();
    let config = json!({ "channels": {
        "telegram": and(telegram.settings(), json!({ "allowFrom": [ANN] })),
        "discord": and(discord.settings(), json!({ "allowFrom": [ADA] })),
    } });
    std::fs::write(state.path().join("openclaw.json"), config.to_string()).unwrap();
    let program =
        std::env::var_os("CRABTREE_SERVER").map_or(env!("CARGO_BIN_EXE_crabtree").into(), PathBuf::from);
    let mut process = Process::of_program(&program, state.path()).await;
    discord.line().seen(|seen| seen.identifies == 1).await;
    telegram.called("getUpdates").await;
    tokio::time::sleep(REST).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kb: f64 = resident.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    let mb = kb * 1024.0 / 1e6;
    println!("on Telegram and Discord at rest: {mb:.1} MB resident");
    assert!(mb < MOST_MB, "{mb} MB");
    process.signal("TERM");
    assert!(process.died_within(END).await);
}
