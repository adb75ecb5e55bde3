//! `hooks.status`

use super::Call;
use crate::hooks;
use crabtree_protocol::Refusal;
use crabtree_protocol::params::hooks::StatusParams;

pub(super) fn status(call: Call<'_>) {
    let Some((params, call)) = call.parse::<StatusParams>() else { return };
    let catalog = call.estate().catalog.load_full();
    let agent = params.agent_id.as_deref().unwrap_or(&catalog.default_agent().id);
    if catalog.agent(agent).is_none() {
        return call.responder.refuse(Refusal::unknown_agent(agent));
    }
    let status = hooks::status(call.estate(), agent);
    call.responder.ok(&status);
}
