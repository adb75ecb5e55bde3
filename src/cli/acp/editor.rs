//! The editor's side: what it asks, over stdin and stdout.

use std::io;

use agent_client_protocol::{
    Agent, Client as Editor, Error, Lines, on_receive_notification, on_receive_request,
    schema::ProtocolVersion,
    v1::{
        ConnectionTo, Responder,
        schema::{
            AgentCapabilities, AuthenticateRequest, AuthenticateResponse, CancelNotification, Implementation,
            InitializeRequest, InitializeResponse, LoadSessionRequest, LoadSessionResponse,
            NewSessionRequest, NewSessionResponse, PromptCapabilities, PromptRequest, PromptResponse,
            SessionId,
        },
    },
};
use futures_util::{SinkExt, TryStreamExt};
use tokio::sync::mpsc::{Receiver, channel};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

/// The longest line an editor may write: a prompt with files in it. A longer one ends the connection.
const MAX_LINE: usize = 32 << 20;
/// What an editor may ask before it has to wait.
const MAX_ASKS: usize = 64;

/// What an editor asks.
pub(super) enum Ask {
    New(NewSessionRequest, Responder<NewSessionResponse>),
    Load(LoadSessionRequest, Responder<LoadSessionResponse>),
    Prompt(PromptRequest, Responder<PromptResponse>),
    Cancel(SessionId),
}

/// Speaks with the editor while `body` runs.
pub(super) async fn serve<R>(
    body: impl AsyncFnOnce(ConnectionTo<Editor>, Receiver<Ask>) -> R,
) -> Result<R, Error> {
    let (to_body, asks) = channel(MAX_ASKS);
    let [new, load, prompt, cancel] = [(); 4].map(|()| to_body.clone());
    let gone = |_| Error::internal_error();
    let incoming = FramedRead::new(tokio::io::stdin(), LinesCodec::new_with_max_length(MAX_LINE));
    let outgoing = FramedWrite::new(tokio::io::stdout(), LinesCodec::new());
    let outgoing = SinkExt::<String>::sink_map_err(outgoing, io::Error::other);
    let lines = Lines::new(outgoing, incoming.map_err(io::Error::other));
    Agent
        .v1()
        .name("crabtree")
        .on_receive_request(
            async |_: InitializeRequest, responder: Responder<_>, _| responder.respond(introduction()),
            on_receive_request!(),
        )
        .on_receive_request(
            async |_: AuthenticateRequest, responder: Responder<_>, _| {
                // The command line has authenticated already.
                responder.respond(AuthenticateResponse::new())
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: NewSessionRequest, responder, _| {
                new.send(Ask::New(request, responder)).await.map_err(gone)
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: LoadSessionRequest, responder, _| {
                load.send(Ask::Load(request, responder)).await.map_err(gone)
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: PromptRequest, responder, _| {
                prompt.send(Ask::Prompt(request, responder)).await.map_err(gone)
            },
            on_receive_request!(),
        )
        .on_receive_notification(
            async move |cancelled: CancelNotification, _| {
                cancel.send(Ask::Cancel(cancelled.session_id)).await.map_err(gone)
            },
            on_receive_notification!(),
        )
        .connect_with(lines, async move |editor| Ok(body(editor, asks).await))
        .await
}

fn introduction() -> InitializeResponse {
    let reads = PromptCapabilities::new().embedded_context(true);
    InitializeResponse::new(ProtocolVersion::V1)
        .agent_capabilities(AgentCapabilities::new().load_session(true).prompt_capabilities(reads))
        .agent_info(
            Implementation::new("crabtree-acp", env!("CARGO_PKG_VERSION")).title("Crabtree".to_owned()),
        )
}
