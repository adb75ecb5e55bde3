//! The HTTP clients of all models.

use crate::agents::{Failure, Reason};
use genai::Client;
use reqwest::Url;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Made when the first of them is needed: without models, nothing is spent on them.
pub(in crate::agents) type Http = Arc<Clients>;

/// A client for this machine, and one for everywhere else.
#[derive(Default)]
pub(in crate::agents) struct Clients {
    near: OnceLock<Spoken>,
    far: OnceLock<Spoken>,
}

/// The same client twice: genai does not give back the one it is made of.
pub(in crate::agents) struct Spoken {
    pub plain: reqwest::Client,
    pub genai: Client,
}

impl Clients {
    /// Whether nobody has needed any.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.near.get().is_none() && self.far.get().is_none()
    }

    /// The client that speaks to this address.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn to(&self, url: &str) -> Result<&Spoken, Failure> {
        let is_near = is_local(url);
        let client = if is_near { &self.near } else { &self.far };
        if let Some(known) = client.get() {
            return Ok(known);
        }
        // Reading the machine's certificates takes a while.
        let made = tokio::task::spawn_blocking(move || made(is_near)).await;
        let made = made.unwrap_or_else(|e| Err(e.to_string()));
        let made = made.map_err(|e| Failure::new(Reason::Unknown, format!("no HTTP client: {e}")))?;
        Ok(client.get_or_init(|| made))
    }
}

fn made(is_near: bool) -> Result<Spoken, String> {
    // No redirects: a key goes nowhere else than where it was meant to.
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(crate::tls::client_config()?)
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none());
    // The proxy of the environment is for the world outside; it does not reach what listens here.
    let http = if is_near { http.no_proxy() } else { http };
    let plain = http.build().map_err(|e| e.to_string())?;
    let genai = Client::builder().with_reqwest(plain.clone()).build().map_err(|e| e.to_string())?;
    Ok(Spoken { plain, genai })
}

/// Whether an address is on this machine.
pub(in crate::agents) fn is_local(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_many_names() {
        for near in
            ["http://localhost:1/v1", "http://127.0.0.1:11434", "http://127.1.2.3", "https://[::1]:8080/"]
        {
            assert!(is_local(near), "{near}");
        }
        for far in
            ["http://192.168.1.5:1", "https://api.openai.com", "http://localhost.example.com", "nonsense"]
        {
            assert!(!is_local(far), "{far}");
        }
    }
}
