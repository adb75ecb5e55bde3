//! What must hold when everything has come to rest: the invariants of DESIGN.md.

use super::link::{Link, Manner};
use super::wire::{End, Topic};
use super::world::World;
use crabtree_actors::estate::MAX_PARALLEL_RUNS;
use crabtree_actors::sessions::{Outcome, Status};
use crabtree_actors::store::{self, HistoryPage, InputRow, InputState, MessageRow};
use crabtree_actors::tree::{self, Node, NodeState};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long running turns may go on after a shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(30);

impl World {
    /// Lets everything come to rest, and looks at all that is left of the story.
    pub async fn conclude(&mut self) {
        self.hurry();
        let unrest = self.rest().await;
        if !unrest.is_empty() {
            return self.problems.extend(unrest);
        }
        sleep(Duration::from_secs(1)).await;
        self.check_rows();
        self.check_links();
        self.check_stops();
        self.check_estate();
        self.late_reader().await;
        self.shut_down().await;
    }

    fn problem(&mut self, what: impl Into<String>) {
        self.problems.push(what.into());
    }

    /// Everything said that is a row, in the order of acceptance.
    pub fn rows(&self) -> Vec<(usize, InputRow)> {
        let mut rows: Vec<_> =
            (0..self.plan.said.len()).filter_map(|run| Some((run, self.row(run)?))).collect();
        rows.sort_by_key(|(_, row)| row.seq);
        rows
    }

    fn check_rows(&mut self) {
        let rows = self.rows();
        for (run, row) in &rows {
            let id = &row.run_id;
            if row.text != self.plan.said[*run].text {
                // Whoever came first may have been the one who said it differently.
                let twisted = row.text.ends_with("but differently");
                if !twisted {
                    self.problem(format!("{id} has another text: {}", row.text));
                }
            }
            let messages = self.query(|c| store::messages_by_run(c, id));
            let of = |kind: &str| messages.iter().filter(|m| m.kind == kind).collect::<Vec<_>>();
            let (asked, answered) = (of("user"), of("assistant"));
            if asked.len() != usize::from(row.attempts > 0) {
                self.problem(format!("{id}: {} user rows after {} attempts", asked.len(), row.attempts));
            }
            if answered.len() > 1 {
                self.problem(format!("{id}: {} assistant rows", answered.len()));
            }
            match outcome(row) {
                None => self.problem(format!("{id} has no outcome: {row:?}")),
                Some(outcome) => self.check_outcome(row, &outcome, answered.first().copied()),
            }
        }
        let sessions: BTreeSet<&str> = rows.iter().map(|(_, row)| row.session_key.as_str()).collect();
        for key in sessions {
            self.check_order(key, &rows);
        }
    }

    fn check_outcome(&mut self, row: &InputRow, outcome: &Outcome, answer: Option<&MessageRow>) {
        let id = &row.run_id;
        if (row.state == InputState::Dead) != (outcome.error.as_ref().is_some_and(|e| e.contains("given up")))
        {
            self.problem(format!("{id} is {} with {outcome:?}", row.state.as_str()));
        }
        if row.state == InputState::Dead && row.attempts < 2 {
            self.problem(format!("{id} was given up after {} attempts", row.attempts));
        }
        if outcome.status == Status::Ok {
            if answer.is_none_or(|m| store::text_of(&m.message) != outcome.text) {
                self.problem(format!("{id}: the transcript has not the text of the outcome"));
            }
            if !outcome.text.ends_with(row.text.trim()) {
                self.problem(format!("{id} was answered with {}", outcome.text));
            }
            if outcome.provider != "crabtree" {
                self.problem(format!("{id}: the outcome does not know its model"));
            }
        }
    }

    /// The transcript tells the session in the order in which it was accepted.
    fn check_order(&mut self, key: &str, rows: &[(usize, InputRow)]) {
        let page = HistoryPage { limit: 10_000, offset: 0 };
        let history = self.query(|c| store::history(c, key, page));
        let told: Vec<_> =
            history.rows.iter().filter(|m| m.kind == "user").filter_map(|m| m.run_id.clone()).collect();
        let mine = rows.iter().filter(|(_, row)| row.session_key == key && row.attempts > 0);
        let accepted: Vec<_> = mine.map(|(_, row)| row.run_id.clone()).collect();
        if told != accepted {
            self.problem(format!("{key}: accepted {accepted:?}, in the transcript {told:?}"));
        }
        for pair in history.rows.windows(2) {
            let answers = pair[1].kind == "assistant" && pair[1].run_id != pair[0].run_id;
            if answers && pair[0].kind == "user" {
                self.problem(format!("{key}: {:?} answers {:?}", pair[1].run_id, pair[0].run_id));
            }
        }
    }

    fn check_links(&mut self) {
        let rows = self.rows();
        let first = self.plan.clients.len();
        for (nth, link) in self.links.clone().iter().enumerate() {
            let problems = self.link_problems(link, nth < first, &rows);
            self.problems.extend(problems.into_iter().map(|p| format!("{}: {p}", link.name)));
        }
    }

    fn link_problems(&self, link: &Link, from_start: bool, rows: &[(usize, InputRow)]) -> Vec<String> {
        let wire = link.wire.lock();
        let slow = self.plan.clients[link.client].slow.is_some();
        let mut found = wire.problems.clone();
        let expected = |code: u16| *link.doomed.lock() || (slow && code == 1008);
        if let Some(closed) = wire.closed.as_ref().filter(|(code, _)| !expected(*code)) {
            found.push(format!("closed by {closed:?}"));
        }
        if wire.gaps > 0 && !slow {
            found.push(format!("{} numbers are missing", wire.gaps));
        }
        for (run, row) in rows {
            let Some(outcome) = outcome(row) else { continue };
            match wire.ends.get(&row.run_id).map(Vec::as_slice) {
                None if from_start && wire.closed.is_none() => {
                    found.push(format!("{} never ended here", self.plan.said[*run].id));
                }
                Some([end]) => found.extend(wrong_end(end, &row.run_id, &outcome)),
                _ => {}
            }
        }
        if link.client == 0 && from_start && wire.closed.is_none() {
            for (_, row) in rows {
                let written = self.query(|c| store::messages_by_run(c, &row.run_id));
                let told = written.iter().map(|m| (m, wire.messages.get(&m.id).copied().unwrap_or_default()));
                found.extend(
                    told.filter(|(_, n)| *n != 1)
                        .map(|(m, n)| format!("the {} row of {} was told {n} times", m.kind, row.run_id)),
                );
            }
        }
        found.extend(self.out_of_order(&wire.requests, rows));
        found
    }

    /// What was said before somebody asks for it to be stopped does not start after the answer: what the same
    /// client had sent, and what anybody had been told is accepted.
    fn check_stops(&mut self) {
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
                        && only.as_ref().is_none_or(|only| only == id)
                        && (*acked <= abort.sent || (*by == nth && *number < abort.number))
                });
                let late =
                    |id: &str| wire.starts.get(id).is_some_and(|at| at.iter().any(|at| *at > abort.answered));
                let started = before.filter(|(_, id, ..)| late(id));
                found.extend(started.map(|(_, id, ..)| {
                    format!("{}: {id} started after it was stopped: {:?}", link.name, abort.answers)
                }));
            }
        }
        self.problems.extend(found);
    }

    /// What one client said in one session, one after the other, was accepted in that order.
    fn out_of_order(
        &self,
        requests: &BTreeMap<String, super::wire::Request>,
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

    fn check_estate(&mut self) {
        let estate = self.estate().clone();
        if estate.waiters.count() > 0 {
            self.problem(format!("{} runs are still waited for", estate.waiters.count()));
        }
        if estate.lanes.available_permits() != MAX_PARALLEL_RUNS {
            self.problem(format!("{} lanes are free", estate.lanes.available_permits()));
        }
        if estate.conns.buffered() > 0 {
            self.problem(format!("{} bytes are still counted as buffered", estate.conns.buffered()));
        }
        let open = self.links.iter().filter(|link| link.is_open()).count();
        if estate.conns.count() != open {
            self.problem(format!("{} connections, {open} clients", estate.conns.count()));
        }
        for link in self.links.clone().iter().skip(self.of_before) {
            match link.conn.upgrade() {
                Some(_) if !link.is_open() => self.problem(format!("{} is kept", link.name)),
                Some(conn) if conn.permits.available_permits() != crabtree_actors::conns::MAX_IN_FLIGHT => {
                    self.problem(format!("{} has requests in flight", link.name));
                }
                _ => {}
            }
        }
        let root = self.root.clone();
        self.check_node(&root);
    }

    fn check_node(&mut self, node: &Arc<Node>) {
        let state = node.state().0;
        if state != NodeState::Running {
            self.problem(format!("{} is {}", node.path(), state.as_str()));
        }
        if node.kind() == "run" {
            self.problem(format!("{} is left over: {:?} {:?}", node.path(), state, node.last_exit()));
        }
        node.children().iter().for_each(|child| self.check_node(child));
    }

    /// Somebody who comes when all is over hears the same, and changes nothing by asking again.
    async fn late_reader(&mut self) {
        let rows = self.rows();
        let nth = self.links.len();
        let manner = Manner { slow: None, device: false, subscribes: false, from_start: false };
        let link = Link::open(&self.wiring, &self.trace, (0, nth), manner);
        self.links.push(link.clone());
        sleep(Duration::from_millis(50)).await;
        let mut waits = Vec::new();
        for (run, row) in &rows {
            let params = json!({ "runId": row.run_id, "timeoutMs": 0 });
            waits.push((row.clone(), link.ask(Topic::Other, "agent.wait", &params)));
            self.say(0, *run, true);
            sleep(Duration::from_millis(5)).await;
        }
        let unrest = self.rest().await;
        self.problems.extend(unrest);
        for (row, id) in waits {
            let answers = link.wire.lock().requests[&id].answers.clone();
            let wanted = match outcome(&row).map(|o| o.status) {
                Some(Status::Ok) => "ok",
                Some(Status::Timeout) => "timeout",
                _ => "error",
            };
            if answers.first().is_none_or(|a| a["payload"]["status"] != wanted) {
                self.problem(format!("{} is {wanted}, a late reader heard {answers:?}", row.run_id));
            }
        }
        if self.rows() != rows {
            self.problem("saying it all again has changed rows");
        }
        self.problems.extend(link.wire.lock().problems.clone());
    }

    /// As the gateway does it: nothing new, running turns go on for a while, then the tree ends.
    pub async fn shut_down(&mut self) {
        self.estate().draining.send_replace(true);
        let drained = Instant::now() + DRAIN;
        while self.estate().ledgers.count() > 0 && Instant::now() < drained {
            sleep(Duration::from_millis(20)).await;
        }
        let ended = tokio::time::timeout(Duration::from_secs(30), tree::shutdown(&self.root)).await;
        if ended.is_err() {
            self.problem("the tree did not end");
        }
        tree::fell(&self.root);
        sleep(Duration::from_millis(10)).await;
        for link in self.links.clone().iter().filter(|link| !*link.doomed.lock() && link.wire.lock().ready) {
            let closed = link.wire.lock().closed.clone();
            let slow = self.plan.clients[link.client].slow.is_some();
            if !slow && closed.as_ref().is_none_or(|(code, _)| !matches!(code, 1012 | 1008)) {
                self.problem(format!("{} was not told of the end: {closed:?}", link.name));
            }
        }
    }
}

pub fn outcome(row: &InputRow) -> Option<Outcome> {
    row.outcome.clone().and_then(|outcome| serde_json::from_value(outcome).ok())
}

fn wrong_end(end: &End, id: &str, outcome: &Outcome) -> Option<String> {
    let state = match outcome.status {
        Status::Ok => "final",
        Status::Aborted => "aborted",
        Status::Error | Status::Timeout => "error",
    };
    let text = outcome.text.trim_end();
    let same = end.state == state && (state == "error" || end.text.as_deref().unwrap_or_default() == text);
    (!same).then(|| format!("{id} ended with {end:?}, but the outcome is {outcome:?}"))
}
