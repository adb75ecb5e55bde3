//! Setup codes: a token each, good for one device and for ten minutes. Pure. Only a keyed hash of the token is kept.

use crate::store::{SetupRow, WriteOp};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use crabtree_protocol::params::devices::{SetupCompleted, SetupProfile};
use crabtree_protocol::{Role, Scope, Scopes};
use std::collections::BTreeMap;
use uuid::Uuid;

/// How long a code is good, in milliseconds.
pub const SETUP_TTL_MS: i64 = 600_000;
/// Codes that are kept, used ones among them; beyond it the oldest is dropped.
const MAX_SETUPS: usize = 100;
/// How long one can ask whether a code was used, in milliseconds.
const MEMORY_MS: i64 = 86_400_000;

/// What an operator is given for a code that is not for administrators.
const LIMITED: [Scope; 5] =
    [Scope::Approvals, Scope::Questions, Scope::Read, Scope::TalkSecrets, Scope::Write];

/// The scopes of the operator that a code makes; `None` if it makes none.
pub(super) fn operator_scopes(access: SetupProfile) -> Option<Scopes> {
    match access {
        SetupProfile::Node => None,
        SetupProfile::Limited => Some(Scopes::of(&LIMITED)),
        SetupProfile::Full => {
            let all: Vec<Scope> = [Scope::Admin].into_iter().chain(LIMITED).collect();
            Some(Scopes::of(&all))
        }
    }
}

/// See the module.
pub(super) struct Setups {
    key: [u8; 32],
    rows: BTreeMap<String, SetupRow>,
}

impl Setups {
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, rows: BTreeMap::new() }
    }

    pub fn load(&mut self, rows: Vec<SetupRow>) {
        self.rows = rows.into_iter().map(|row| (row.setup_id.clone(), row)).collect();
    }

    /// A new code: its row and its token, and the ids of those that were dropped.
    pub fn issue(&mut self, access: SetupProfile, now: i64) -> (SetupRow, String, Vec<String>) {
        let mut dropped: Vec<String> =
            self.rows.values().filter(|row| is_forgotten(row, now)).map(|row| row.setup_id.clone()).collect();
        dropped.iter().for_each(|id| drop(self.rows.remove(id)));
        while self.rows.len() >= MAX_SETUPS {
            let oldest = self.rows.values().min_by_key(|row| row.created_at).map(|row| row.setup_id.clone());
            dropped.extend(oldest.inspect(|id| drop(self.rows.remove(id))));
        }
        let bytes = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        // Not the random bytes themselves: six bits of each half are always the same.
        let token = BASE64_URL_SAFE_NO_PAD.encode(blake3::keyed_hash(&self.key, &bytes).as_bytes());
        let row = SetupRow {
            setup_id: Uuid::new_v4().to_string(),
            token_hash: self.hash(&token),
            access: access.name().to_owned(),
            created_at: now,
            expires_at: now + SETUP_TTL_MS,
            ..SetupRow::default()
        };
        self.rows.insert(row.setup_id.clone(), row.clone());
        (row, token, dropped)
    }

    /// The code with this token, if it is good for this device in this role. From then on it is good for no other
    /// device, whatever becomes of this one.
    pub fn present(
        &mut self,
        token: &str,
        device_id: &str,
        role: Role,
        scopes: &Scopes,
        now: i64,
    ) -> Option<(String, SetupProfile)> {
        let hash = self.hash(token);
        let row = self.rows.values_mut().find(|row| row.token_hash == hash)?;
        let access = SetupProfile::from_name(&row.access)?;
        let allowed = match role {
            Role::Node => scopes.is_empty(),
            Role::Operator => operator_scopes(access).is_some_and(|all| scopes.is_subset_of(&all)),
        };
        let mine = row.device_id.as_deref().is_none_or(|bound| bound == device_id);
        if !allowed || !mine || row.completed_at.is_some() || row.expires_at <= now {
            return None;
        }
        row.device_id = Some(device_id.to_owned());
        Some((row.setup_id.clone(), access))
    }

    /// The device was paired: the code is used up.
    pub fn complete(&mut self, setup_id: &str, name: Option<String>, now: i64) -> Option<SetupCompleted> {
        let row = self.rows.get_mut(setup_id)?;
        row.completed_at = Some(now);
        row.device_name = name;
        completion(row)
    }

    /// What became of a code, if it was used.
    pub fn completion(&self, setup_id: &str) -> Option<SetupCompleted> {
        completion(self.rows.get(setup_id)?)
    }

    /// Drops the unused codes that a device has shown; returns their ids.
    pub fn revoke(&mut self, device_id: &str) -> Vec<String> {
        let theirs =
            |row: &&SetupRow| row.device_id.as_deref() == Some(device_id) && row.completed_at.is_none();
        let ids: Vec<String> = self.rows.values().filter(theirs).map(|row| row.setup_id.clone()).collect();
        ids.iter().for_each(|id| drop(self.rows.remove(id)));
        ids
    }

    /// A code as it is to be stored.
    pub fn row(&self, setup_id: &str) -> WriteOp {
        match self.rows.get(setup_id) {
            Some(row) => WriteOp::PutSetup(row.clone()),
            None => WriteOp::RemoveSetup { setup_id: setup_id.to_owned() },
        }
    }

    fn hash(&self, token: &str) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(b"setup-token").update(token.as_bytes()).finalize().to_hex().to_string()
    }
}

fn is_forgotten(row: &SetupRow, now: i64) -> bool {
    match row.completed_at {
        Some(at) => now - at > MEMORY_MS,
        None => row.expires_at <= now,
    }
}

fn completion(row: &SetupRow) -> Option<SetupCompleted> {
    Some(SetupCompleted {
        setup_id: row.setup_id.clone(),
        device_id: row.device_id.clone()?,
        access: SetupProfile::from_name(&row.access)?,
        ts: row.completed_at?,
        device_name: row.device_name.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(setups: &mut Setups, token: &str, device: &str, now: i64) -> bool {
        setups.present(token, device, Role::Node, &Scopes::none(), now).is_some()
    }

    #[test]
    fn a_code_is_good_for_the_first_device_that_shows_it_until_it_is_paired() {
        let mut setups = Setups::new([1; 32]);
        let (row, token, _) = setups.issue(SetupProfile::Limited, 0);
        assert!(!node(&mut setups, "another", "a", 1));
        assert!(node(&mut setups, &token, "a", 1) && node(&mut setups, &token, "a", 2));
        assert!(!node(&mut setups, &token, "b", 2));
        assert_eq!(setups.completion(&row.setup_id), None);
        let done = setups.complete(&row.setup_id, Some("A".into()), 3).unwrap();
        assert_eq!(setups.completion(&row.setup_id), Some(done));
        assert!(!node(&mut setups, &token, "a", 4), "it is used up");
    }

    #[test]
    fn a_code_ends_after_ten_minutes() {
        let mut setups = Setups::new([1; 32]);
        let (_, token, _) = setups.issue(SetupProfile::Node, 0);
        assert!(node(&mut setups, &token, "a", SETUP_TTL_MS - 1));
        assert!(!node(&mut setups, &token, "a", SETUP_TTL_MS));
    }

    #[test]
    fn a_code_allows_no_more_than_its_profile() {
        let mut setups = Setups::new([1; 32]);
        let tokens: Vec<String> = [SetupProfile::Node, SetupProfile::Limited, SetupProfile::Full]
            .into_iter()
            .map(|access| setups.issue(access, 0).1)
            .collect();
        let mut good = |scopes: &[Scope]| {
            let mut good =
                |token: &String| setups.present(token, "a", Role::Operator, &Scopes::of(scopes), 1).is_some();
            tokens.iter().map(&mut good).collect::<Vec<_>>()
        };
        assert_eq!(good(&[Scope::Read]), [false, true, true]);
        assert_eq!(good(&[Scope::Pairing]), [false, false, true]);
        assert_eq!(good(&[Scope::Admin]), [false, false, true]);
        let greedy = setups.present(&tokens[0], "a", Role::Node, &Scopes::of(&[Scope::Read]), 1);
        assert!(greedy.is_none());
    }

    #[test]
    fn the_token_is_not_kept() {
        let mut setups = Setups::new([1; 32]);
        let (row, token, _) = setups.issue(SetupProfile::Limited, 0);
        assert!(token.len() == 43 && row.token_hash != token);
        let WriteOp::PutSetup(stored) = setups.row(&row.setup_id) else { panic!("it is stored") };
        assert!(!serde_json::to_string(&stored).unwrap().contains(&token));
        let mut reborn = Setups::new([1; 32]);
        reborn.load(vec![stored]);
        assert!(node(&mut reborn, &token, "a", 1));
        assert_eq!(reborn.revoke("a"), std::slice::from_ref(&row.setup_id));
        assert!(matches!(reborn.row(&row.setup_id), WriteOp::RemoveSetup { .. }));
        assert!(!node(&mut reborn, &token, "a", 2));
    }

    #[test]
    fn codes_are_bounded_and_what_is_over_is_dropped() {
        let mut setups = Setups::new([1; 32]);
        let (first, ..) = setups.issue(SetupProfile::Limited, 0);
        for n in 1..MAX_SETUPS as i64 {
            assert!(setups.issue(SetupProfile::Limited, n).2.is_empty());
        }
        assert_eq!(setups.issue(SetupProfile::Limited, 500).2, [first.setup_id]);
        assert_eq!(setups.rows.len(), MAX_SETUPS);
        let (_, _, dropped) = setups.issue(SetupProfile::Limited, 500 + SETUP_TTL_MS);
        assert_eq!((dropped.len(), setups.rows.len()), (MAX_SETUPS, 1));
    }
}
