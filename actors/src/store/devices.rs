//! Paired devices, what is known of their tokens, setup codes, and gateway metadata: small tables read as a whole.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::db::StoreError;
use super::rows::{DeviceRow, SetupRow, TokenRow, WriteReply};
use super::transcript;
use std::collections::HashMap;

pub(super) fn put_device(conn: &Connection, row: &DeviceRow) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "INSERT INTO devices (device_id, public_key, display_name, platform, device_family, client_id, client_mode,
             roles, scopes, approved_via, created_at, approved_at, last_seen_at, last_seen_reason, remote_ip, label)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
         ON CONFLICT (device_id) DO UPDATE SET public_key = excluded.public_key,
             display_name = excluded.display_name, platform = excluded.platform,
             device_family = excluded.device_family, client_id = excluded.client_id,
             client_mode = excluded.client_mode, roles = excluded.roles, scopes = excluded.scopes,
             approved_via = excluded.approved_via, created_at = excluded.created_at,
             approved_at = excluded.approved_at, remote_ip = excluded.remote_ip, label = excluded.label,
             last_seen_reason = iif(coalesce(excluded.last_seen_at, 0) >= coalesce(last_seen_at, 0),
                 excluded.last_seen_reason, last_seen_reason),
             last_seen_at = coalesce(max(excluded.last_seen_at, last_seen_at), excluded.last_seen_at, last_seen_at)",
    )?
    .execute(params![
        row.device_id,
        row.public_key,
        row.display_name,
        row.platform,
        row.device_family,
        row.client_id,
        row.client_mode,
        Value::from(row.roles.clone()).to_string(),
        Value::from(row.scopes.clone()).to_string(),
        row.approved_via,
        row.created_at,
        row.approved_at,
        row.last_seen_at,
        row.last_seen_reason,
        row.remote_ip,
        row.label
    ])?;
    Ok(WriteReply::Done)
}

pub(super) fn see(
    conn: &Connection,
    device_id: &str,
    role: &str,
    at: i64,
    reason: Option<&str>,
) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "UPDATE devices SET last_seen_at = ?2, last_seen_reason = ?3
         WHERE device_id = ?1 AND coalesce(last_seen_at, ?2) <= ?2",
    )?
    .execute(params![device_id, at, reason])?;
    conn.prepare_cached(
        "UPDATE tokens SET last_used_at = ?3
         WHERE device_id = ?1 AND role = ?2 AND coalesce(last_used_at, ?3) <= ?3",
    )?
    .execute(params![device_id, role, at])?;
    Ok(WriteReply::Done)
}

pub(super) fn put_token(conn: &Connection, row: &TokenRow) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "INSERT INTO tokens (device_id, role, scopes, rotation, created_at, rotated_at, last_used_at, revoked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (device_id, role) DO UPDATE SET scopes = excluded.scopes, rotation = excluded.rotation,
             created_at = excluded.created_at, rotated_at = excluded.rotated_at,
             last_used_at = excluded.last_used_at, revoked_at = excluded.revoked_at
         WHERE excluded.rotation >= rotation",
    )?
    .execute(params![
        row.device_id,
        row.role,
        Value::from(row.scopes.clone()).to_string(),
        row.rotation,
        row.created_at,
        row.rotated_at,
        row.last_used_at,
        row.revoked_at
    ])?;
    Ok(WriteReply::Done)
}

pub(super) fn remove(conn: &Connection, device_id: &str) -> Result<WriteReply, StoreError> {
    conn.prepare_cached("DELETE FROM devices WHERE device_id = ?1")?.execute([device_id])?;
    Ok(WriteReply::Done)
}

pub(super) fn put_setup(conn: &Connection, row: &SetupRow) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO setups (setup_id, token_hash, access, created_at, expires_at, device_id, device_name,
             completed_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        row.setup_id,
        row.token_hash,
        row.access,
        row.created_at,
        row.expires_at,
        row.device_id,
        row.device_name,
        row.completed_at
    ])?;
    Ok(WriteReply::Done)
}

pub(super) fn remove_setup(conn: &Connection, setup_id: &str) -> Result<WriteReply, StoreError> {
    conn.prepare_cached("DELETE FROM setups WHERE setup_id = ?1")?.execute([setup_id])?;
    Ok(WriteReply::Done)
}

pub(super) fn put_meta(conn: &Connection, key: &str, value: &str) -> Result<WriteReply, StoreError> {
    conn.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?.execute([key, value])?;
    Ok(WriteReply::Done)
}

/// All paired devices, by device id.
///
/// # Errors
/// What SQLite says.
pub fn devices(conn: &Connection) -> Result<Vec<DeviceRow>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT device_id, public_key, display_name, platform, device_family, client_id, client_mode, roles, scopes,
             approved_via, created_at, approved_at, last_seen_at, last_seen_reason, remote_ip, label
         FROM devices ORDER BY device_id",
    )?;
    let device = |row: &Row<'_>| {
        Ok(DeviceRow {
            device_id: row.get(0)?,
            public_key: row.get(1)?,
            display_name: row.get(2)?,
            platform: row.get(3)?,
            device_family: row.get(4)?,
            client_id: row.get(5)?,
            client_mode: row.get(6)?,
            roles: transcript::json(row, 7)?,
            scopes: transcript::json(row, 8)?,
            approved_via: row.get(9)?,
            created_at: row.get(10)?,
            approved_at: row.get(11)?,
            last_seen_at: row.get(12)?,
            last_seen_reason: row.get(13)?,
            remote_ip: row.get(14)?,
            label: row.get(15)?,
        })
    };
    Ok(statement.query_map([], device)?.collect::<Result<_, _>>()?)
}

/// All token rows, by device id and role.
///
/// # Errors
/// What SQLite says.
pub fn tokens(conn: &Connection) -> Result<Vec<TokenRow>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT device_id, role, scopes, rotation, created_at, rotated_at, last_used_at, revoked_at
         FROM tokens ORDER BY device_id, role",
    )?;
    let token = |row: &Row<'_>| {
        Ok(TokenRow {
            device_id: row.get(0)?,
            role: row.get(1)?,
            scopes: transcript::json(row, 2)?,
            rotation: row.get(3)?,
            created_at: row.get(4)?,
            rotated_at: row.get(5)?,
            last_used_at: row.get(6)?,
            revoked_at: row.get(7)?,
        })
    };
    Ok(statement.query_map([], token)?.collect::<Result<_, _>>()?)
}

/// All setup codes, the oldest first.
///
/// # Errors
/// What SQLite says.
pub fn setups(conn: &Connection) -> Result<Vec<SetupRow>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT setup_id, token_hash, access, created_at, expires_at, device_id, device_name, completed_at
         FROM setups ORDER BY created_at, setup_id",
    )?;
    let setup = |row: &Row<'_>| {
        Ok(SetupRow {
            setup_id: row.get(0)?,
            token_hash: row.get(1)?,
            access: row.get(2)?,
            created_at: row.get(3)?,
            expires_at: row.get(4)?,
            device_id: row.get(5)?,
            device_name: row.get(6)?,
            completed_at: row.get(7)?,
        })
    };
    Ok(statement.query_map([], setup)?.collect::<Result<_, _>>()?)
}

/// One value of gateway metadata.
///
/// # Errors
/// What SQLite says.
pub fn meta(conn: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
}

/// The values of gateway metadata whose names begin like this, by name.
///
/// # Errors
/// What SQLite says.
pub fn meta_like(conn: &Connection, prefix: &str) -> Result<HashMap<String, String>, StoreError> {
    let mut statement =
        conn.prepare_cached("SELECT key, value FROM meta WHERE substr(key, 1, length(?1)) = ?1")?;
    Ok(statement.query_map([prefix], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::db::Db;
    use super::super::rows::WriteOp;
    use super::*;

    fn done(db: &Db, op: WriteOp) {
        for _ in 0..2 {
            assert_eq!(db.apply_batch(std::slice::from_ref(&op), &|_| {}).unwrap(), [Ok(WriteReply::Done)]);
        }
    }

    fn phone() -> DeviceRow {
        let (roles, scopes) =
            (vec!["operator".into()], vec!["operator.read".into(), "operator.write".into()]);
        DeviceRow { device_id: "d1".into(), public_key: "pk".into(), roles, scopes, ..DeviceRow::default() }
    }

    #[test]
    fn devices_are_put_seen_and_removed_with_their_tokens() {
        let db = Db::memory().unwrap();
        done(&db, WriteOp::PutDevice(phone()));
        let see = |device_id: &str, at, reason: Option<&str>| WriteOp::SeeDevice {
            device_id: device_id.into(),
            role: "operator".into(),
            at,
            reason: reason.map(Into::into),
        };
        done(&db, see("d1", 9, Some("connect")));
        done(&db, see("d1", 4, Some("late")));
        done(&db, see("nobody", 4, None));
        let seen = DeviceRow { last_seen_at: Some(9), last_seen_reason: Some("connect".into()), ..phone() };
        assert_eq!(db.read(devices).unwrap(), std::slice::from_ref(&seen));
        let named = |row| DeviceRow { platform: Some("linux".into()), label: Some("Mine".into()), ..row };
        done(&db, WriteOp::PutDevice(named(phone())));
        assert_eq!(db.read(devices).unwrap(), [named(seen)]);

        let token =
            TokenRow { device_id: "d1".into(), role: "operator".into(), rotation: 2, ..TokenRow::default() };
        done(&db, WriteOp::PutToken(token.clone()));
        done(&db, WriteOp::PutToken(TokenRow { rotation: 1, revoked_at: Some(1), ..token.clone() }));
        assert_eq!(db.read(tokens).unwrap(), std::slice::from_ref(&token));
        done(&db, see("d1", 12, None));
        done(&db, see("d1", 11, None));
        assert_eq!(db.read(tokens).unwrap(), [TokenRow { last_used_at: Some(12), ..token.clone() }]);
        let stray = WriteOp::PutToken(TokenRow { device_id: "nobody".into(), ..token });
        assert_eq!(db.apply_batch(&[stray], &|_| {}).unwrap(), [Err(StoreError::NotFound)]);
        done(&db, WriteOp::RemoveDevice { device_id: "d1".into() });
        assert_eq!(db.read(|c| Ok((devices(c)?.len(), tokens(c)?.len()))).unwrap(), (0, 0));
    }

    #[test]
    fn setup_codes_are_put_and_removed() {
        let db = Db::memory().unwrap();
        let row = |id: &str| SetupRow { setup_id: id.into(), token_hash: id.into(), ..SetupRow::default() };
        done(&db, WriteOp::PutSetup(row("a")));
        done(&db, WriteOp::PutSetup(row("b")));
        let used = SetupRow { device_id: Some("d".into()), completed_at: Some(3), ..row("a") };
        done(&db, WriteOp::PutSetup(used.clone()));
        done(&db, WriteOp::RemoveSetup { setup_id: "b".into() });
        assert_eq!(db.read(setups).unwrap(), [used]);
    }

    #[test]
    fn meta_is_replaced() {
        let db = Db::memory().unwrap();
        assert_eq!(db.read(|c| meta(c, "k")).unwrap(), None);
        done(&db, WriteOp::PutMeta { key: "k".into(), value: "1".into() });
        done(&db, WriteOp::PutMeta { key: "k".into(), value: "2".into() });
        assert_eq!(db.read(|c| meta(c, "k")).unwrap().as_deref(), Some("2"));
    }
}
