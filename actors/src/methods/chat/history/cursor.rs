//! Where a client has read to, so that it is told just what came since.

use crate::store::SessionRecord;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// Where an answer ended: opaque to clients.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cursor {
    agent_id: String,
    /// Changes with whatever makes the rows of a transcript others.
    generation: String,
    /// Visible rows up to there.
    last_seq: i64,
    session_id: String,
    version: u32,
}

impl Cursor {
    pub fn at(record: &SessionRecord, last_seq: i64) -> Self {
        Self {
            agent_id: record.agent_id.clone(),
            generation: record.revision.clone(),
            last_seq,
            session_id: record.session_id.clone(),
            version: 1,
        }
    }

    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("a cursor is plain data"))
    }

    /// The row a cursor stands at, if it is one of this transcript.
    pub fn decode(text: &str, record: &SessionRecord) -> Option<i64> {
        let cursor: Self = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        (cursor == Self::at(record, cursor.last_seq) && cursor.last_seq >= 0).then_some(cursor.last_seq)
    }
}
