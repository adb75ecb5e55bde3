//! Agents of others as models, over the Agent Client Protocol: one child process a session, kept between its turns.
//!
//! | file | what |
//! |---|---|
//! | `peer` | one process, from its start to its end |
//! | `session` | what is said to it, and what its answers mean |
//! | `words` | what it is told of a conversation, and what of that it knows already |
//! | `permit` | what it asks before it does something |

mod peer;
mod permit;
mod session;
mod words;

pub(crate) use permit::people;
#[cfg(test)]
pub(crate) use permit::refuse;
pub use permit::{Permission, Permit, Verdict};

use super::failure::{Failure, Reason};
use super::model::{Chunk, Model, ModelInfo, Prompt};
use crate::process::Guard;
use crate::settings::{AcpAgent, AcpSettings, Secret, expanded};
use futures_util::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use peer::{Asked, Peer};
use session::Memory;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// The provider's name: `acp/claude` is the agent `claude`.
const PROVIDER: &str = "acp";
/// What is kept in mind is the agent's affair; this is what clients are told, in tokens.
const CONTEXT_WINDOW: u64 = 200_000;
/// Processes at the same time; beyond, the one that has rested longest is ended.
const MAX_LIVING: usize = 16;
/// Ended processes of which is known where they stopped.
const MAX_REMEMBERED: usize = 1_000;
/// Pieces of an answer that may wait to be read; then the agent waits.
const MAX_CHUNKS: usize = 64;
/// Prompts that may wait for a process; there is more than one only while an ended answer is being cancelled.
const MAX_ASKED: usize = 4;

/// How an agent is started.
#[derive(PartialEq)]
pub(super) struct Program {
    name: String,
    command: String,
    args: Vec<String>,
    env: Vec<(String, Secret)>,
    cwd: Option<PathBuf>,
}

impl Program {
    fn of(name: &str, agent: &AcpAgent) -> Result<Self, String> {
        if agent.command.is_empty() {
            return Err(format!("acp.agents.{name}.command is missing"));
        }
        let value = |(variable, value): (&String, &crate::settings::SecretInput)| {
            let env = |name: &str| std::env::var(name).ok();
            let value = value.resolve(&format!("acp.agents.{name}.env.{variable}"), &env)?;
            Ok((variable.clone(), value))
        };
        let env = agent.env.iter().map(value).collect::<Result<_, crate::settings::SecretError>>();
        Ok(Self {
            name: name.to_owned(),
            command: agent.command.clone(),
            args: agent.args.clone(),
            env: env.map_err(|e| e.to_string())?,
            cwd: agent.cwd.as_deref().map(expanded),
        })
    }
}

/// The agent and the session it thinks for.
type Key = (String, String);

/// The processes of agents. It outlives the catalog, so that they survive a change of the configuration that does not
/// concern them.
pub struct Peers {
    guard: Guard,
    living: Mutex<BTreeMap<Key, Living>>,
    remembered: Mutex<BTreeMap<Key, Memory>>,
}

/// A process that lives, or is being started. Dropping it ends the process.
struct Living {
    program: Arc<Program>,
    asks: Sender<Asked>,
    /// Since when it has nothing to do; `None` while it answers.
    resting: Resting,
    work: AbortOnDropHandle<()>,
}

type Resting = Arc<Mutex<Option<Instant>>>;

impl Peers {
    /// None yet; they are started under this guard.
    pub fn new(guard: Guard) -> Arc<Self> {
        Arc::new(Self { guard, living: Mutex::default(), remembered: Mutex::default() })
    }

    /// A model for each agent that may be used; what they ask is decided like this.
    pub fn models(self: &Arc<Self>, settings: &AcpSettings, permit: &Permit) -> Vec<Arc<dyn Model>> {
        let model = |(name, agent)| match Program::of(name, agent) {
            Ok(program) => {
                let (peers, program, permit) = (self.clone(), Arc::new(program), permit.clone());
                Some(Arc::new(AcpModel { peers, program, permit }) as _)
            }
            Err(why) => {
                tracing::warn!(target: "crabtree::acp", agent = name, "it cannot be used: {why}");
                None
            }
        };
        settings.usable().filter_map(model).collect()
    }

    /// Ends them all.
    pub fn end(&self) {
        self.living.lock().clear();
    }

    /// Gives a prompt to its session's process. What answers outside of any session is returned, and ends with it.
    fn hand_over(self: &Arc<Self>, model: &AcpModel, asked: Asked) -> Option<AbortOnDropHandle<()>> {
        let program = &model.program;
        let Some(instructions) = &asked.prompt.instructions else {
            let peer = Peer::new(model, None, Resting::default());
            let (asks, asked_of) = channel(1);
            asks.try_send(asked).ok()?;
            return Some(AbortOnDropHandle::new(tokio::spawn(peer.live(asked_of))));
        };
        let key = (program.name.clone(), instructions.session.clone());
        let mut living = self.living.lock();
        let known = living.get(&key).filter(|one| one.program == *program && !one.work.is_finished());
        let asked = match known {
            None => asked,
            Some(one) => one.take(asked)?,
        };
        living.remove(&key);
        if !make_room(&mut living) {
            asked.fail(Failure::new(
                Reason::RateLimit,
                format!("{MAX_LIVING} agents are at work at the same time, and no more can be started."),
            ));
            return None;
        }
        let (asks, asked_of) = channel(MAX_ASKED);
        let resting = Resting::default();
        let peer = Peer::new(model, Some(key.clone()), resting.clone());
        let work = AbortOnDropHandle::new(tokio::spawn(peer.live(asked_of)));
        let one = Living { program: program.clone(), asks, resting, work };
        // There is room: nobody else knows of it.
        let _ = one.take(asked);
        living.insert(key, one);
        None
    }

    /// What a process that has ended between two turns has left.
    fn recall(&self, key: &Key) -> Option<Memory> {
        self.remembered.lock().remove(key)
    }

    fn remember(&self, key: Key, memory: Memory) {
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.pop_first();
        }
        remembered.insert(key, memory);
    }
}

impl Living {
    /// Gives it a prompt, which comes back if it takes none.
    fn take(&self, asked: Asked) -> Option<Asked> {
        *self.resting.lock() = None;
        match self.asks.try_send(asked) {
            Ok(()) => None,
            Err(TrySendError::Full(asked) | TrySendError::Closed(asked)) => Some(asked),
        }
    }
}

/// Whether one more may be started; what has ended goes, and then what has rested longest.
fn make_room(living: &mut BTreeMap<Key, Living>) -> bool {
    living.retain(|_, one| !one.work.is_finished());
    if living.len() < MAX_LIVING {
        return true;
    }
    let resting = living.iter().filter_map(|(key, one)| Some((*one.resting.lock().as_ref()?, key)));
    let longest = resting.min().map(|(_, key)| key.clone());
    longest.is_some_and(|key| living.remove(&key).is_some())
}

/// An agent, as a model.
struct AcpModel {
    peers: Arc<Peers>,
    program: Arc<Program>,
    permit: Permit,
}

impl Model for AcpModel {
    fn provider(&self) -> &str {
        PROVIDER
    }

    fn id(&self) -> &str {
        &self.program.name
    }

    fn context_window(&self) -> u64 {
        CONTEXT_WINDOW
    }

    fn info(&self) -> ModelInfo {
        ModelInfo {
            name: format!("{} (ACP agent)", self.program.name),
            input: vec!["text".into(), "image".into()],
            reasoning: true,
            local: false,
        }
    }

    fn answer(&self, prompt: Prompt) -> BoxStream<'static, Chunk> {
        let (tell, chunks) = channel(MAX_CHUNKS);
        let work = self.peers.hand_over(self, Asked { prompt, tell });
        stream::unfold((chunks, work), async |(mut chunks, work)| {
            chunks.recv().await.map(|chunk| (chunk, (chunks, work)))
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn living(resting: Option<Instant>) -> Living {
        let agent = AcpAgent { command: "x".into(), ..AcpAgent::default() };
        Living {
            program: Arc::new(Program::of("a", &agent).unwrap()),
            asks: channel(1).0,
            resting: Arc::new(Mutex::new(resting)),
            work: AbortOnDropHandle::new(tokio::spawn(std::future::pending())),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_only_so_many_and_who_rested_longest_goes() {
        let key = |number: usize| ("a".to_owned(), number.to_string());
        let mut all: BTreeMap<_, _> = (0..MAX_LIVING).map(|number| (key(number), living(None))).collect();
        assert!(!make_room(&mut all), "all are at work");
        let now = Instant::now();
        *all[&key(3)].resting.lock() = Some(now + std::time::Duration::from_secs(1));
        *all[&key(5)].resting.lock() = Some(now);
        assert!(make_room(&mut all));
        assert_eq!((all.len(), all.contains_key(&key(5))), (MAX_LIVING - 1, false));
        assert!(make_room(&mut all) && all.contains_key(&key(3)), "there is room");
    }

    #[test]
    fn an_agent_without_a_program_or_with_a_secret_that_is_missing_is_no_model() {
        let settings = |json: &str| serde_json::from_str::<AcpSettings>(json).unwrap();
        let names = |json: &str| {
            let peers = Peers::new(Guard::none());
            peers
                .models(&settings(json), &refuse())
                .iter()
                .map(|model| model.id().to_owned())
                .collect::<Vec<_>>()
        };
        let json = r#"{"agents": {"a": {"command": "x"}, "b": {},
            "c": {"command": "x", "env": {"KEY": "${CRABTREE_NO_SUCH_VARIABLE}"}}}}"#;
        assert_eq!(names(json), ["a"]);
    }
}
