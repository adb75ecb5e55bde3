//! Methods that stock clients may call and this gateway does not have: who may not call them is told so, in the
//! recorded words, before whether they exist is looked at.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::scope::Scope;

const LIST: &str = include_str!("registered.txt");

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A node.
    Node,
    /// An operator with this scope.
    Operator(Scope),
}

/// Who may call a method that is registered by the recorded gateway.
pub fn caller(method: &str) -> Option<Caller> {
    static TABLE: OnceLock<HashMap<&'static str, Caller>> = OnceLock::new();
    TABLE.get_or_init(table).get(method).copied()
}

fn table() -> HashMap<&'static str, Caller> {
    let mut table = HashMap::new();
    for (who, names) in LIST.lines().filter_map(|line| line.split_once(": ")) {
        let caller =
            if who == "node" { Some(Caller::Node) } else { Scope::from_name(who).map(Caller::Operator) };
        table.extend(names.split(' ').zip(caller.into_iter().cycle()));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::{Method, ScopeRule};

    #[test]
    fn the_list_is_read_whole_and_agrees_with_the_methods_there_are() {
        let table = table();
        assert!(table.len() > 460, "{}", table.len());
        assert_eq!(table["node.event"], Caller::Node);
        assert_eq!(table["exec.approval.resolve"], Caller::Operator(Scope::Approvals));
        for method in Method::ALL {
            if let (ScopeRule::One(scope), Some(caller)) = (method.scope(), caller(method.name())) {
                assert_eq!(caller, Caller::Operator(scope), "{}", method.name());
            }
        }
    }
}
