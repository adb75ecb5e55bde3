//! Which tools there are, and the gates before each call.

use super::{Call, Policy, Tool, ToolResult};
use jsonschema::Validator;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use tokio::time::timeout;

/// How much of a result a model is given, bytes.
pub const MAX_RESULT: usize = 64 * 1024;
/// Wrong arguments that are told at once.
const MAX_WRONGS: usize = 5;

/// Why a call is not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which gate it did not pass.
    pub gate: Gate,
    /// Why, for the model.
    pub why: String,
}

/// A gate before a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// There is such a tool.
    Exists,
    /// The session may use it.
    Allowed,
    /// The arguments fit its schema.
    Valid,
}

impl From<Refused> for ToolResult {
    fn from(refused: Refused) -> Self {
        ToolResult::error(refused.why)
    }
}

/// See the module. Cheap to clone with a tool more or less: it is published as a whole.
#[derive(Clone, Default)]
pub struct Registry {
    tools: BTreeMap<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    tool: Arc<dyn Tool>,
    /// Made of the schema at the first call; an error if it is none.
    validator: Arc<OnceLock<Result<Validator, String>>>,
}

impl Registry {
    /// These tools; of two with the same name the later one counts.
    pub fn new(tools: impl IntoIterator<Item = Arc<dyn Tool>>) -> Self {
        let entry =
            |tool: Arc<dyn Tool>| (tool.definition().name.clone(), Entry { tool, validator: Arc::default() });
        Self { tools: tools.into_iter().map(entry).collect() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tools.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// Adds those of another one.
    pub fn extend(&mut self, other: Self) {
        self.tools.extend(other.tools);
    }

    /// All of them, by name.
    pub fn tools(&self) -> impl Iterator<Item = &Arc<dyn Tool>> {
        self.tools.values().map(|entry| &entry.tool)
    }

    /// One of them.
    pub fn tool(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.tools.get(name).map(|entry| &entry.tool)
    }

    /// Those that a session may use.
    pub fn allowed<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = &'a Arc<dyn Tool>> {
        self.tools().filter(|tool| policy.allows(tool.definition()))
    }

    /// Looks whether a call may be made: there is such a tool, the session may use it, the arguments fit.
    ///
    /// # Errors
    /// What the model is told instead.
    pub fn check(&self, name: &str, args: &Value, policy: &Policy) -> Result<Arc<dyn Tool>, Refused> {
        let refused = |gate, why| Err(Refused { gate, why });
        let Some(Entry { tool, validator }) = self.tools.get(name) else {
            return refused(Gate::Exists, format!("Tool not found: {name}"));
        };
        if !policy.allows(tool.definition()) {
            return refused(Gate::Allowed, format!("Tool not allowed in this session: {name}"));
        }
        let validator = validator.get_or_init(|| {
            jsonschema::validator_for(&tool.definition().parameters).map_err(|e| e.to_string())
        });
        let wrong: Vec<String> = match validator {
            Ok(validator) => validator.iter_errors(args).take(MAX_WRONGS).map(|e| wording(&e)).collect(),
            Err(e) => vec![format!("the tool's own schema is not valid: {e}")],
        };
        if wrong.is_empty() {
            return Ok(tool.clone());
        }
        refused(Gate::Valid, format!("Invalid arguments for {name}: {}", wrong.join("; ")))
    }
}

fn wording(error: &jsonschema::ValidationError<'_>) -> String {
    let at = error.instance_path().to_string();
    if at.is_empty() { error.to_string() } else { format!("at {at}: {error}") }
}

/// Runs a call that has passed the gates, for as long as the tool may take.
pub async fn run(tool: &dyn Tool, call: Call) -> ToolResult {
    let limit = tool.definition().timeout;
    let result = timeout(limit, tool.call(call)).await;
    let late = |_| {
        let name = &tool.definition().name;
        ToolResult::error(format!("{name} was ended: it took longer than {} s", limit.as_secs()))
    };
    result.unwrap_or_else(late).cut(MAX_RESULT)
}
