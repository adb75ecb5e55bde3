//! Whether a connection may call a method.

use serde_json::value::RawValue;

use super::registered::{self, Caller};
use super::{Method, dynamic};
use crate::refusal::Refusal;
use crate::scope::{Role, Scope, Scopes};

/// Decides whether a connection may call the method called `name`, after its handshake.
///
/// The recorded order: the role first (a node learns nothing about methods that are not its own),
/// then the scope, and existence last: what does not exist needs `operator.admin`. Whether
/// `system.chaos` is enabled is for the caller to check. `connect` is always refused here.
///
/// # Errors
/// `unauthorized role`, `missing scope`, `unknown method`, or `connect is only valid …`.
pub fn authorize(
    name: &str,
    role: Role,
    scopes: &Scopes,
    params: Option<&RawValue>,
) -> Result<Method, Refusal> {
    let method = Method::from_name(name);
    if method == Some(Method::Connect) {
        return Err(Refusal::connect_not_first());
    }
    let Some(method) = method else {
        return Err(absent(name, role, scopes));
    };
    if !method.role().admits(role) {
        return Err(Refusal::unauthorized_role(role));
    }
    match dynamic::needed(method, params) {
        Some(scope) if role == Role::Operator && !scopes.allows(scope) => Err(Refusal::missing_scope(scope)),
        _ => Ok(method),
    }
}

/// The refusal of a method this gateway does not have. Methods nobody has belong to administrators.
fn absent(name: &str, role: Role, scopes: &Scopes) -> Refusal {
    let caller = registered::caller(name).unwrap_or(Caller::Operator(Scope::Admin));
    match (role, caller) {
        (Role::Node, Caller::Node) => Refusal::unknown_method(name),
        (Role::Node, _) | (Role::Operator, Caller::Node) => Refusal::unauthorized_role(role),
        (Role::Operator, Caller::Operator(scope)) if !scopes.allows(scope) => Refusal::missing_scope(scope),
        (Role::Operator, Caller::Operator(_)) => Refusal::unknown_method(name),
    }
}
