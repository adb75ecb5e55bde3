//! How a server is reached: as a process of ours, or over HTTP.

use super::client::Client;
use crate::process::{Child, Command, Exit, Guard};
use crate::settings::{McpServerSettings, McpTarget, Secret};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use rmcp::ServiceExt;
use rmcp::service::{ClientInitializeError, RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError};
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// How long making a connection to another host may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How often an address may point to another, of the same place.
const MAX_REDIRECTS: usize = 3;
/// How much is kept of one line that a process writes beside its messages, bytes.
const MAX_LINE: usize = 1024;
/// How long a process that has closed its output may take to end, so that one can tell how it ended.
const ENDING: Duration = Duration::from_secs(1);

/// A server that has greeted.
pub(super) struct Line {
    pub service: RunningService<RoleClient, Client>,
    pub process: Option<Child>,
}

/// Reaches a server anew, each time it is called.
pub(super) type Dial = Arc<dyn Fn(Client) -> BoxFuture<'static, Result<Line, String>> + Send + Sync>;

/// The way that the configuration describes; secrets are looked up each time.
pub(super) fn dial(name: Arc<str>, entry: McpServerSettings, guard: Guard) -> Dial {
    let made = Http::default();
    Arc::new(move |client| {
        let (name, guard, made) = (name.clone(), guard.clone(), made.clone());
        let target = entry.target(&name, &|name| std::env::var(name).ok());
        async move {
            match target? {
                McpTarget::Process { command, args, env, cwd } => {
                    let mut command = Command::new(command).args(args);
                    for (name, value) in env {
                        command = command.env(name, value.expose());
                    }
                    if let Some(cwd) = cwd {
                        command = command.dir(cwd);
                    }
                    process(name, command, &guard, client).await
                }
                McpTarget::Http { url, headers } => http(&name, &url, headers, &made, client).await,
            }
        }
        .boxed()
    })
}

async fn process(name: Arc<str>, command: Command, guard: &Guard, client: Client) -> Result<Line, String> {
    let mut child = command.spawn(guard).await.map_err(|e| e.to_string())?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("it has no pipes".into());
    };
    if let Some(stderr) = child.stderr.take() {
        // Ends with the process, which must not wait for a reader of it.
        tokio::spawn(beside(name, stderr));
    }
    match client.serve((stdout, stdin)).await {
        Ok(service) => Ok(Line { service, process: Some(child) }),
        Err(error) => Err(format!("{}; {}", wording(&error), how_it_ended(&mut child).await)),
    }
}

/// What became of a process whose connection has ended.
pub(super) async fn how_it_ended(child: &mut Child) -> String {
    match timeout(ENDING, child.wait()).await {
        Ok(Exit::Code(code)) => {
            format!("it ended with code {code} (OPENCLAW_LOG_MCP=debug shows what it writes to stderr)")
        }
        Ok(exit) => format!("it was ended by {}", exit.signal_name().unwrap_or_else(|| "somebody".into())),
        Err(_) => "it is still running, and is ended".into(),
    }
}

/// Reads what a process says beside its messages.
async fn beside(name: Arc<str>, mut stderr: pipe::Receiver) {
    let (mut chunk, mut line) = ([0; MAX_LINE], Vec::new());
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        for piece in chunk[..read].split_inclusive(|byte| *byte == b'\n') {
            line.extend(piece.iter().take(MAX_LINE - line.len()));
            if piece.ends_with(b"\n") {
                let said = String::from_utf8_lossy(&line);
                tracing::debug!(target: "crabtree::mcp", server = %name, "stderr: {}", said.trim_end());
                line.clear();
            }
        }
    }
}

/// The HTTP client of a server, made when it is first needed.
type Http = Arc<OnceCell<reqwest::Client>>;

async fn http(
    name: &str,
    url: &Secret,
    headers: Vec<(String, Secret)>,
    made: &Http,
    client: Client,
) -> Result<Line, String> {
    let mut sent = HashMap::new();
    let secrets: Vec<_> = headers.iter().map(|(_, value)| value.clone()).chain([url.clone()]).collect();
    for (header, value) in headers {
        let wrong = || format!("mcp.servers.{name}.headers.{header} cannot be sent as a header");
        let key = HeaderName::try_from(&header).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(value.expose()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        sent.insert(key, value);
    }
    // Reading the machine's certificates takes a while.
    let make = async || tokio::task::spawn_blocking(http_client).await.unwrap_or_else(|e| Err(e.to_string()));
    let http = made.get_or_try_init(make).await?.clone();
    let config = StreamableHttpClientTransportConfig::with_uri(url.expose()).custom_headers(sent);
    let transport = StreamableHttpClientTransport::with_client(http, config);
    let service = client.serve(transport).await.map_err(|error| match error.is_authorization_required() {
        true => format!("it asks who we are; set mcp.servers.{name}.headers.Authorization"),
        // Whoever failed may repeat what it was asked with.
        false => secrets.iter().fold(wording(&error), |said, secret| secret.struck_from(&said)),
    })?;
    Ok(Line { service, process: None })
}

fn http_client() -> Result<reqwest::Client, String> {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(crate::tls::client_config()?)
        .redirect(Policy::custom(|attempt| {
            // Keys in headers are for nobody else, and what is not sent again as it was is lost.
            let same =
                attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
            let whole = matches!(attempt.status().as_u16(), 307 | 308);
            let follow = same && whole && attempt.previous().len() <= MAX_REDIRECTS;
            if follow { attempt.follow() } else { attempt.stop() }
        }))
        .connect_timeout(CONNECT)
        .build();
    client.map_err(|e| e.to_string())
}

/// Why there is no connection, with nothing in it of what was sent: addresses have secrets in them.
fn wording(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::JsonRpcError(said) => format!("it refused to begin: {}", said.message),
        ClientInitializeError::ConnectionClosed(_) => "the connection ended before it began".into(),
        ClientInitializeError::TransportError { error, .. } => cause(error.error.as_ref()),
        _ => "it does not speak MCP".into(),
    }
}

fn cause(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
        Some(StreamableHttpError::Client(error)) => {
            let deepest = std::iter::successors(error.source(), |error| (**error).source()).last();
            deepest.map_or_else(
                || "it cannot be reached".into(),
                |cause| format!("it cannot be reached: {cause}"),
            )
        }
        Some(StreamableHttpError::HttpStatus(status)) => format!("it cannot be used: {status}"),
        Some(_) => "it does not answer as MCP servers do; look whether its url is right".into(),
        None => format!("it cannot be spoken to: {error}"),
    }
}
