//! Groups of sessions: their names, their order, where their sessions start. One value of the store's metadata,
//! changed by one at a time; a session's own group is its `category`.

use crate::connection::ConnectionMsg;
use crate::gateway::Wiring;
use crate::methods::{ANSWER_LIMIT, Call, store_refusal};
use crate::sessions::{self, Told, groups_event};
use crate::store::{self, Connection, SessionUpdate, StoreError, WriteOp, WriteReply};
use crate::tree::Ctx;
use crabtree_protocol::params::core::Empty;
use crabtree_protocol::params::session_groups::{DeleteParams, PutParams, RenameParams, UpdateParams};
use crabtree_protocol::{Refusal, Scope};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Component, Path};
use std::sync::Arc;

/// Where they are among the metadata.
const META: &str = "sessions.groups";
/// Groups there may be.
const MAX_GROUPS: usize = 1_000;
/// Sections of the sidebar that are groups.
const SECTION: &str = "category:";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Groups {
    groups: Vec<Group>,
    section_order: Vec<String>,
    /// How many sessions are in which.
    #[serde(skip)]
    members: Vec<(String, i64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Group {
    name: String,
    position: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cwd: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worktree: Option<bool>,
}

/// Sessions that change their group with the groups.
struct Move {
    from: String,
    to: Option<String>,
}

impl Groups {
    fn read(c: &Connection) -> Result<Self, StoreError> {
        let stored = store::meta(c, META)?;
        let mut groups: Self = stored.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        groups.members = store::group_counts(c)?;
        // A group that nobody has put is there because a session is in it.
        for (name, _) in groups.members.clone() {
            groups.add(&name);
        }
        Ok(groups)
    }

    fn find(&mut self, name: &str) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.name == name)
    }

    fn add(&mut self, name: &str) {
        if self.find(name).is_none() {
            let position = self.groups.iter().map(|group| group.position + 1).max().unwrap_or(0);
            self.groups.push(Group { name: name.to_owned(), position, cwd: None, worktree: None });
        }
    }

    fn put(&mut self, names: &[String], section_order: Option<&[String]>) -> Result<(), Refusal> {
        if names.len() > MAX_GROUPS {
            let what = format!("there may be {MAX_GROUPS} session groups; delete some first");
            return Err(Refusal::invalid_request(what));
        }
        let used: Vec<(&str, u64)> = self
            .groups
            .iter()
            .filter(|group| !names.contains(&group.name))
            .filter_map(|group| self.members.iter().find(|(name, _)| *name == group.name))
            .map(|(name, members)| (name.as_str(), members.unsigned_abs()))
            .collect();
        if !used.is_empty() {
            return Err(Refusal::groups_in_use(&used));
        }
        let before = std::mem::take(&mut self.groups);
        names.iter().for_each(|name| self.add(name));
        for known in before {
            if let Some(group) = self.find(&known.name) {
                (group.cwd, group.worktree) = (known.cwd, known.worktree);
            }
        }
        if let Some(order) = section_order {
            self.section_order = order.to_vec();
        }
        self.tidy();
        Ok(())
    }

    /// To another name, which may be that of a group it becomes a part of.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), Refusal> {
        let merges = from != to && self.find(to).is_some();
        let group = self.find(from).ok_or_else(|| Refusal::unknown_group(from))?;
        group.name = to.to_owned();
        if merges {
            let mut seen = false;
            self.groups.retain(|group| group.name != to || !std::mem::replace(&mut seen, true));
        }
        let (old, new) = (format!("{SECTION}{from}"), format!("{SECTION}{to}"));
        self.section_order.iter_mut().filter(|section| **section == old).for_each(|s| s.clone_from(&new));
        self.tidy();
        Ok(())
    }

    fn delete(&mut self, name: &str) {
        self.groups.retain(|group| group.name != name);
        self.tidy();
    }

    /// Sections stand once each, and those of groups only while there are such groups.
    fn tidy(&mut self) {
        let mut seen = std::collections::HashSet::new();
        let groups = &self.groups;
        self.section_order.retain(|section| {
            let name = section.strip_prefix(SECTION);
            name.is_none_or(|name| groups.iter().any(|group| group.name == name))
                && seen.insert(section.clone())
        });
    }

    fn shown(&self) -> Value {
        let row = |group: &Group| json!({ "name": group.name, "position": group.position });
        let rows: Vec<Value> = self.groups.iter().map(row).collect();
        json!({ "groups": rows, "sectionOrder": self.section_order })
    }

    fn changed(&self, moved: Option<u64>) -> Value {
        let mut answer = self.shown();
        answer["ok"] = json!(true);
        if let Some(moved) = moved {
            answer["updatedSessions"] = json!(moved);
        }
        answer
    }

    fn defaults(&self) -> Value {
        let row = |group: &Group| {
            let mut row = json!({ "name": group.name });
            let known = [
                ("cwd", group.cwd.as_deref().map(Value::from)),
                ("worktree", group.worktree.map(Value::from)),
            ];
            for (name, value) in known.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                row[name] = value;
            }
            row
        };
        json!({ "defaults": self.groups.iter().map(row).collect::<Vec<_>>() })
    }
}

/// Changes the groups, and tells; the answer is of them after it and of how many sessions it moved.
fn change(
    ctx: &mut Ctx<ConnectionMsg>,
    call: Call<'_>,
    make: impl FnOnce(&mut Groups) -> Result<Option<Move>, Refusal> + Send + 'static,
    answer: impl FnOnce(&Groups, u64) -> Value + Send + 'static,
) {
    let (wiring, responder) = (call.wiring.clone(), call.responder);
    ctx.detached(async move {
        let changed = changed(&wiring, make).await;
        if changed.is_ok() {
            tell_changed(&wiring);
        }
        responder.settle(changed.map(|(groups, moved)| answer(&groups, moved)));
    });
}

/// Tells that there are other groups than before.
pub(super) fn tell_changed(wiring: &Wiring) {
    let estate = &wiring.store.estate;
    estate.conns.publish(groups_event(estate.clock.now_ms()));
}

/// Whether a session in the group `name` makes it one that was not there.
pub(super) async fn is_new(wiring: &Wiring, name: &str) -> Result<bool, Refusal> {
    let mut groups = wiring.store.read(Groups::read).await.map_err(|e| store_refusal(&e))?;
    Ok(groups.find(name.trim()).is_none())
}

async fn changed(
    wiring: &Arc<Wiring>,
    make: impl FnOnce(&mut Groups) -> Result<Option<Move>, Refusal>,
) -> Result<(Groups, u64), Refusal> {
    let store = &wiring.store;
    let _alone = store.estate.session_groups.lock().await;
    let mut groups = store.read(Groups::read).await.map_err(|e| store_refusal(&e))?;
    let moving = make(&mut groups)?;
    let value = serde_json::to_string(&groups).expect("groups are plain data");
    let mut ops = vec![WriteOp::PutMeta { key: META.into(), value }];
    ops.extend(moving.as_ref().map(|m| WriteOp::MoveCategory { from: m.from.clone(), to: m.to.clone() }));
    let written = store.write(WriteOp::All(ops)).await;
    let written = written.map_err(|e| Refusal::failed(format!("the groups were not changed: {e}")))?;
    let moved = match written {
        WriteReply::All(replies) => replies.into_iter().find_map(|reply| match reply {
            WriteReply::Count(moved) => Some(moved),
            _ => None,
        }),
        _ => None,
    };
    if let Some(moving) = moving {
        refresh(wiring, moving).await;
    }
    Ok((groups, moved.unwrap_or(0)))
}

/// Sessions in memory know which group they are in.
async fn refresh(wiring: &Wiring, moving: Move) {
    let Move { from, to } = moving;
    let all = wiring.store.estate.sessions_in_memory();
    let one = |key: crabtree_protocol::SessionKey| {
        let (from, to, name) = (from.clone(), to.clone(), key.to_string());
        sessions::change(&wiring.sessions, key, None, Told::Nothing, move |record, _| {
            if record.is_none_or(|record| record.entry["category"] != from.as_str()) {
                return Err(Refusal::invalid_request("it was in another group"));
            }
            let entry = Some(json!({ "category": to }));
            Ok(WriteOp::UpdateSession {
                key: name,
                update: SessionUpdate { entry, ..SessionUpdate::default() },
            })
        })
    };
    // The store has it already: whoever is not there, or busy for long, learns it from there.
    let _ = tokio::time::timeout(ANSWER_LIMIT, join_all(all.into_iter().map(one))).await;
}

fn read(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>, show: fn(&Groups) -> Value) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let (store, responder) = (call.wiring.store.clone(), call.responder);
    ctx.detached(async move {
        let groups = store.read(Groups::read).await;
        responder.settle(groups.map_err(|e| store_refusal(&e)).map(|groups| show(&groups)));
    });
}

pub fn list(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    read(ctx, call, Groups::shown);
}

pub fn defaults(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    read(ctx, call, Groups::defaults);
}

fn named(name: &str) -> Result<String, Refusal> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Refusal::invalid_request("a session group needs a name"));
    }
    Ok(name.to_owned())
}

pub fn put(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<PutParams>() else { return };
    let trimmed = |name: &crabtree_protocol::params::session_groups::GroupName| name.trim().to_owned();
    let names: Vec<String> = params.names.iter().map(trimmed).filter(|name| !name.is_empty()).collect();
    let order: Option<Vec<String>> = params.section_order.map(|order| order.iter().map(trimmed).collect());
    change(
        ctx,
        call,
        move |groups| groups.put(&names, order.as_deref()).map(|()| None),
        |groups, _| groups.changed(None),
    );
}

pub fn rename(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<RenameParams>() else { return };
    let make = move |groups: &mut Groups| {
        let (from, to) = (named(&params.name)?, named(&params.to)?);
        groups.rename(&from, &to)?;
        Ok(Some(Move { from, to: Some(to) }))
    };
    change(ctx, call, make, |groups, moved| groups.changed(Some(moved)));
}

pub fn delete(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<DeleteParams>() else { return };
    let make = move |groups: &mut Groups| {
        let from = named(&params.name)?;
        groups.delete(&from);
        Ok(Some(Move { from, to: None }))
    };
    change(ctx, call, make, |groups, moved| groups.changed(Some(moved)));
}

pub fn update(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<UpdateParams>() else { return };
    let cwd = params.cwd.as_option().flatten().map(ToString::to_string);
    if let Some(refusal) = cwd.as_deref().and_then(|cwd| refuse_cwd(&call, Path::new(cwd))) {
        return call.responder.refuse(refusal);
    }
    let make = move |groups: &mut Groups| {
        let name = named(&params.name)?;
        let group = groups.find(&name).ok_or_else(|| Refusal::unknown_group(&name))?;
        (group.cwd, group.worktree) = (cwd, Some(params.worktree));
        Ok(None)
    };
    change(ctx, call, make, |groups, _| {
        let mut answer = groups.defaults();
        answer["ok"] = json!(true);
        answer
    });
}

/// A directory outside of the agents' workspaces is an administrator's choice.
fn refuse_cwd(call: &Call<'_>, cwd: &Path) -> Option<Refusal> {
    if !cwd.is_absolute() {
        return Some(Refusal::group_cwd_relative());
    }
    let is_admin = call.responder.conn().grant().is_some_and(|grant| grant.may(Scope::Admin));
    let (loaded, catalog) = (call.estate().config.load(), call.estate().catalog.load());
    let inside = catalog.agents.iter().any(|agent| cwd.starts_with(loaded.workspace(&agent.id)))
        && !cwd.components().any(|part| part == Component::ParentDir);
    (!is_admin && !inside).then(|| Refusal::missing_scope(Scope::Admin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(names: &[&str]) -> Groups {
        let mut groups = Groups::default();
        names.iter().for_each(|name| groups.add(name));
        groups
    }

    fn names(groups: &Groups) -> Vec<(&str, u64)> {
        groups.groups.iter().map(|group| (group.name.as_str(), group.position)).collect()
    }

    #[test]
    fn positions_have_holes_until_groups_are_put_anew() {
        let mut all = groups(&["a", "b", "c"]);
        all.delete("b");
        assert_eq!(names(&all), [("a", 0), ("c", 2)]);
        all.add("d");
        assert_eq!(names(&all)[2], ("d", 3));
        all.put(&["c".into(), "a".into(), "c".into()], None).unwrap();
        assert_eq!(names(&all), [("c", 0), ("a", 1)]);
    }

    #[test]
    fn groups_with_sessions_in_them_are_not_dropped_in_passing() {
        let mut all = groups(&["a", "b"]);
        all.members = vec![("b".into(), 2)];
        let refused = all.put(&["a".into()], None).unwrap_err();
        assert!(refused.message.contains("\"b\" (2)"), "{}", refused.message);
        assert_eq!(names(&all).len(), 2);
    }

    #[test]
    fn a_renamed_group_keeps_its_place_and_may_become_part_of_another() {
        let mut all = groups(&["a", "b"]);
        all.put(&["a".into(), "b".into()], Some(&["category:a".into(), "work".into(), "category:x".into()]))
            .unwrap();
        all.find("a").unwrap().worktree = Some(true);
        all.rename("a", "c").unwrap();
        assert_eq!(
            (names(&all), all.section_order.clone()),
            (vec![("c", 0), ("b", 1)], vec!["category:c".into(), "work".into()])
        );
        all.rename("c", "b").unwrap();
        assert_eq!(all.groups.len(), 1);
        assert!(all.rename("nobody", "x").is_err());
    }
}
