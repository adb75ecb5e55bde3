//! `/approve` on channels, typed or by a button: who may decide does so, anybody else is told that they may not. It is no
//! message to an agent, whoever says it.

use super::access::{Verdict, names};
use super::contract::{Envelope, Sender};
use super::ingress::Desk;
use super::roster::AccountName;
use crate::approvals::By;
use crate::approvals::words::{self, Words};
use crate::settings::{ChannelSettings, Ids, Settings};
use crate::store::WriteOp;
use crabtree_protocol::params::approvals::Resolver;

/// Who may decide at an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approvers {
    /// These.
    pub ids: Ids,
    /// And those whom an operator has let in.
    pub paired: bool,
}

/// Those that `execApprovals.approvers` names; else `commands.ownerAllowFrom`; else who owns the assistant here.
pub fn approvers(settings: &Settings, name: &AccountName, own: &ChannelSettings) -> Approvers {
    let here = |id: &String| match id.split_once(':') {
        None => true,
        Some((channel, _)) => channel == name.channel || (channel == "tg" && name.channel == "telegram"),
    };
    let of_gateway = settings.commands.owner_allow_from.0.iter().filter(|id| here(id)).cloned();
    let known = own.allow_from.0.iter().filter(|id| *id != "*").cloned();
    let lists = [own.exec_approvals.approvers.0.clone(), of_gateway.collect()];
    match lists.into_iter().find(|ids| !ids.is_empty()) {
        Some(ids) => Approvers { ids: Ids(ids), paired: false },
        None => Approvers { ids: Ids(known.collect()), paired: true },
    }
}

impl Desk {
    /// Takes in what decides on an approval.
    ///
    /// # Errors
    /// The store cannot be asked: it has to come again.
    pub(super) async fn approve(&self, envelope: &Envelope, words: Words) -> Result<(), String> {
        let config = self.wiring.store.estate.config.load_full();
        let who = approvers(&config.settings, &self.name, &self.settings);
        let verdict = self.verdict(envelope).await?;
        let paired = who.paired && self.is_paired(&envelope.from.id).await?;
        if !envelope.from.is_bot && (paired || names(&who.ids, &envelope.from)) {
            let decided = words::decide(&self.wiring, words, by(&self.name, &envelope.from)).await;
            return match decided {
                // The message with the buttons tells it.
                Ok(decided) if decided.is_told_at(&self.name, &envelope.at) => Ok(()),
                Ok(decided) => self.tell(envelope, &decided.text).await,
                Err(why) => self.tell(envelope, &format!("⚠️ {why}")).await,
            };
        }
        match verdict {
            Verdict::Heard { .. } => {
                self.tell(envelope, "⚠️ You may not decide on this: execApprovals.approvers names who may.")
                    .await
            }
            Verdict::Pair | Verdict::Ignored(_) => Ok(()),
        }
    }

    async fn is_paired(&self, id: &str) -> Result<bool, String> {
        Ok(self.contact(id).await?.is_some_and(|contact| contact.approved_at.is_some()))
    }

    async fn tell(&self, envelope: &Envelope, text: &str) -> Result<(), String> {
        let rows = self.answer(envelope, "approve").rows(text, self.now());
        self.write(WriteOp::Deliver(rows)).await?;
        self.poke();
        Ok(())
    }
}

fn by(name: &AccountName, who: &Sender) -> By {
    let label = who.name.clone().or(who.username.clone()).unwrap_or_else(|| who.id.clone());
    let id = format!("{}:{}", name.channel, who.id);
    By { label: format!("{label} ({id})"), resolver: Resolver { kind: "channel".into(), id: Some(id) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn who(settings: Value, own: Value) -> (Vec<String>, bool) {
        let name = AccountName { channel: "telegram".into(), account: "default".into() };
        let settings: Settings = serde_json::from_value(settings).unwrap();
        let found = approvers(&settings, &name, &serde_json::from_value(own).unwrap());
        (found.ids.0, found.paired)
    }

    #[test]
    fn the_most_particular_list_says_who_may_decide() {
        let own = json!({ "allowFrom": ["7", "*"], "execApprovals": { "approvers": [42] } });
        let owners = json!({ "commands": { "ownerAllowFrom": ["telegram:9", "discord:8"] } });
        assert_eq!(who(owners.clone(), own), (vec!["42".into()], false));
        assert_eq!(who(owners, json!({ "allowFrom": ["7"] })), (vec!["telegram:9".into()], false));
        let elsewhere = json!({ "commands": { "ownerAllowFrom": ["discord:8"] } });
        assert_eq!(who(elsewhere, json!({ "allowFrom": ["7", "*"] })), (vec!["7".into()], true));
    }
}
