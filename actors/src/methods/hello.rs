//! hello-ok: what a client learns when it is let in.

use crate::conns::{Conn, Grant};
use crate::devices::Admission;
use crate::estate::Estate;
use crate::gateway::Wiring;
use crate::handshake::generation;
use crate::nodes::policy;
use crate::settings::AuthSecret;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use crabtree_protocol::hello::{
    HelloAuth, HelloOk, ServerInfo, SessionDefaults, Snapshot, Suspension, empty_list, encode_features_with,
};
use crabtree_protocol::{DeviceId, Role, Scope, SessionKey};
use serde_json::json;
use sha2::{Digest, Sha256};

impl Wiring {
    /// The payload of hello-ok for a connection that was let in; `admission` is what its device was granted.
    pub fn hello(&self, conn: &Conn, admission: Option<&Admission>) -> Vec<u8> {
        let estate = &self.store.estate;
        let token = admission.and_then(|admission| admission.token.as_ref());
        let grant = conn.grant().expect("a hello follows a grant");
        let (catalog, config) = (estate.catalog.load(), estate.config.load());
        let (presence, health) = (estate.presence.load(), estate.health.load());
        let nobody = empty_list();
        let agent = &catalog.default_agent().id;
        let defaults = SessionDefaults {
            main_key: catalog.main_key.clone(),
            main_session_key: SessionKey::canonical(&catalog.main_key, agent)
                .unwrap_or_else(|_| SessionKey::main(agent))
                .to_string(),
            ..SessionDefaults::of(agent, catalog.agents.len(), catalog.model(&catalog.primary).is_some())
        };
        let admin = grant.scopes.contains(Scope::Admin);
        let (path, state_dir) = (config.path.to_string_lossy(), config.state_dir.to_string_lossy());
        let secret = estate.auth();
        let server = ServerInfo {
            version: estate.boot.version,
            build_id: Some(&estate.boot.build_id),
            boot_id: &estate.boot.boot_id,
            // Not one of ours: a page takes another build of its own for a newer one and asks to be loaded again.
            control_ui_build_source: Some("configured"),
            conn_id: *conn.id(),
        };
        let snapshot = Snapshot {
            suspension: Suspension { phase: estate.suspension.phase().name() },
            presence: if grant.role == Role::Node { &nobody } else { &presence.json },
            health: &health.json,
            state_version: estate.state_version(),
            uptime_ms: estate.clock.uptime().as_millis() as u64,
            applied_config_hash: &config.hash,
            session_defaults: &defaults,
            config_path: admin.then_some(path.as_ref()),
            state_dir: admin.then_some(state_dir.as_ref()),
            auth_mode: admin.then_some(secret.mode()),
        };
        let auth = HelloAuth {
            method: grant.method,
            role: grant.role,
            scopes: grant.scopes.clone(),
            recovery_scope: (grant.role == Role::Operator)
                .then(|| {
                    let (user, token) = (conn.peer.user(), token.map(|token| &*token.device_token));
                    recovery_scope(grant, user, token, &secret, &estate.device_key)
                })
                .flatten(),
            recovery_migration_allowed: token.filter(|_| grant.role == Role::Operator).map(|_| true),
            device_token: token.map(|token| token.device_token.clone()),
            issued_at_ms: token.map(|token| token.issued_at_ms),
            device_tokens: admission.map_or_else(Vec::new, |admission| admission.others.clone()),
        };
        // Those of channels that run now.
        let brought = estate.channels.offered();
        let chaos = config.settings.gateway.chaos.enabled;
        let features = (!brought.is_empty()).then(|| encode_features_with(chaos, &brought));
        let mut hello = HelloOk::new(server, features.as_ref().unwrap_or(&self.features), snapshot, auth);
        hello.plugin_surface_urls =
            shows_canvas(grant, estate).then(|| estate.canvas_urls(conn)).flatten().map(|(urls, _)| urls);
        hello.encode()
    }
}

/// Operators may look at the canvas, and nodes that show it and were approved to.
fn shows_canvas(grant: &Grant, estate: &Estate) -> bool {
    let approved = |device: &DeviceId| estate.nodes.shows_canvas(device.as_str());
    let declares = || grant.params.commands.iter().flatten().any(|name| policy::shows_canvas(name));
    grant.role == Role::Operator || (grant.device.as_ref().is_some_and(approved) && declares())
}

/// `auth.recoveryScope`, as recorded: the SHA-256 of a JSON array that tells what the connection authenticated
/// with. A client that shows nothing has none.
fn recovery_scope(
    grant: &Grant,
    user: Option<&str>,
    token: Option<&str>,
    auth: &AuthSecret,
    key: &[u8; 32],
) -> Option<String> {
    let device = grant.device.as_ref().map(ToString::to_string);
    let named = match (token, auth, device) {
        (_, _, device) if user.is_some() => json!(["principal", user, device.unwrap_or_default()]),
        (Some(token), ..) => json!(["device-token", token]),
        (None, AuthSecret::None, None) => return None,
        (None, AuthSecret::None, Some(device)) => json!(["device", device]),
        (None, _, device) => json!(["shared-auth", generation(auth, key), device.unwrap_or_default()]),
    };
    Some(BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(named.to_string().as_bytes())))
}
