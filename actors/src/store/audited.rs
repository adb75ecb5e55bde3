//! A commit with the acts that were noted: they are its last operation, and what happens to them is nothing to the
//! others.

use super::audit::tells;
use super::db::{Db, StoreError};
use super::rows::{AuditBatch, AuditKeep, WriteOp, WriteReply};
use crate::estate::Estate;
use std::sync::Arc;

/// What one commit writes.
pub(super) struct Batch {
    ops: Vec<WriteOp>,
    audited: bool,
}

impl Batch {
    /// These operations, and what was noted until now.
    pub(super) fn new(estate: &Arc<Estate>, mut ops: Vec<WriteOp>) -> Self {
        let settings = estate.config.load().settings.logging.audit;
        let acts = estate.audit.take();
        let audited = !acts.is_empty() || (settings.enabled && ops.iter().any(tells));
        if audited {
            let at = estate.clock.now_ms();
            let keep = AuditKeep { rows: settings.max_rows, since: settings.since(at) };
            ops.push(WriteOp::Audit(AuditBatch { acts, keep, at }));
        }
        Self { ops, audited }
    }

    /// Commits. If that fails, it is tried without the acts: they are counted as missing if they were the cause, and
    /// wait for the next commit if they were not.
    pub(super) fn apply(
        mut self,
        db: &Db,
        estate: &Estate,
    ) -> Result<Vec<Result<WriteReply, StoreError>>, StoreError> {
        let kill = |point| estate.kill_points.reach(point);
        let done = db.apply_batch(&self.ops, &kill);
        if !self.audited {
            return done;
        }
        let Some(WriteOp::Audit(AuditBatch { acts, .. })) = self.ops.pop() else { return done };
        match done {
            Ok(mut results) => {
                if let Some(Err(e)) = results.pop() {
                    tracing::error!(target: "crabtree::store", "{} acts were not written down: {e}", acts.len());
                    estate.audit.miss(acts.len());
                }
                Ok(results)
            }
            Err(e) if self.ops.is_empty() => {
                estate.audit.put_back(acts);
                Err(e)
            }
            Err(_) => {
                let again = db.apply_batch(&self.ops, &kill);
                match &again {
                    Ok(_) => estate.audit.miss(acts.len()),
                    Err(_) => estate.audit.put_back(acts),
                }
                again
            }
        }
    }
}
