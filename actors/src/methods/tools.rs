//! Tools: which there are, which a session may use, and calls by clients.

use super::Call;
use crate::connection::ConnectionMsg;
use crate::settings::ToolProfile;
use crate::tools::invoke::{Asked, Failure, invoke};
use crate::tools::{Definition, Policy, Tool, profiles_of};
use crate::tree::Ctx;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::tools::{
    Catalog, CatalogGroup, CatalogParams, CatalogTool, Effective, EffectiveGroup, EffectiveParams,
    EffectiveTool, InvokeError, InvokeParams, Invoked, Profile, ProfileRow, ToolSource,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Characters of a description in a list.
const MAX_SHORT: usize = 160;
/// The groups by their ids, in the order in which they are listed; others follow under their ids.
const GROUPS: &[(&str, &str)] = &[
    ("fs", "Files"),
    ("runtime", "Runtime"),
    ("web", "Web"),
    ("memory", "Memory"),
    ("skills", "Skills"),
    ("sessions", "Sessions"),
    ("messaging", "Messaging"),
    ("automation", "Automation"),
    ("nodes", "Nodes"),
];

pub(super) fn catalog(call: Call<'_>) {
    let Some((params, call)) = call.parse::<CatalogParams>() else { return };
    let catalog = call.estate().catalog.load();
    let agent_id = params.agent_id.as_deref().unwrap_or(&catalog.default_agent().id);
    if catalog.agent(agent_id).is_none() {
        return call.responder.refuse(Refusal::unknown_agent_id(agent_id));
    }
    let tools = call.estate().tools.load();
    let mut groups: BTreeMap<(usize, &str), Vec<CatalogTool>> = BTreeMap::new();
    for tool in tools.tools().map(|tool| tool.definition()) {
        let place = GROUPS.iter().position(|(id, _)| *id == tool.group).unwrap_or(GROUPS.len());
        groups.entry((place, &tool.group)).or_default().push(catalog_tool(tool));
    }
    let group = |((place, id), tools): ((usize, &str), Vec<CatalogTool>)| CatalogGroup {
        id: id.to_owned(),
        label: GROUPS.get(place).map_or(id, |(_, label)| label).to_owned(),
        source: listed_source(id),
        tools,
        plugin_id: server(id),
    };
    call.responder.ok(&Catalog {
        agent_id: agent_id.to_owned(),
        profiles: vec![
            ProfileRow { id: Profile::Minimal, label: "Minimal".into() },
            ProfileRow { id: Profile::Coding, label: "Coding".into() },
            ProfileRow { id: Profile::Messaging, label: "Messaging".into() },
            ProfileRow { id: Profile::Full, label: "Full".into() },
        ],
        groups: groups.into_iter().map(group).collect(),
    });
}

fn catalog_tool(tool: &Definition) -> CatalogTool {
    CatalogTool {
        id: tool.name.clone(),
        label: tool.label.clone(),
        description: short(&tool.description),
        source: listed_source(&tool.group),
        default_profiles: profiles_of(tool).into_iter().map(wire).collect(),
        plugin_id: server(&tool.group),
    }
}

pub(super) fn effective(call: Call<'_>) {
    let Some((params, call)) = call.parse::<EffectiveParams>() else { return };
    let key = match call.key_of(&params.session_key, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let settings = &call.estate().config.load().settings;
    let policy = Policy::of(settings, &key);
    let tools = call.estate().tools.load();
    let mut groups: Vec<EffectiveGroup> = Vec::new();
    for tool in tools.allowed(&policy) {
        let known = effective_tool(tool.as_ref());
        match groups.iter_mut().find(|group| group.id == known.source) {
            Some(group) => group.tools.push(known),
            None => groups.push(EffectiveGroup {
                id: known.source,
                label: if known.source == ToolSource::Mcp { "MCP servers" } else { "Built-in tools" }.into(),
                source: known.source,
                tools: vec![known],
            }),
        }
    }
    let profile = json!(policy.profile()).as_str().unwrap_or("full").to_owned();
    call.responder.ok(&Effective { agent_id: key.agent_id().to_owned(), profile, groups });
}

fn effective_tool(tool: &dyn Tool) -> EffectiveTool {
    let known = tool.definition();
    let server = server(&known.group);
    let prefix = server.as_ref().map(|server| format!("{server}__"));
    EffectiveTool {
        id: known.name.clone(),
        label: known.label.clone(),
        description: short(&known.description),
        raw_description: known.description.clone(),
        source: if server.is_some() { ToolSource::Mcp } else { ToolSource::Core },
        mcp_tool_name: prefix.and_then(|prefix| known.name.strip_prefix(&prefix)).map(str::to_owned),
        mcp_server: server,
    }
}

pub(super) fn call(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<InvokeParams>() else { return };
    let main = call.estate().catalog.load().main_key.clone();
    let named = params.session_key.as_deref().unwrap_or(&main);
    let session = match call.key_of(named, params.agent_id.as_deref()) {
        Ok(key) => key,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let name = params.name.into_string();
    let asked = Asked {
        name: name.clone(),
        args: Value::Object(params.args.unwrap_or_default()),
        session,
        idempotency_key: params.idempotency_key.map(|key| key.into_string()),
    };
    let source = call.estate().tools.load().tool(&name).map(|tool| {
        if server(&tool.definition().group).is_some() { ToolSource::Mcp } else { ToolSource::Core }
    });
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let failed = |code: &str, message: String| (None, Some(InvokeError { code: code.into(), message }));
        let (output, error) = match invoke(&store, asked).await {
            Ok(result) => (Some(json!(result)), None),
            Err(Failure::NotFound(why)) => failed("not_found", why),
            Err(Failure::Invalid(why)) => failed("invalid_request", why),
            Err(Failure::Failed(why)) => failed("tool_error", why),
        };
        let source = source.filter(|_| error.is_none());
        responder.ok(&Invoked { ok: error.is_none(), tool_name: name, output, source, error });
    });
}

/// The MCP server that the tools of a group belong to.
fn server(group: &str) -> Option<String> {
    group.strip_prefix("mcp:").map(str::to_owned)
}

/// In catalogs an MCP server is an extension (as recorded: they know no others).
fn listed_source(group: &str) -> ToolSource {
    if server(group).is_some() { ToolSource::Plugin } else { ToolSource::Core }
}

fn wire(profile: ToolProfile) -> Profile {
    match profile {
        ToolProfile::Minimal => Profile::Minimal,
        ToolProfile::Coding => Profile::Coding,
        ToolProfile::Messaging => Profile::Messaging,
        ToolProfile::Full => Profile::Full,
    }
}

/// The first sentence or so.
fn short(description: &str) -> String {
    match description.char_indices().nth(MAX_SHORT) {
        Some((at, _)) => format!("{}…", &description[..at]),
        None => description.to_owned(),
    }
}
