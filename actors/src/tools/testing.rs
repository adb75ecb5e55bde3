//! A call of a tool as tests make it: a place with nothing behind it but its workspace.

use super::{Call, Place, Tool, ToolResult, run};
use crate::estate::{Boot, Brought, Estate, EstateArgs};
use crate::process::Guard;
use crate::settings::{AuthSecret, Loaded, Secret, Settings};
use crate::store::Store;
use crate::tree::{Clock, Slot};
use crabtree_protocol::{RunId, SessionKey};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// An Estate of nothing in particular.
pub(crate) fn estate() -> Arc<Estate> {
    Estate::new(EstateArgs {
        clock: Clock::system(),
        boot: Boot { version: "0", build_id: "0".into(), boot_id: "0".into(), host: "h".into() },
        loaded: Loaded {
            path: "/nowhere/crabtree.json".into(),
            exists: false,
            text: String::new(),
            raw: json!({}),
            settings: Settings::default(),
            warnings: Vec::new(),
            hash: "0".into(),
            state_dir: "/nowhere".into(),
            auth: None,
            origin: Default::default(),
        },
        auth: AuthSecret::Token(Secret::new("secret")),
        device_key: [7; 32],
        log_ring: Arc::default(),
        brought: Brought::default(),
        guard: Guard::none(),
    })
}

/// A call with these arguments in this workspace.
pub(crate) fn call(workspace: &Path, args: Value) -> Call {
    let place = Place {
        agent_id: "main".into(),
        session: SessionKey::main("main"),
        run_id: RunId::random(),
        workspace: workspace.to_owned(),
        store: Store { slot: Slot::default(), estate: estate() },
    };
    Call { id: "call".into(), args, place: Arc::new(place), progress: Arc::new(|_| {}) }
}

/// What comes of such a call.
pub(super) async fn outcome(tool: &dyn Tool, workspace: &Path, args: Value) -> ToolResult {
    run(tool, call(workspace, args)).await
}
