//! Nodes: what of them is approved, and what they ask for. Each belongs to a device.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::db::StoreError;
use super::rows::{NodeRow, WriteReply};
use super::transcript;

pub(super) fn put(conn: &Connection, row: &NodeRow) -> Result<WriteReply, StoreError> {
    let text = |value: &Option<Value>| value.as_ref().map(Value::to_string);
    let written = conn
        .prepare_cached(
            "INSERT INTO nodes (node_id, display_name, described, approved, request, host_stats, created_at,
                 approved_at, last_connected_at, last_seen_at, last_seen_reason)
             SELECT device_id, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12 FROM devices
                 WHERE device_id = ?1 AND created_at = ?2
             ON CONFLICT (node_id) DO UPDATE SET display_name = excluded.display_name,
                 described = excluded.described, approved = excluded.approved, request = excluded.request,
                 host_stats = excluded.host_stats, created_at = excluded.created_at,
                 approved_at = excluded.approved_at, last_connected_at = excluded.last_connected_at,
                 last_seen_at = excluded.last_seen_at, last_seen_reason = excluded.last_seen_reason",
        )?
        .execute(params![
            row.node_id,
            row.paired_at,
            row.display_name,
            row.described.to_string(),
            text(&row.approved),
            text(&row.request),
            text(&row.host_stats),
            row.created_at,
            row.approved_at,
            row.last_connected_at,
            row.last_seen_at,
            row.last_seen_reason
        ])?;
    if written == 0 { Err(StoreError::NotFound) } else { Ok(WriteReply::Done) }
}

/// The device is a node no more, and what was approved of it counts no more.
pub(super) fn remove(conn: &Connection, node_id: &str) -> Result<WriteReply, StoreError> {
    conn.prepare_cached("DELETE FROM nodes WHERE node_id = ?1")?.execute([node_id])?;
    Ok(WriteReply::Done)
}

pub(super) fn use_approval(
    conn: &Connection,
    kind: &str,
    id: &str,
    by: &str,
) -> Result<WriteReply, StoreError> {
    conn.prepare_cached("UPDATE approvals SET used_by = ?3 WHERE kind = ?1 AND id = ?2 AND used_by IS NULL")?
        .execute([kind, id, by])?;
    let user: Option<String> = conn
        .prepare_cached("SELECT used_by FROM approvals WHERE kind = ?1 AND id = ?2")?
        .query_row([kind, id], |row| row.get(0))?;
    if user.as_deref() == Some(by) {
        return Ok(WriteReply::Done);
    }
    Err(StoreError::Conflict { what: "the approval has been used".into() })
}

const QUERY: &str = "SELECT d.device_id, d.created_at, d.approved_at,
        coalesce(d.approved_via, '') = 'silent', n.display_name,
        coalesce(n.described, json_object('displayName', d.display_name, 'platform', d.platform, 'deviceFamily',
            d.device_family, 'clientId', d.client_id, 'clientMode', d.client_mode)),
        n.approved, n.request, n.host_stats, n.created_at, n.approved_at, n.last_connected_at,
        coalesce(n.last_seen_at, d.last_seen_at), coalesce(n.last_seen_reason, d.last_seen_reason)
    FROM devices d LEFT JOIN nodes n ON n.node_id = d.device_id
    WHERE EXISTS (SELECT 1 FROM json_each(d.roles) WHERE value = 'node')";

fn read(row: &Row<'_>) -> rusqlite::Result<NodeRow> {
    let optional = |at: usize| match row.get_ref(at)? {
        ValueRef::Null => Ok(None),
        _ => transcript::json(row, at).map(Some),
    };
    Ok(NodeRow {
        node_id: row.get(0)?,
        paired_at: row.get(1)?,
        device_approved_at: row.get(2)?,
        device_silent: row.get(3)?,
        display_name: row.get(4)?,
        described: transcript::json(row, 5)?,
        approved: optional(6)?,
        request: optional(7)?,
        host_stats: optional(8)?,
        created_at: row.get(9)?,
        approved_at: row.get(10)?,
        last_connected_at: row.get(11)?,
        last_seen_at: row.get(12)?,
        last_seen_reason: row.get(13)?,
    })
}

/// All devices that are nodes, by id.
///
/// # Errors
/// What SQLite says.
pub fn nodes(conn: &Connection) -> Result<Vec<NodeRow>, StoreError> {
    let query = format!("{QUERY} ORDER BY d.device_id");
    Ok(conn.prepare_cached(&query)?.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// One of them.
///
/// # Errors
/// What SQLite says.
pub fn node(conn: &Connection, node_id: &str) -> Result<Option<NodeRow>, StoreError> {
    let query = format!("{QUERY} AND d.device_id = ?1");
    Ok(conn.prepare_cached(&query)?.query_row([node_id], read).optional()?)
}

#[cfg(test)]
mod tests {
    use super::super::db::Db;
    use super::super::rows::{ApprovalRow, DeviceRow, WriteOp};
    use super::*;
    use serde_json::json;

    fn device(created_at: i64, roles: &[&str]) -> WriteOp {
        WriteOp::PutDevice(DeviceRow {
            device_id: "d".into(),
            platform: Some("linux".into()),
            roles: roles.iter().map(|role| (*role).into()).collect(),
            created_at,
            approved_at: created_at + 1,
            approved_via: Some("silent".into()),
            ..DeviceRow::default()
        })
    }

    fn row(paired_at: i64) -> NodeRow {
        NodeRow {
            node_id: "d".into(),
            paired_at,
            device_approved_at: paired_at + 1,
            device_silent: true,
            described: json!({ "platform": "linux", "version": "1" }),
            approved: Some(json!({ "caps": ["system"], "commands": ["system.run"] })),
            created_at: Some(5),
            approved_at: Some(5),
            ..NodeRow::default()
        }
    }

    fn apply(db: &Db, op: WriteOp) -> Result<WriteReply, StoreError> {
        db.apply_batch(&[op], &|_| {}).unwrap().remove(0)
    }

    #[test]
    fn a_node_is_a_device_with_that_role_and_goes_with_it() {
        let db = Db::memory().unwrap();
        apply(&db, device(1, &["operator"])).unwrap();
        assert_eq!(db.read(nodes).unwrap(), []);
        apply(&db, device(1, &["operator", "node"])).unwrap();
        let bare = db.read(nodes).unwrap().remove(0);
        assert_eq!((bare.paired_at, &bare.described["platform"], bare.approved), (1, &json!("linux"), None));
        for _ in 0..2 {
            apply(&db, WriteOp::PutNode(row(1))).unwrap();
        }
        assert_eq!(db.read(|c| node(c, "d")).unwrap(), Some(row(1)));
        let asks = NodeRow { request: Some(json!({ "requestId": "r" })), ..row(1) };
        apply(&db, WriteOp::PutNode(asks.clone())).unwrap();
        assert_eq!(db.read(nodes).unwrap(), [asks]);
        apply(&db, WriteOp::RemoveDevice { device_id: "d".into() }).unwrap();
        assert_eq!((db.read(nodes).unwrap(), db.read(|c| node(c, "d")).unwrap()), (vec![], None));
    }

    /// What was approved of a device does not come back with it when it pairs anew.
    #[test]
    fn what_was_approved_under_another_pairing_is_not_stored() {
        let db = Db::memory().unwrap();
        assert_eq!(apply(&db, WriteOp::PutNode(row(1))), Err(StoreError::NotFound));
        apply(&db, device(2, &["node"])).unwrap();
        assert_eq!(apply(&db, WriteOp::PutNode(row(1))), Err(StoreError::NotFound));
        assert_eq!(db.read(nodes).unwrap()[0].approved, None);
        apply(&db, WriteOp::PutNode(row(2))).unwrap();
        apply(&db, WriteOp::RemoveNode { node_id: "d".into() }).unwrap();
        assert_eq!(db.read(nodes).unwrap()[0].approved, None);
    }

    #[test]
    fn an_approval_is_used_once() {
        let db = Db::memory().unwrap();
        let by = |by: &str| WriteOp::UseApproval { kind: "exec".into(), id: "a".into(), by: by.into() };
        assert_eq!(apply(&db, by("x")), Err(StoreError::NotFound));
        let asked = ApprovalRow { kind: "exec".into(), id: "a".into(), ..ApprovalRow::default() };
        apply(&db, WriteOp::OpenApproval(asked)).unwrap();
        for _ in 0..2 {
            assert_eq!(apply(&db, by("x")), Ok(WriteReply::Done));
        }
        assert!(matches!(apply(&db, by("y")), Err(StoreError::Conflict { .. })));
    }
}
