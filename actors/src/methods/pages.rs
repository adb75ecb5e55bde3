//! What pages of stock clients need of a method that a later version makes whole: who is asking. True as far as it
//! goes, and not advertised.

use super::Call;
use crabtree_protocol::params::core::NoParams;
use crabtree_protocol::{ErrorCode, Refusal};

/// There are no profiles.
pub(super) fn users_self(call: Call<'_>) {
    let Some((NoParams {}, call)) = call.parse() else { return };
    let words = format!("{} requires an authenticated user", call.method);
    call.responder.refuse(Refusal::new(ErrorCode::Forbidden, words));
}
