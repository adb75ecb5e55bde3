//! One gateway per state directory, and per port.

use crate::gateway::Process;
use std::process::{Command, Output};

fn second(state: &std::path::Path, port: u16) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crabtree"))
        .args(["run", "--json"])
        .env("CRABTREE_STATE_DIR", state)
        .env("CRABTREE_GATEWAY__PORT", port.to_string())
        .output()
        .unwrap()
}

/// accepts: A4, A5
#[tokio::test]
async fn a_second_gateway_names_the_first_and_a_killed_one_is_no_owner() {
    let state = tempfile::tempdir().unwrap();
    let first = Process::start(state.path()).await;
    let refused = second(state.path(), 0);
    assert_eq!(refused.status.code(), Some(78));
    let text = String::from_utf8_lossy(&refused.stdout);
    assert!(text.contains(&format!("pid {}", first.pid())), "{text}");

    let elsewhere = tempfile::tempdir().unwrap();
    let busy = second(elsewhere.path(), first.addr.port());
    assert_eq!(busy.status.code(), Some(1));
    let text = String::from_utf8_lossy(&busy.stdout);
    assert!(text.contains(&format!("which process {} holds", first.pid())), "{text}");

    first.kill();
    drop(Process::start(state.path()).await);
}
