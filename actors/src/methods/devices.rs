//! Devices: who is paired, who asks to be, their tokens, and setup codes.

mod setup;

pub(super) use setup::{code as setup_code, picture};

use super::Call;
use crate::devices::{DevicesMsg, Question};
use crabtree_protocol::params::core::NoParams;
use crabtree_protocol::params::devices::{
    DeviceParams, RenameParams, RequestParams, RevokeParams, RotateParams, SetupStatusParams, UpgradeParams,
};
use crabtree_protocol::value::Text;

/// Hands a question to the actor. If it is down, the message is dropped, and with it the responder answers.
fn ask(call: Call<'_>, question: Question) {
    drop(call.wiring.devices.send(DevicesMsg::Asked(question, call.responder)));
}

pub(super) fn list(call: Call<'_>) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    ask(call, Question::List);
}

pub(super) fn approve(call: Call<'_>) {
    let Some((params, call)) = call.parse::<RequestParams>() else { return };
    ask(call, Question::Approve(params.request_id.into()));
}

pub(super) fn reject(call: Call<'_>) {
    let Some((params, call)) = call.parse::<RequestParams>() else { return };
    ask(call, Question::Reject(params.request_id.into()));
}

pub(super) fn remove(call: Call<'_>) {
    let Some((params, call)) = call.parse::<DeviceParams>() else { return };
    ask(call, Question::Remove(params.device_id.into()));
}

pub(super) fn rename(call: Call<'_>) {
    let Some((params, call)) = call.parse::<RenameParams>() else { return };
    ask(call, Question::Rename(params.device_id.into(), params.label.into()));
}

pub(super) fn rotate(call: Call<'_>) {
    let Some((params, call)) = call.parse::<RotateParams>() else { return };
    let scopes = params.scopes.map(texts);
    ask(call, Question::Rotate(params.device_id.into(), params.role.into(), scopes));
}

pub(super) fn revoke(call: Call<'_>) {
    let Some((params, call)) = call.parse::<RevokeParams>() else { return };
    ask(call, Question::Revoke(params.device_id.into(), params.role.into()));
}

pub(super) fn request_upgrade(call: Call<'_>) {
    let Some((params, call)) = call.parse::<UpgradeParams>() else { return };
    ask(call, Question::Upgrade(texts(params.scopes.into_vec())));
}

pub(super) fn wait_upgrade(call: Call<'_>) {
    let Some((params, call)) = call.parse::<RequestParams>() else { return };
    ask(call, Question::WaitUpgrade(params.request_id.into()));
}

pub(super) fn setup_status(call: Call<'_>) {
    let Some((params, call)) = call.parse::<SetupStatusParams>() else { return };
    ask(call, Question::SetupStatus(params.setup_id.into()));
}

fn texts(list: Vec<Text>) -> Vec<String> {
    list.into_iter().map(Text::into_string).collect()
}
