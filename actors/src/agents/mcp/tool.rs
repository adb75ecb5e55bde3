//! A tool of an MCP server: how it is called, and what its results become.

use super::client::Progresses;
use crate::tools::{Call, Definition, Progress, Tool, ToolResult};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, CancelledNotificationParam, ClientRequest,
    ContentBlock, ProgressNotificationParam, RequestId, ResourceContents, ServerResult,
};
use rmcp::service::{Peer, PeerRequestOptions, RoleClient, ServiceError};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The longest structured result that is kept beside the text, bytes.
const MAX_STRUCTURED: usize = 64 * 1024;

/// The way to a server that is connected.
pub(super) struct Link {
    pub server: Arc<str>,
    pub peer: Peer<RoleClient>,
    pub progresses: Progresses,
    /// Its process, if it is one of ours.
    pub pid: Option<u32>,
    /// Calls that are under way.
    pub calls: AtomicUsize,
}

impl Link {
    pub(super) fn is_idle(&self) -> bool {
        self.calls.load(Relaxed) == 0
    }
}

/// A tool of an MCP server.
pub(super) struct McpTool {
    definition: Definition,
    /// What the server calls it.
    name: String,
    link: Arc<Link>,
}

impl McpTool {
    pub(super) fn new(definition: Definition, name: String, link: Arc<Link>) -> Self {
        Self { definition, name, link }
    }
}

impl Tool for McpTool {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn call(&self, call: Call) -> BoxFuture<'static, ToolResult> {
        let (link, name) = (self.link.clone(), self.name.clone());
        async move {
            match ask(&link, name, call).await {
                Ok(result) => result,
                Err(error) => ToolResult::error(wording(&link.server, &error)),
            }
        }
        .boxed()
    }
}

/// A call under way: the server is told when nobody waits for it any more.
struct UnderWay<'a> {
    link: &'a Link,
    id: Option<RequestId>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.link.calls.fetch_sub(1, Relaxed);
        if let Some(id) = self.id.take() {
            let told = CancelledNotificationParam::new(Some(id), Some("nobody waits for it".into()));
            // Begun is enough: what it then waits for is that it was written.
            let _ = self.link.peer.notify_cancelled(told).now_or_never();
        }
    }
}

async fn ask(link: &Link, name: String, call: Call) -> Result<ToolResult, ServiceError> {
    link.calls.fetch_add(1, Relaxed);
    let mut under_way = UnderWay { link, id: None };
    let arguments = match call.args {
        Value::Object(arguments) => arguments,
        _ => Default::default(),
    };
    let params = CallToolRequestParams::new(name).with_arguments(arguments);
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
    let asked = link.peer.send_request_with_option(request, PeerRequestOptions::no_options()).await?;
    under_way.id = Some(asked.id.clone());
    let mut progresses = link.progresses.subscribe(asked.progress_token.clone()).await;
    let answer = asked.await_response();
    tokio::pin!(answer);
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut answer => break answer,
            Some(progress) = progresses.next() => tell(&call.progress, progress),
        }
    };
    under_way.id = None;
    match answer? {
        ServerResult::CallToolResult(result) => Ok(read(result)),
        _ => Err(ServiceError::UnexpectedResponse),
    }
}

fn tell(progress: &Progress, said: ProgressNotificationParam) {
    let done = match said.total {
        Some(total) => format!("{} of {total}", said.progress),
        None => said.progress.to_string(),
    };
    progress(ToolResult::text(said.message.unwrap_or(done)));
}

/// Why a call came to nothing, for the model.
fn wording(server: &str, error: &ServiceError) -> String {
    match error {
        ServiceError::McpError(error) => format!("The MCP server {server} refused: {}", error.message),
        ServiceError::UnexpectedResponse => {
            format!(
                "The MCP server {server} wants more than arguments, which is not supported; use another tool."
            )
        }
        _ => format!(
            "The MCP server {server} has ended or cannot be reached; it is not known whether the call was carried \
             out. It is started again by itself: look whether it was, and try again in a while."
        ),
    }
}

fn text(text: impl Into<String>) -> Value {
    json!({ "type": "text", "text": text.into() })
}

/// What an MCP server at a node answered, if it is that.
pub(crate) fn mcp_result(payload: &Value) -> Option<ToolResult> {
    payload.get("content").filter(|content| content.is_array())?;
    serde_json::from_value(payload.clone()).ok().map(read)
}

/// A result in our shape: what a model cannot read is named.
fn read(result: CallToolResult) -> ToolResult {
    let mut content: Vec<Value> = result.content.into_iter().map(part).collect();
    let structured = result.structured_content.filter(|value| !value.is_null()).unwrap_or_default();
    let written = if structured.is_null() { String::new() } else { structured.to_string() };
    if content.is_empty() && !written.is_empty() {
        content.push(text(&written));
    }
    let details = if written.len() > MAX_STRUCTURED { Value::Null } else { structured };
    ToolResult { content, details, is_error: result.is_error.unwrap_or_default() }
}

fn part(part: ContentBlock) -> Value {
    match part {
        ContentBlock::Text(said) => text(said.text),
        ContentBlock::Image(image) if image.mime_type.starts_with("image/") => {
            json!({ "type": "image", "data": image.data, "mimeType": image.mime_type })
        }
        ContentBlock::Image(image) => left_out("a picture", &image.mime_type, &image.data),
        ContentBlock::Audio(audio) => left_out("a recording", &audio.mime_type, &audio.data),
        ContentBlock::Resource(embedded) => match embedded.resource {
            ResourceContents::TextResourceContents { uri, text: said, .. } => text(format!("{uri}:\n{said}")),
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                left_out(&uri, mime_type.as_deref().unwrap_or("of an unknown kind"), &blob)
            }
            _ => text("[a resource of a kind that is not known here]"),
        },
        ContentBlock::ResourceLink(link) => match &link.description {
            Some(about) => text(format!("{}: {} ({about})", link.name, link.uri)),
            None => text(format!("{}: {}", link.name, link.uri)),
        },
        _ => text("[something of a kind that is not known here]"),
    }
}

fn left_out(what: &str, kind: &str, base64: &str) -> Value {
    text(format!("[{what}, {kind}, {} bytes: not shown]", base64.len() / 4 * 3))
}

#[cfg(test)]
#[path = "tool_tests.rs"]
mod tests;
