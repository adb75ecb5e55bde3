//! What an import is going to do, and why it leaves out what it leaves out.

use serde::Serialize;
use std::collections::BTreeMap;

/// Examples of what is left out for one reason.
const EXAMPLES: usize = 3;

/// What is taken over, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The configuration and the files it includes.
    Config,
    /// Paired devices with their tokens.
    Devices,
    /// What is approved of nodes.
    Nodes,
    /// People who were let in on channels.
    People,
    /// What is done at set times.
    Cron,
    /// Conversations.
    Sessions,
    /// What has no place here.
    Other,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Config, Self::Devices, Self::Nodes, Self::People, Self::Cron, Self::Sessions, Self::Other];

    /// What people read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Devices => "devices",
            Self::Nodes => "nodes",
            Self::People => "people",
            Self::Cron => "cron",
            Self::Sessions => "sessions",
            Self::Other => "other",
        }
    }
}

/// What becomes of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It comes.
    Import,
    /// It is here already.
    Present,
    /// Something else stands in its place, and stays.
    Conflict,
    /// It is left out.
    Skip,
}

/// One thing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// What it is called.
    pub name: String,
    /// What becomes of it.
    pub action: Action,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// All of it.
#[derive(Debug, Default, Serialize)]
pub struct Plan {
    /// Thing by thing.
    pub items: Vec<Item>,
}

impl Plan {
    /// Adds a thing.
    pub fn add(&mut self, kind: Kind, name: impl Into<String>, action: Action, reason: impl Into<String>) {
        self.items.push(Item { kind, name: name.into(), action, reason: reason.into() });
    }

    /// How many of a kind come to this.
    pub fn count(&self, kind: Kind, action: Action) -> usize {
        self.items.iter().filter(|item| item.kind == kind && item.action == action).count()
    }

    /// A table: kind, and how many come, are here already, are in the way of each other, are left out.
    pub fn table(&self) -> Vec<[String; 5]> {
        let head = ["", "import", "here already", "conflict", "left out"].map(str::to_owned);
        let actions = [Action::Import, Action::Present, Action::Conflict, Action::Skip];
        let kinds = Kind::ALL.into_iter().filter(|kind| self.items.iter().any(|item| item.kind == *kind));
        let row = |kind: Kind| {
            let [a, b, c, d] = actions.map(|action| self.count(kind, action).to_string());
            [kind.name().to_owned(), a, b, c, d]
        };
        [head].into_iter().chain(kinds.map(row)).collect()
    }

    /// Why things do not come: each reason once, with how many and a few of their names.
    pub fn reasons(&self) -> Vec<String> {
        let mut groups: BTreeMap<(Kind, &str), Vec<&str>> = BTreeMap::new();
        let left = self.items.iter().filter(|item| !item.reason.is_empty());
        for item in left {
            groups.entry((item.kind, &item.reason)).or_default().push(&item.name);
        }
        let line = |((kind, reason), names): (&(Kind, &str), &Vec<&str>)| {
            let more = names.len().saturating_sub(EXAMPLES);
            let shown = names.iter().take(EXAMPLES).copied().collect::<Vec<_>>().join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}: {shown}{more}: {reason}", kind.name())
        };
        groups.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_counts_and_says_each_reason_once() {
        let mut plan = Plan::default();
        plan.add(Kind::Devices, "a", Action::Import, "");
        for name in ["b", "c", "d", "e"] {
            plan.add(Kind::Sessions, name, Action::Skip, "it was deleted there");
        }
        let table = plan.table();
        assert_eq!(table[1], ["devices", "1", "0", "0", "0"].map(str::to_owned));
        assert_eq!(table[2], ["sessions", "0", "0", "0", "4"].map(str::to_owned));
        assert_eq!(plan.reasons(), ["sessions: b, c, d and 1 more: it was deleted there"]);
    }
}
