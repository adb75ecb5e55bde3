//! Tools called by clients instead of models: `tools.invoke` and `POST /tools/invoke`. The gates are those of the
//! session it is done for, and one more: what reaches files, commands, people or devices is not to be had this way
//! unless `gateway.tools.allow` names it.

use super::policy::names_it;
use super::{Call, Definition, Gate, Permission, Place, Policy, Tool, ToolResult, run};
use crate::settings::{InvokeSettings, Settings};
use crate::store::Store;
use crabtree_protocol::{RunId, SessionKey};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a call is known by its key, and how many are.
const KEPT: Duration = Duration::from_secs(300);
const MAX_KEPT: usize = 256;

/// What is asked for.
pub struct Asked {
    /// The tool.
    pub name: String,
    /// Its arguments.
    pub args: Value,
    /// The session it is done for.
    pub session: SessionKey,
    /// The same one again is the same call.
    pub idempotency_key: Option<String>,
}

/// Why nothing was done, or what went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such tool, or not for this caller; the two look the same.
    NotFound(String),
    /// The arguments are wrong.
    Invalid(String),
    /// The tool failed.
    Failed(String),
}

/// What a call came to.
pub type Outcome = Result<ToolResult, Failure>;

/// A call that several may wait for.
type Awaited = Shared<BoxFuture<'static, Outcome>>;

/// Calls of clients under keys of theirs, and when they began; for a while. Part of the Estate.
#[derive(Default)]
pub struct Invocations(Mutex<BTreeMap<String, (Instant, Awaited)>>);

impl Invocations {
    /// The call of this key, begun if it is not there.
    fn once(&self, key: String, begin: impl FnOnce() -> BoxFuture<'static, Outcome>) -> Awaited {
        let mut known = self.0.lock();
        known.retain(|_, (begun, _)| begun.elapsed() < KEPT);
        if known.len() >= MAX_KEPT
            && !known.contains_key(&key)
            && let Some(oldest) =
                known.iter().min_by_key(|(_, (begun, _))| *begun).map(|(key, _)| key.clone())
        {
            known.remove(&oldest);
        }
        known.entry(key).or_insert_with(|| (Instant::now(), begin().shared())).1.clone()
    }
}

/// Calls a tool and waits for what it comes to.
///
/// # Errors
/// [`Failure`].
pub async fn invoke(store: &Store, asked: Asked) -> Outcome {
    match &asked.idempotency_key {
        Some(key) => {
            let (key, own) = (format!("{} {} {key}", asked.session, asked.name), store.clone());
            // It goes on when its client goes: who comes back with the key finds what it came to.
            let begin = || {
                let begun = tokio::spawn(async move { call(&own, asked).await });
                let crashed = |_| Err(Failure::Failed("The tool crashed.".into()));
                begun.map(move |ended| ended.unwrap_or_else(crashed)).boxed()
            };
            store.estate.invocations.once(key, begin).await
        }
        None => call(store, asked).await,
    }
}

async fn call(store: &Store, asked: Asked) -> Outcome {
    let tool = check(&store.estate.config.load().settings, store, &asked)?;
    let call = Call {
        id: format!("call_{}", Uuid::new_v4().simple()),
        args: asked.args,
        place: Arc::new(Place {
            agent_id: asked.session.agent_id().to_owned(),
            run_id: RunId::from(format!("invoke-{}", Uuid::new_v4()).as_str()),
            workspace: store.estate.config.load().workspace(asked.session.agent_id()),
            session: asked.session,
            store: store.clone(),
        }),
        progress: Arc::new(|_| {}),
    };
    tool.permit(&call).await.map_err(Failure::Failed)?;
    let result = run(tool.as_ref(), call).await;
    if result.is_error { Err(Failure::Failed(result.as_text())) } else { Ok(result) }
}

fn check(settings: &Settings, store: &Store, asked: &Asked) -> Result<Arc<dyn Tool>, Failure> {
    let tools = store.estate.tools.load();
    let gone = || Failure::NotFound(format!("Tool not available: {}", asked.name));
    let known = tools.tool(&asked.name).ok_or_else(gone)?;
    if !admits(&settings.gateway.tools, known.definition()) {
        return Err(gone());
    }
    let policy = Policy::of(settings, &asked.session);
    tools.check(&asked.name, &asked.args, &policy).map_err(|refused| match refused.gate {
        Gate::Exists | Gate::Allowed => gone(),
        Gate::Valid => Failure::Invalid(refused.why),
    })
}

/// Whether clients may call it.
fn admits(settings: &InvokeSettings, tool: &Definition) -> bool {
    use Permission::*;
    let named = |names: &[String]| names.iter().any(|name| names_it(name, tool));
    let far = |needed: &Permission| {
        matches!(needed, FsRead | FsWrite | Exec | SessionsSend | Message | Cron | Nodes | Mcp)
    };
    (!tool.permissions.iter().any(far) || named(&settings.allow)) && !named(&settings.deny)
}
