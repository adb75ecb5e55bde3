//! What a channel's platform can do: what its driver says when it connects, less what the configuration leaves out.

use super::settings::unit;
use crate::channels::contract::{Capabilities, EditLimit, Unit};
use crabtree_protocol::driver::Offers;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The longest text of a message that may be configured, or offered: in JSON it fits a frame, whatever is in it.
pub(super) const MAX_TEXT: usize = 65_536;
/// The longest text where neither the driver nor the configuration says it.
const TEXT: usize = 4000;
/// How long nothing may be heard of an account until it counts as stuck: two heartbeats are missed before.
const SILENCE: Duration = Duration::from_secs(180);

/// How often a driver is told that somebody writes: platforms show it for about that long.
const TYPING: Duration = Duration::from_secs(5);

/// `channels.<name>.driver.capabilities`: what of its driver's abilities is used. What is absent is as the driver says.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Claims {
    pub text_limit: Option<usize>,
    unit: Option<crabtree_protocol::driver::Unit>,
    idempotent: Option<bool>,
    /// 0: messages are not changed.
    edits_every_ms: Option<u64>,
    typing: Option<bool>,
    buttons: Option<bool>,
    reactions: Option<bool>,
    files: Option<bool>,
}

impl Claims {
    /// What can be done with a driver that offers this; or what is claimed that it cannot do.
    pub fn met_by(&self, offers: &Offers) -> Result<Capabilities, String> {
        let (ours, theirs) = (self.unit, offers.unit);
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != theirs
        {
            let theirs = format!("{theirs:?}").to_lowercase();
            return Err(format!("unit has to be {theirs} as the driver counts"));
        }
        if let (Some(ours), Some(theirs)) = (self.text_limit, offers.text_limit)
            && ours > theirs
        {
            return Err(format!("textLimit is {ours}, and the driver takes {theirs} at most"));
        }
        let claimed_edits = self.edits_every_ms.map(|ms| ms > 0);
        for (name, claimed, offered) in [
            ("idempotent", self.idempotent, offers.idempotent),
            ("editsEveryMs", claimed_edits, offers.edits_every_ms.is_some()),
            ("typing", self.typing, offers.typing),
            ("buttons", self.buttons, offers.buttons),
            ("reactions", self.reactions, offers.reactions),
            ("files", self.files, offers.files),
        ] {
            if claimed == Some(true) && !offered {
                return Err(format!("{name} is set, and the driver cannot do that"));
            }
        }
        // The longer of the two waits.
        let edits = offers.edits_every_ms.filter(|_| claimed_edits != Some(false));
        let edits = edits.map(|theirs| theirs.max(self.edits_every_ms.unwrap_or_default()));
        Ok(Capabilities {
            text_limit: self.text_limit.or(offers.text_limit).unwrap_or(TEXT).clamp(1, MAX_TEXT),
            unit: ours.or(theirs).map_or(Unit::Chars, unit),
            idempotent: self.idempotent.unwrap_or(offers.idempotent),
            edits: edits.map(edits_every),
            typing: self.typing.unwrap_or(offers.typing).then_some(TYPING),
            buttons: self.buttons.unwrap_or(offers.buttons),
            reactions: self.reactions.unwrap_or(offers.reactions),
            files: self.files.unwrap_or(offers.files),
            silence: SILENCE,
            ..Capabilities::texts(TEXT)
        })
    }

    /// What is counted on before a driver has said anything: what is claimed.
    fn alone(&self) -> Capabilities {
        let is = |claimed: Option<bool>| claimed == Some(true);
        let edits = self.edits_every_ms.filter(|ms| *ms > 0);
        Capabilities {
            unit: self.unit.map_or(Unit::Chars, unit),
            idempotent: is(self.idempotent),
            edits: edits.map(edits_every),
            typing: is(self.typing).then_some(TYPING),
            buttons: is(self.buttons),
            reactions: is(self.reactions),
            files: is(self.files),
            silence: SILENCE,
            ..Capabilities::texts(self.text_limit.unwrap_or(TEXT))
        }
    }

    /// What can be done at all accounts of a channel.
    pub fn at_all(&self, channel: &str, told: &Told) -> Capabilities {
        let told = told.0.lock();
        let own = told.iter().filter(|(id, _)| id.split_once('/').is_some_and(|(name, _)| name == channel));
        // One of which too much is claimed is not in.
        let met = own.filter_map(|(_, offers)| self.met_by(offers).ok());
        met.reduce(least).unwrap_or_else(|| self.alone())
    }
}

/// What drivers have said that they can, by the account's name for drivers. Cheap to copy.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(Arc<Mutex<BTreeMap<String, Offers>>>);

impl Told {
    /// The driver of an account has said this.
    pub fn note(&self, client_id: &str, offers: Offers) {
        self.0.lock().insert(client_id.to_owned(), offers);
    }
}

fn edits_every(ms: u64) -> EditLimit {
    let every = Duration::from_millis(ms);
    EditLimit { every, in_groups: every, drafts: false }
}

/// What both can. A text has no fewer bytes than UTF-16 code units, and no fewer of those than characters.
fn least(one: Capabilities, other: Capabilities) -> Capabilities {
    let strict = |unit: Unit| [Unit::Bytes, Unit::Utf16, Unit::Chars].into_iter().position(|u| u == unit);
    Capabilities {
        text_limit: one.text_limit.min(other.text_limit),
        unit: if strict(one.unit) <= strict(other.unit) { one.unit } else { other.unit },
        idempotent: one.idempotent && other.idempotent,
        edits: one
            .edits
            .zip(other.edits)
            .map(|(one, other)| if one.every < other.every { other } else { one }),
        typing: one.typing.and(other.typing),
        buttons: one.buttons && other.buttons,
        reactions: one.reactions && other.reactions,
        files: one.files && other.files,
        silence: SILENCE,
        ..Capabilities::texts(TEXT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claims(claims: Value) -> Claims {
        serde_json::from_value(claims).unwrap()
    }

    fn offers(offers: Value) -> Offers {
        serde_json::from_value(offers).unwrap()
    }

    #[test]
    fn what_the_driver_says_is_so_unless_the_configuration_leaves_it_out() {
        let all = offers(json!({
            "text_limit": 160, "unit": "bytes", "typing": true, "files": true, "reactions": true, "edits_every_ms": 900,
        }));
        let can = Claims::default().met_by(&all).unwrap();
        assert_eq!((can.text_limit, can.unit, can.typing, can.files), (160, Unit::Bytes, Some(TYPING), true));
        assert_eq!(can.edits, Some(edits_every(900)));
        assert!(!can.buttons && !can.idempotent);
        let less =
            claims(json!({ "textLimit": 100, "typing": false, "editsEveryMs": 0 })).met_by(&all).unwrap();
        assert_eq!((less.text_limit, less.typing, less.files, less.edits), (100, None, true, None));
        let slower = claims(json!({ "editsEveryMs": 2_000 })).met_by(&all).unwrap();
        assert_eq!(slower.edits, Some(edits_every(2_000)));
        let silent = Claims::default().met_by(&Offers::default()).unwrap();
        assert_eq!(silent, Capabilities { silence: SILENCE, ..Capabilities::texts(TEXT) });
    }

    #[test]
    fn a_channel_can_what_all_its_accounts_can() {
        let told = Told::default();
        let claims = claims(json!({ "typing": true }));
        assert!(
            claims.at_all("board", &told).typing.is_some(),
            "as configured, until a driver has said something"
        );
        told.note(
            "board/a",
            offers(json!({ "text_limit": 160, "unit": "chars", "typing": true, "files": true })),
        );
        told.note("other/a", offers(json!({ "text_limit": 5 })));
        let one = claims.at_all("board", &told);
        assert_eq!((one.text_limit, one.files), (160, true));
        told.note("board/b", offers(json!({ "text_limit": 90, "unit": "utf16", "typing": true })));
        let both = claims.at_all("board", &told);
        assert_eq!(
            (both.text_limit, both.unit, both.typing, both.files),
            (90, Unit::Utf16, Some(TYPING), false)
        );
    }
}
