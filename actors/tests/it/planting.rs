//! A gateway without files, sockets or children, for tests to plant.

use crabtree_actors::estate::{Boot, Brought, EstateArgs};
use crabtree_actors::gateway::{RootArgs, Wiring, plant};
use crabtree_actors::process::Guard;
use crabtree_actors::settings::{AuthSecret, Invalid, Loaded, Secret};
use crabtree_actors::store::Db;
use crabtree_actors::tree::{Clock, Node};
use serde_json::{Value, json};
use std::sync::Arc;

/// The secret of its clients.
pub const TOKEN: &str = "a-token-for-tests-only";

/// What an Estate with these settings is made of.
pub fn estate_args(clock: Clock, settings: Value) -> EstateArgs {
    EstateArgs {
        clock,
        boot: Boot { version: "0", build_id: "sim".into(), boot_id: "sim".into(), host: "sim".into() },
        loaded: Loaded {
            path: "/nowhere/crabtree.json".into(),
            exists: false,
            text: String::new(),
            raw: json!({}),
            settings: serde_json::from_value(settings).unwrap(),
            warnings: Vec::new(),
            hash: "sim".into(),
            state_dir: "/nowhere".into(),
            auth: None,
            origin: Default::default(),
        },
        auth: AuthSecret::Token(Secret::new(TOKEN)),
        device_key: [7; 32],
        log_ring: Arc::default(),
        brought: Brought::default(),
        guard: Guard::none(),
    }
}

/// The whole tree over a store in memory.
pub fn planted(wiring: &Arc<Wiring>) -> Arc<Node> {
    plant(RootArgs {
        wiring: wiring.clone(),
        open: Arc::new(Db::memory),
        reload: Arc::new(|_| Err(Invalid::new("nothing to read"))),
        listener: None,
    })
}
