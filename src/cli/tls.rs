//! `crabtree tls`: the gateway's own certificate.

use std::process::ExitCode;

use clap::Subcommand;
use crabtree_actors::settings::Loaded;
use crabtree_actors::tls::Fingerprint;
use serde_json::json;

use super::{Failure, Global, print_json, print_line};
use crate::certificate;

/// What to do with it.
#[derive(Subcommand)]
pub enum TlsCommand {
    /// Print the SHA-256 fingerprint of the certificate, by which clients know this gateway
    #[command(after_help = "Examples:\n  crabtree tls fingerprint\n  \
        openclaw tui --url wss://home.local:18789 --token TOKEN --tls-fingerprint $(crabtree tls fingerprint)\n\n\
        It is the certificate's own: each new one has another fingerprint, also one that the gateway makes anew by\n\
        itself, 30 days before ten years are over. Clients that have pinned the old one are to be told of the new one.")]
    Fingerprint,
}

pub(super) fn run(global: &Global, command: TlsCommand) -> Result<ExitCode, Failure> {
    let TlsCommand::Fingerprint = command;
    let (loaded, _) = global.loaded()?;
    let tls = &loaded.settings.gateway.tls;
    let file = tls.files(&loaded.state_dir).cert;
    let found = certificate::fingerprint(&file).map_err(|why| {
        let next = match tls.enabled {
            true => "the gateway makes one when it is started, unless gateway.tls.autoGenerate is false",
            false => "TLS is off: set gateway.tls.enabled and start the gateway again",
        };
        Failure::config(why).or_next(next)
    })?;
    if global.json {
        let fingerprint = found.to_string();
        print_json(
            &json!({ "ok": true, "fingerprint": fingerprint, "certPath": file, "enabled": tls.enabled }),
        );
    } else {
        print_line(&found.to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// The fingerprint of the gateway of this machine, if it speaks TLS; nothing while it has no certificate yet.
pub(super) fn own(loaded: &Loaded) -> Option<Fingerprint> {
    let tls = &loaded.settings.gateway.tls;
    tls.enabled.then(|| certificate::fingerprint(&tls.files(&loaded.state_dir).cert).ok()).flatten()
}
