//! Device tokens that another gateway gave out, and that are good here until they are rotated: of each a keyed hash is
//! kept, so that a device that comes over needs no pairing. It is given one of ours with its first hello.

use super::book::Book;
use crate::origin::is_browser;
use crate::store::{DeviceRow, TokenRow, WriteOp};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use crabtree_protocol::{ClientId, ClientMode, Role};
use subtle::ConstantTimeEq;

/// What the names of their hashes begin with in the store's metadata.
pub const IMPORTED_TOKEN: &str = "imported-token:";

/// Has the store keep a token that another gateway gave out; `key` is this gateway's, `generation` names its shared
/// secret ([`crate::handshake::generation`]).
pub fn import_token(
    key: &[u8; 32],
    generation: &str,
    device: &DeviceRow,
    row: &TokenRow,
    token: &str,
) -> WriteOp {
    let value = hash(key, bound_to(Some(device), &row.role, generation), row, token);
    WriteOp::PutMeta { key: name(&row.device_id, &row.role), value }
}

fn name(device_id: &str, role: &str) -> String {
    format!("{IMPORTED_TOKEN}{device_id}:{role}")
}

/// The shared secret that a token dies with: of browsers' only.
pub(super) fn bound_to<'a>(device: Option<&DeviceRow>, role: &str, generation: &'a str) -> &'a str {
    let client = device.and_then(|d| ClientId::from_name(d.client_id.as_deref()?));
    let mode = device.and_then(|d| ClientMode::from_name(d.client_mode.as_deref()?));
    let browser = client.zip(mode).is_some_and(|(client, mode)| is_browser(client, mode));
    if browser && role == Role::Operator.name() { generation } else { "" }
}

/// Of a rotation, so that it is worth nothing after the next one.
fn hash(key: &[u8; 32], bound: &str, row: &TokenRow, token: &str) -> String {
    let mut hasher = blake3::Hasher::new_keyed(key);
    let rotation = row.rotation.to_string();
    for part in ["imported-token", &row.device_id, &row.role, &rotation, bound, token] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    BASE64_URL_SAFE_NO_PAD.encode(hasher.finalize().as_bytes())
}

impl Book {
    /// Whether this is the token that another gateway gave the device in this token's place.
    pub fn is_imported(&self, row: &TokenRow, token: &str) -> bool {
        let Some(known) = self.imported.get(&name(&row.device_id, &row.role)) else { return false };
        let device = self.devices.get(&row.device_id);
        let given = hash(&self.key, bound_to(device, &row.role, &self.generation), row, token);
        known.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(device: &DeviceRow, row: &TokenRow, token: &str) -> Book {
        let mut book = Book::new([7; 32], "secret".into());
        let WriteOp::PutMeta { key, value } = import_token(&[7; 32], "secret", device, row, token) else {
            panic!("it is metadata")
        };
        assert!(!value.contains(token));
        book.imported.insert(key, value);
        book.load(vec![device.clone()], vec![row.clone()], vec![]);
        book
    }

    #[test]
    fn a_token_of_another_gateway_is_good_until_the_next_rotation() {
        let device =
            DeviceRow { device_id: "d".into(), roles: vec!["operator".into()], ..Default::default() };
        let row =
            TokenRow { device_id: "d".into(), role: "operator".into(), rotation: 9, ..Default::default() };
        let mut book = book(&device, &row, "old-token");
        assert!(book.is_imported(&row, "old-token"));
        assert!(!book.is_imported(&row, "another"));
        let node = TokenRow { role: "node".into(), ..row.clone() };
        assert!(!book.is_imported(&node, "old-token"), "it is for one role");
        book.generation = "changed".into();
        assert!(book.is_imported(&row, "old-token"), "it is no browser's");
        let next = book.renew("d", Role::Operator, &[], 10);
        assert!(!book.is_imported(&next, "old-token"));
    }

    #[test]
    fn a_browsers_token_dies_with_the_shared_secret() {
        let device = DeviceRow {
            device_id: "d".into(),
            client_id: Some("openclaw-control-ui".into()),
            client_mode: Some("webchat".into()),
            ..Default::default()
        };
        let row = TokenRow { device_id: "d".into(), role: "operator".into(), ..Default::default() };
        let mut book = book(&device, &row, "old-token");
        assert!(book.is_imported(&row, "old-token"));
        book.generation = "changed".into();
        assert!(!book.is_imported(&row, "old-token"));
    }
}
