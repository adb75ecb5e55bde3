//! Which MCP servers there are, and what they offer at the moment.

use super::super::AgentsMsg;
use crate::estate::Estate;
use crate::settings::McpServerSettings;
use crate::tools::Registry;
use crate::tree::Slot;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which MCP servers there are, and what they offer at the moment. Part of the Estate.
#[derive(Default)]
pub struct Roster(Mutex<BTreeMap<String, Row>>);

struct Row {
    entry: McpServerSettings,
    tools: Option<Arc<Registry>>,
}

impl Roster {
    /// A server is started like this; it offers nothing yet.
    pub(super) fn put(&self, name: &str, entry: McpServerSettings) {
        self.0.lock().insert(name.to_owned(), Row { entry, tools: None });
    }

    /// Whether the server was started like this.
    pub(super) fn runs_with(&self, name: &str, entry: &McpServerSettings) -> bool {
        self.0.lock().get(name).is_some_and(|row| row.entry == *entry)
    }

    /// There are no others than those.
    pub(super) fn keep(&self, mut wanted: impl FnMut(&str) -> bool) {
        self.0.lock().retain(|name, _| wanted(name));
    }

    /// What all of them offer.
    pub fn tools(&self) -> Registry {
        let mut all = Registry::default();
        for tools in self.0.lock().values().filter_map(|row| row.tools.as_deref()) {
            all.extend(tools.clone());
        }
        all
    }
}

/// What one incarnation of a server offers: taken back when it is dropped, however that comes about, and before the
/// next incarnation is started.
pub(super) struct Offer {
    server: Arc<str>,
    estate: Arc<Estate>,
    agents: Slot<AgentsMsg>,
    tools: Option<Arc<Registry>>,
}

impl Offer {
    pub(super) fn new(server: Arc<str>, estate: Arc<Estate>, agents: Slot<AgentsMsg>) -> Self {
        Self { server, estate, agents, tools: None }
    }

    /// These from now on.
    pub(super) fn set(&mut self, tools: Registry) {
        let tools = Arc::new(tools);
        if let Some(row) = self.estate.mcp.0.lock().get_mut(&*self.server) {
            row.tools = Some(tools.clone());
        }
        self.tools = Some(tools);
        self.tell();
    }

    fn tell(&self) {
        // An incarnation of `agents` that misses it reads the roster when it starts.
        let _ = self.agents.send(AgentsMsg::ToolsChanged);
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let Some(mine) = self.tools.take() else { return };
        if let Some(row) = self.estate.mcp.0.lock().get_mut(&*self.server)
            && row.tools.as_ref().is_some_and(|tools| Arc::ptr_eq(tools, &mine))
        {
            row.tools = None;
        }
        self.tell();
    }
}
