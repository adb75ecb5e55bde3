//! Out to a gateway: one WebSocket. `wss://` is checked against the certificates that the machine trusts, or against the
//! one fingerprint that was given.

use crabtree_actors::tls::{Fingerprint, client_config, pinned_config};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// What bytes go over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A WebSocket to a gateway.
pub type Socket = WebSocketStream<Box<dyn Stream>>;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address is none.
    #[error("{0:?} is no address of a gateway: {1}; ws://HOST:PORT or wss://HOST:PORT was expected")]
    Address(String, String),
    /// Nobody has that certificate there, or nobody vouches for it.
    #[error("{0}")]
    Certificate(String),
    /// Anything else.
    #[error("{0}")]
    Lost(String),
}

/// Connects.
///
/// # Errors
/// Why not, in words.
pub async fn dial(url: &str, pin: Option<Fingerprint>, config: WebSocketConfig) -> Result<Socket, DialError> {
    let wrong = |why: String| DialError::Address(url.to_owned(), why);
    let request = url.into_client_request().map_err(|error| wrong(error.to_string()))?;
    let uri = request.uri();
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let sealed = uri.scheme_str() == Some("wss");
    if pin.is_some() && !sealed {
        return Err(wrong("there is a fingerprint to be checked, and no certificate without TLS".into()));
    }
    let port = uri.port_u16().unwrap_or(if sealed { 443 } else { 80 });
    let stream = connect(host, port, sealed, pin).await?;
    let (socket, _) = client_async_with_config(request, stream, Some(config)).await.map_err(lost)?;
    Ok(socket)
}

/// Connects to a port, with TLS or without.
///
/// # Errors
/// Why not, in words.
pub async fn connect(
    host: String,
    port: u16,
    sealed: bool,
    pin: Option<Fingerprint>,
) -> Result<Box<dyn Stream>, DialError> {
    let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(lost)?;
    // Small frames, each waited for by somebody; without it they are merely late.
    let _ = tcp.set_nodelay(true);
    Ok(if sealed { Box::new(seal(tcp, host, pin).await?) } else { Box::new(tcp) })
}

fn lost(error: impl std::fmt::Display) -> DialError {
    DialError::Lost(error.to_string())
}

async fn seal(tcp: TcpStream, host: String, pin: Option<Fingerprint>) -> Result<impl Stream, DialError> {
    let config = match pin {
        Some(pin) => pinned_config(pin),
        // Reading the machine's certificates takes a while.
        None => tokio::task::spawn_blocking(client_config).await.map_err(lost)?,
    };
    let name = ServerName::try_from(host).map_err(lost)?;
    let connector = TlsConnector::from(Arc::new(config.map_err(DialError::Lost)?));
    connector.connect(name, tcp).await.map_err(|error| {
        let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>());
        match refused {
            Some(
                tokio_rustls::rustls::Error::InvalidCertificate(_) | tokio_rustls::rustls::Error::General(_),
            ) => DialError::Certificate(error.to_string()),
            _ => lost(error),
        }
    })
}
