//! The Agent Client Protocol: `crabtree acp` with an editor on one side and a gateway on the other, and agents of others.

mod agents;

use crate::client::{Client, TOKEN};
use crate::gateway::Embedded;
use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    CancelNotification, ContentBlock, ContentChunk, ImageContent, InitializeRequest, LoadSessionRequest,
    NewSessionRequest, PromptRequest, SessionId, SessionNotification, SessionUpdate, StopReason, TextContent,
    ToolCallStatus,
};
use agent_client_protocol::{Agent, ByteStreams, Client as Editor, on_receive_notification};
use serde_json::json;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

/// Nothing in a test takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

struct Thread {
    editor: ConnectionTo<Agent>,
    updates: UnboundedReceiver<SessionUpdate>,
    id: SessionId,
}

impl Thread {
    async fn prompt(&self, blocks: Vec<ContentBlock>) -> Result<StopReason, agent_client_protocol::Error> {
        let prompt = PromptRequest::new(self.id.clone(), blocks);
        Ok(self.editor.send_request(prompt).block_task().await?.stop_reason)
    }

    async fn say(&self, text: &str) -> Result<StopReason, agent_client_protocol::Error> {
        self.prompt(vec![words(text)]).await
    }

    /// All that was told until now.
    fn told(&mut self) -> Vec<SessionUpdate> {
        std::iter::from_fn(|| self.updates.try_recv().ok()).collect()
    }
}

fn words(text: &str) -> ContentBlock {
    ContentBlock::Text(TextContent::new(text))
}

fn chunk(update: &SessionUpdate) -> Option<&str> {
    let (SessionUpdate::AgentMessageChunk(ContentChunk { content: ContentBlock::Text(text), .. })
    | SessionUpdate::UserMessageChunk(ContentChunk { content: ContentBlock::Text(text), .. })) = update
    else {
        return None;
    };
    Some(&text.text)
}

fn answer(updates: &[SessionUpdate]) -> String {
    updates.iter().filter_map(chunk).collect()
}

fn bridge(addr: SocketAddr, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_crabtree"))
        .args(["acp", "--url", &format!("ws://{addr}"), "--token", TOKEN])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// An editor with one thread, for as long as `body` runs; then the bridge ends of its own.
async fn edit(addr: SocketAddr, arguments: &[&str], body: impl AsyncFnOnce(Thread)) {
    let mut bridge = bridge(addr, arguments);
    let (to_bridge, from_bridge) = (bridge.stdin.take().unwrap(), bridge.stdout.take().unwrap());
    let (tell, updates) = unbounded_channel();
    let edited = Editor
        .v1()
        .on_receive_notification(
            async move |told: SessionNotification, _| {
                let _ = tell.send(told.update);
                Ok(())
            },
            on_receive_notification!(),
        )
        .connect_with(
            ByteStreams::new(to_bridge.compat_write(), from_bridge.compat()),
            async move |editor: ConnectionTo<Agent>| {
                let hello =
                    editor.send_request(InitializeRequest::new(ProtocolVersion::V1)).block_task().await?;
                assert_eq!(hello.agent_info.unwrap().name, "crabtree-acp");
                assert!(hello.agent_capabilities.load_session && hello.auth_methods.is_empty());
                let id = editor.send_request(NewSessionRequest::new("/work")).block_task().await?.session_id;
                body(Thread { editor, updates, id }).await;
                Ok(())
            },
        );
    tokio::time::timeout(PATIENCE, edited).await.expect("in time").unwrap();
    let ended = tokio::time::timeout(PATIENCE, bridge.wait()).await.expect("in time").unwrap();
    assert!(ended.success(), "it ends with its editor: {ended}");
}

#[tokio::test]
async fn an_editor_talks_with_the_agent_and_sees_its_tools() {
    let gateway = Embedded::start().await;
    edit(gateway.addr, &[], async |mut thread| {
        assert_eq!(thread.say("hello acp").await.unwrap(), StopReason::EndTurn);
        let told = thread.told();
        assert!(told.len() > 1, "in pieces: {told:?}");
        let asked = "[Working directory: /work]\n\nhello acp";
        let said = answer(&told);
        assert!(said.starts_with("This is crabtree/offline") && said.ends_with(asked), "{said}");

        assert_eq!(thread.say("/tool session_status {}").await.unwrap(), StopReason::EndTurn);
        let told = thread.told();
        let started = told.iter().find_map(|update| match update {
            SessionUpdate::ToolCall(call) => Some(call),
            _ => None,
        });
        let id = &started.expect("a tool is called").tool_call_id;
        let changes = told.iter().filter_map(|update| match update {
            SessionUpdate::ToolCallUpdate(change) if change.tool_call_id == *id => Some(&change.fields),
            _ => None,
        });
        let changes: Vec<_> = changes.collect();
        assert!(changes.iter().any(|fields| fields.raw_input == Some(json!({}))), "{changes:?}");
        assert!(changes.iter().any(|fields| fields.content.as_ref().is_some_and(|c| !c.is_empty())));
        assert_eq!(changes.last().unwrap().status, Some(ToolCallStatus::Completed));
        assert!(answer(&told).contains("session_status says: "), "{told:?}");

        let refused = thread.prompt(vec![ContentBlock::Image(ImageContent::new("AA==", "image/png"))]).await;
        assert!(refused.unwrap_err().message.contains("pictures"));

        // Other clients see the conversation, and an editor that comes back is shown it.
        let key = format!("agent:main:acp-bridge:{}", thread.id);
        let history = json!({ "sessionKey": key });
        let history = Client::admin(gateway.addr).await.call("chat.history", history).await;
        assert_eq!(history["messages"][0]["role"], "user");
        let load = LoadSessionRequest::new(thread.id.clone(), "/work");
        thread.editor.send_request(load).block_task().await.unwrap();
        let told = thread.told();
        assert_eq!(chunk(&told[0]), Some("hello acp"));
        assert_eq!(chunk(&told[1]), Some(&*said));
    })
    .await;
}

#[tokio::test]
async fn an_editor_cancels_what_it_asked() {
    let gateway = Embedded::start().await;
    edit(gateway.addr, &["--session", "desk"], async |mut thread| {
        let long = "word ".repeat(500);
        let cancelled = CancelNotification::new(thread.id.clone());
        let told = async {
            let first = thread.updates.recv().await.unwrap();
            thread.editor.send_notification(cancelled).unwrap();
            first
        };
        let prompt = PromptRequest::new(thread.id.clone(), vec![words(&long)]);
        let (ended, first) = tokio::join!(thread.editor.send_request(prompt).block_task(), told);
        assert_eq!(ended.unwrap().stop_reason, StopReason::Cancelled);
        assert!(chunk(&first).is_some());

        let sessions = Client::admin(gateway.addr).await.call("sessions.list", json!({})).await;
        let row = &sessions["sessions"][0];
        assert_eq!((&row["key"], &row["status"]), (&json!("agent:main:desk"), &json!("killed")));
        // What comes next is answered as ever.
        assert_eq!(thread.say("again").await.unwrap(), StopReason::EndTurn);
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_goes_and_comes_back_is_found_again() {
    let state = tempfile::tempdir().unwrap();
    let gateway = crate::gateway::Process::start(state.path()).await;
    let addr = gateway.addr;
    edit(addr, &[], async |mut thread| {
        let long = "word ".repeat(500);
        let prompt = PromptRequest::new(thread.id.clone(), vec![words(&long)]);
        let killed = async {
            thread.updates.recv().await.unwrap();
            gateway.kill();
        };
        let (ended, ()) = tokio::join!(thread.editor.send_request(prompt).block_task(), killed);
        assert!(ended.unwrap_err().message.contains("the connection was lost"));
        let _gateway = crate::gateway::Process::restart(state.path(), addr).await;
        assert_eq!(thread.say("/status").await.unwrap(), StopReason::EndTurn);
        assert!(!answer(&thread.told()).is_empty());
    })
    .await;
}

#[tokio::test]
async fn without_a_gateway_it_says_so_and_writes_nothing_to_the_editor() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = bridge(port, &["--json"]).wait_with_output().await.unwrap();
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(69), 0));
}
