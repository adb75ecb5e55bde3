//! How the gateway, and a node of ours, speak TLS to others.

use rustls_platform_verifier::BuilderVerifierExt;
use std::sync::Arc;

/// With the certificates the machine trusts, and a crypto provider of its own: nothing of the process is touched.
/// Reading the certificates takes a while.
///
/// # Errors
/// The machine has no certificates to trust.
pub fn client_config() -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|e| e.to_string())?
        .with_no_client_auth();
    Ok(tls)
}
