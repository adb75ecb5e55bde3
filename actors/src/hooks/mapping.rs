//! Paths of one's own: which mapping a request is for, and what it makes of it. Pure.

use super::Wrong;
use super::action::{Action, Agent, Chat, Deliver, Named, Run, Wake, channel, name};
use super::template::{Scene, is_template, render};
use crate::settings::{ChannelsSettings, HookAction, HookMapping};
use serde_json::{Value, json};

/// Items of a list that are looked at; the others are left out, with a warning (as recorded).
const MAX_ITEMS: usize = 200;

/// The first mapping that this is for.
pub fn find<'a>(mappings: &'a [HookMapping], scene: &Scene) -> Option<&'a HookMapping> {
    let matches = |mapping: &&HookMapping| {
        let source = mapping.matching.source.as_deref();
        mapping.path().is_none_or(|path| path == scene.path)
            && source.is_none_or(|source| scene.payload["source"].as_str() == Some(source))
    };
    mappings.iter().find(matches)
}

/// What is to be done: once, or once for each item of a list.
pub fn actions(
    mapping: &HookMapping,
    scene: &Scene,
    channels: &ChannelsSettings,
) -> Result<Vec<Action>, Wrong> {
    if mapping.transform.is_some() {
        let id = mapping.id.as_deref().unwrap_or_default();
        return Err(Wrong::failed(format!(
            "hook mapping failed: {id} has a transform, which is JavaScript and not run here; write a messageTemplate \
             or textTemplate instead"
        )));
    }
    let Some(list) = mapping.for_each.as_deref() else { return Ok(vec![action(mapping, scene, channels)?]) };
    let Some(items) = scene.payload[list].as_array() else { return Ok(Vec::new()) };
    if items.len() > MAX_ITEMS {
        tracing::warn!(target: "crabtree::hooks", items = items.len(),
            "a webhook brought more than {MAX_ITEMS} at once: the others are left out");
    }
    let mut rest = Scene { payload: json!({}), ..scene.clone() };
    for (name, value) in scene.payload.as_object().into_iter().flatten().filter(|(name, _)| *name != list) {
        rest.payload[name] = value.clone();
    }
    let one = |item: &Value| {
        let mut scene = rest.clone();
        scene.payload[list] = json!([item]);
        action(mapping, &scene, channels)
    };
    items.iter().take(MAX_ITEMS).map(one).collect()
}

fn action(mapping: &HookMapping, scene: &Scene, channels: &ChannelsSettings) -> Result<Action, Wrong> {
    let session = session(mapping, scene)?;
    let agent = word(mapping.agent_id.as_deref(), scene)?.map_or(Agent::Default, Agent::Mapped);
    if mapping.action == HookAction::Wake {
        let text = word(mapping.text_template.as_deref(), scene)?;
        let text = text.ok_or_else(|| Wrong::request("text required: the textTemplate came to nothing"))?;
        return Ok(Action::Wake(Wake { text, mode: mapping.wake_mode, agent, session }));
    }
    let message = word(mapping.message_template.as_deref(), scene)?;
    let message =
        message.ok_or_else(|| Wrong::request("message required: the messageTemplate came to nothing"))?;
    let deliver = if mapping.deliver == Some(false) {
        Deliver::Nobody
    } else {
        let channel = channel(mapping.channel.clone(), channels)?.filter(|channel| channel != "last");
        Deliver::Chat(Chat { channel, to: word(mapping.to.as_deref(), scene)?, account: None })
    };
    Ok(Action::Run(Box::new(Run {
        message,
        name: name(word(mapping.name.as_deref(), scene)?),
        agent,
        session,
        session_mode: mapping.session_mode,
        wake: mapping.wake_mode,
        deliver,
        model: word(mapping.model.as_deref(), scene)?,
        thinking: word(mapping.thinking.as_deref(), scene)?,
        timeout_seconds: mapping.timeout_seconds.filter(|seconds| *seconds > 0),
        trusted: mapping.allow_unsafe_external_content,
        key: None,
    })))
}

/// A rendered text, if it says anything.
fn word(template: Option<&str>, scene: &Scene) -> Result<Option<String>, Wrong> {
    let Some(template) = template else { return Ok(None) };
    let text =
        render(template, scene).ok_or_else(|| Wrong::request("what the templates make of it is too long"))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

fn session(mapping: &HookMapping, scene: &Scene) -> Result<Option<Named>, Wrong> {
    let Some(template) = mapping.session_key.as_deref() else { return Ok(None) };
    let key = word(Some(template), scene)?;
    let key = key.ok_or_else(|| Wrong::request("the sessionKey of the mapping came to nothing"))?;
    Ok(Some(Named { key, fixed: !is_template(template) }))
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
