//! Tools as a server lists them, made into ours.

use super::tool::{Link, McpTool};
use crate::settings::ToolFilter;
use crate::tools::{Definition, Effects, Permission, Sandbox, Tool};
use globset::{Glob, GlobSet, GlobSetBuilder};
use rmcp::model::Tool as Listed;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Tools of one server: models choose badly among more, and each costs words in every prompt.
pub(super) const MAX_TOOLS: usize = 128;
/// The longest schema of one tool, bytes.
const MAX_SCHEMA: usize = 64 * 1024;
/// The longest description, bytes.
const MAX_DESCRIPTION: usize = 4 * 1024;
/// The longest name models know a tool by (every provider takes that), and how much of it is the server's.
const MAX_NAME: usize = 64;
const MAX_SERVER: usize = 30;

/// What is the same for all tools of a server.
pub(super) struct Terms {
    /// The server, as the configuration names it.
    pub server: Arc<str>,
    /// How long a call may take.
    pub timeout: Duration,
    /// Whether it is a process on this machine.
    pub is_process: bool,
    /// Which of its tools are used.
    pub filter: Filter,
}

/// A [`ToolFilter`], read.
pub(super) struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Filter {
    /// # Errors
    /// Which name cannot be read.
    pub(super) fn new(server: &str, filter: &ToolFilter) -> Result<Self, String> {
        let globs = |key: &str, names: &[String]| {
            let mut all = GlobSetBuilder::new();
            for name in names {
                let wrong = |e| format!("mcp.servers.{server}.toolFilter.{key}: {e}");
                all.add(Glob::new(name).map_err(wrong)?);
            }
            all.build().map_err(|e| format!("mcp.servers.{server}.toolFilter.{key}: {e}"))
        };
        let include = (!filter.include.is_empty()).then(|| globs("include", &filter.include)).transpose()?;
        Ok(Self { include, exclude: globs("exclude", &filter.exclude)? })
    }

    fn admits(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(name)) && !self.exclude.is_match(name)
    }
}

/// The tools that are used of those listed. What cannot be used is left out, and said in the log.
pub(super) fn tools(terms: &Terms, listed: Vec<Listed>, link: &Arc<Link>) -> Vec<Arc<dyn Tool>> {
    let left_out = |tool: &str, why: &str| {
        tracing::warn!(target: "crabtree::mcp", server = %terms.server, tool, "left out: {why}");
    };
    let mut names = BTreeSet::new();
    let mut tools: Vec<Arc<dyn Tool>> = Vec::new();
    for tool in listed.into_iter().filter(|tool| terms.filter.admits(&tool.name)) {
        let name = tool.name.to_string();
        if tools.len() == MAX_TOOLS {
            left_out(&name, "the server has too many tools; choose with toolFilter.include");
            break;
        }
        match definition(terms, tool) {
            Some(definition) if names.insert(definition.name.to_ascii_lowercase()) => {
                tools.push(Arc::new(McpTool::new(definition, name, link.clone())));
            }
            Some(_) => left_out(&name, "another tool of the server has the same name where it counts"),
            None => left_out(&name, "its schema is too long"),
        }
    }
    tools
}

/// What is known of a tool; nothing if its schema is too long.
fn definition(terms: &Terms, tool: Listed) -> Option<Definition> {
    let mut parameters = Value::Object((*tool.input_schema).clone());
    parameters["type"] = json!("object");
    if parameters.to_string().len() > MAX_SCHEMA {
        return None;
    }
    let hints = tool.annotations.unwrap_or_default();
    let title = tool.title.or(hints.title).filter(|title| !title.trim().is_empty());
    let label = title.unwrap_or_else(|| tool.name.to_string());
    let mut description = tool.description.map(String::from).unwrap_or_default();
    if description.trim().is_empty() {
        description = format!("{label}, a tool of the MCP server {}", terms.server);
    }
    description.truncate(description.floor_char_boundary(MAX_DESCRIPTION));
    let effects = match (hints.read_only_hint, hints.idempotent_hint) {
        (Some(true), _) => Effects::None,
        (_, Some(true)) => Effects::Repeatable,
        _ => Effects::External,
    };
    Some(Definition {
        name: full_name(&terms.server, &tool.name),
        label: label.chars().take(MAX_NAME).collect(),
        description,
        parameters,
        group: format!("mcp:{}", terms.server),
        permissions: vec![Permission::Mcp],
        timeout: terms.timeout,
        sandbox: if terms.is_process { Sandbox::Process } else { Sandbox::None },
        effects,
    })
}

/// What stands before the `__` in the names of a server's tools; two servers with the same one cannot both be used.
pub(super) fn prefix(server: &str) -> String {
    let mut prefix = fragment(server, "mcp");
    prefix.truncate(MAX_SERVER);
    prefix
}

fn full_name(server: &str, tool: &str) -> String {
    let mut name = format!("{}__{}", prefix(server), fragment(tool, "tool"));
    name.truncate(MAX_NAME);
    name
}

/// A name in letters that every provider takes, beginning with one.
fn fragment(name: &str, otherwise: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' };
    let name: String = name.trim().chars().map(plain).collect();
    match name.chars().next() {
        Some(first) if first.is_ascii_alphabetic() => name,
        Some(_) => format!("{otherwise}-{name}"),
        None => otherwise.to_owned(),
    }
}

#[cfg(test)]
#[path = "listed_tests.rs"]
mod tests;
