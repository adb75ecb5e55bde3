//! Paired devices, what is known of their tokens, and gateway metadata: small tables read as a whole.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::db::StoreError;
use super::rows::{DeviceRow, TokenRow, WriteReply};
use super::transcript;

pub(super) fn put_device(conn: &Connection, row: &DeviceRow) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "INSERT INTO devices (device_id, public_key, display_name, platform, device_family, client_id, client_mode,
             roles, scopes, approved_via, created_at, approved_at, last_seen_at, last_seen_reason, remote_ip)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT (device_id) DO UPDATE SET public_key = excluded.public_key,
             display_name = excluded.display_name, platform = excluded.platform,
             device_family = excluded.device_family, client_id = excluded.client_id,
             client_mode = excluded.client_mode, roles = excluded.roles, scopes = excluded.scopes,
             approved_via = excluded.approved_via, created_at = excluded.created_at,
             approved_at = excluded.approved_at, remote_ip = excluded.remote_ip,
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
        row.remote_ip
    ])?;
    Ok(WriteReply::Done)
}

pub(super) fn see(
    conn: &Connection,
    device_id: &str,
    at: i64,
    reason: Option<&str>,
) -> Result<WriteReply, StoreError> {
    conn.prepare_cached(
        "UPDATE devices SET last_seen_at = ?2, last_seen_reason = ?3
         WHERE device_id = ?1 AND coalesce(last_seen_at, ?2) <= ?2",
    )?
    .execute(params![device_id, at, reason])?;
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
             approved_via, created_at, approved_at, last_seen_at, last_seen_reason, remote_ip
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

/// One value of gateway metadata.
///
/// # Errors
/// What SQLite says.
pub fn meta(conn: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
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
        done(&db, WriteOp::SeeDevice { device_id: "d1".into(), at: 9, reason: Some("connect".into()) });
        done(&db, WriteOp::SeeDevice { device_id: "d1".into(), at: 4, reason: Some("late".into()) });
        done(&db, WriteOp::SeeDevice { device_id: "nobody".into(), at: 4, reason: None });
        let seen = DeviceRow { last_seen_at: Some(9), last_seen_reason: Some("connect".into()), ..phone() };
        assert_eq!(db.read(devices).unwrap(), std::slice::from_ref(&seen));
        done(&db, WriteOp::PutDevice(DeviceRow { platform: Some("linux".into()), ..phone() }));
        assert_eq!(db.read(devices).unwrap(), [DeviceRow { platform: Some("linux".into()), ..seen }]);

        let token =
            TokenRow { device_id: "d1".into(), role: "operator".into(), rotation: 2, ..TokenRow::default() };
        done(&db, WriteOp::PutToken(token.clone()));
        done(&db, WriteOp::PutToken(TokenRow { rotation: 1, revoked_at: Some(1), ..token.clone() }));
        assert_eq!(db.read(tokens).unwrap(), std::slice::from_ref(&token));
        let stray = WriteOp::PutToken(TokenRow { device_id: "nobody".into(), ..token });
        assert_eq!(db.apply_batch(&[stray], &|_| {}).unwrap(), [Err(StoreError::NotFound)]);
        done(&db, WriteOp::RemoveDevice { device_id: "d1".into() });
        assert_eq!(db.read(|c| Ok((devices(c)?.len(), tokens(c)?.len()))).unwrap(), (0, 0));
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
