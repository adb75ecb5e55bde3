//! What must hold of the order of things when everything has come to rest.

use super::wire::{Request, Topic};
use super::world::World;
use crabtree_actors::store::InputRow;
use std::collections::BTreeMap;

impl World {
    /// What was said before somebody asks for it to be stopped does not start after the answer: what the same
    /// client had sent, and what anybody had been told is accepted.
    pub fn check_stops(&mut self) {
        let turns: BTreeMap<String, String> =
            self.rows().into_iter().filter_map(|(_, row)| Some((row.run_id, row.turn?))).collect();
        let mut said = Vec::new();
        for (nth, link) in self.links.iter().enumerate() {
            for request in link.wire.lock().requests.values().filter(|r| r.is_accepted()) {
                if let Topic::Say { run, .. } = request.topic {
                    let (key, id) = (self.key_of(run).to_string(), self.plan.said[run].id.clone());
                    said.push((key, id, nth, request.number, request.acked));
                }
            }
        }
        let mut found = Vec::new();
        for (nth, link) in self.links.iter().enumerate() {
            let wire = link.wire.lock();
            for abort in wire.requests.values().filter(|r| r.answers.first().is_some_and(|a| a["ok"] == true))
            {
                let Topic::Abort(of, only) = &abort.topic else { continue };
                let before = said.iter().filter(|(key, id, by, number, acked)| {
                    key == of
                        && only.as_ref().is_none_or(|only| only == id && turns.get(id) == Some(id))
                        && (*acked <= abort.sent || (*by == nth && *number < abort.number))
                });
                let late = |id: &str| {
                    let starts = turns.get(id).and_then(|turn| wire.starts.get(turn));
                    starts.is_some_and(|at| at.iter().any(|at| *at > abort.answered))
                };
                let started = before.filter(|(_, id, ..)| late(id));
                found.extend(started.map(|(_, id, ..)| {
                    format!("{}: {id} started after it was stopped: {:?}", link.name, abort.answers)
                }));
            }
        }
        self.problems.extend(found);
    }

    /// What one client said in one session, one after the other, was accepted in that order.
    pub fn out_of_order(
        &self,
        requests: &BTreeMap<String, Request>,
        rows: &[(usize, InputRow)],
    ) -> Vec<String> {
        let mut asked: Vec<_> = requests.values().collect();
        asked.sort_by_key(|request| request.number);
        let mut last: BTreeMap<String, (i64, String)> = BTreeMap::new();
        let mut found = Vec::new();
        for request in asked {
            let Topic::Say { run, .. } = request.topic else { continue };
            let Some((_, row)) = rows.iter().find(|(r, _)| *r == run).filter(|_| request.is_accepted())
            else {
                continue;
            };
            let before = last.insert(row.session_key.clone(), (row.seq, row.run_id.clone()));
            if let Some((seq, other)) = before.filter(|(seq, _)| *seq > row.seq) {
                found.push(format!("{other} ({seq}) was said before {} ({})", row.run_id, row.seq));
            }
        }
        found
    }
}
