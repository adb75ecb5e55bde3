//! What must hold when everything has come to rest: the invariants of DESIGN.md.

use super::link::{Link, Manner};
use super::wire::{End, Topic};
use super::world::World;
use crabtree_actors::sessions::{Outcome, Status};
use crabtree_actors::store::{self, HistoryPage, InputRow, InputState, MessageRow};
use crabtree_actors::tree::{self, Node, NodeState};
use serde_json::json;
use std::collections::BTreeSet;
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
        self.check_errands();
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
            // Whoever came first may have been the one who said it differently.
            if row.text != self.plan.said[*run].text && !row.text.ends_with("but differently") {
                self.problem(format!("{id} has another text: {}", row.text));
            }
            if let Some(problem) = self.asked_once(row) {
                self.problem(problem);
            }
            match outcome(row) {
                None => self.problem(format!("{id} has no outcome: {row:?}")),
                Some(outcome) => self.check_outcome(row, &outcome),
            }
        }
        let turns: BTreeSet<String> = rows.iter().filter_map(|(_, row)| row.turn.clone()).collect();
        for turn in turns {
            self.check_turn(&turn);
        }
        let sessions: BTreeSet<&str> = rows.iter().map(|(_, row)| row.session_key.as_str()).collect();
        for key in sessions {
            self.check_order(key, &rows);
        }
    }

    /// What was said stands in the transcript once it was begun, as a row of its own or among those it was
    /// put together with.
    fn asked_once(&self, row: &InputRow) -> Option<String> {
        let turn = row.turn.clone().unwrap_or_default();
        let messages = self.query(|c| store::messages_by_run(c, &turn));
        let own = self.query(|c| store::message(c, &row.session_key, &row.id)).is_some();
        let said = row.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = said.chars().take(100).collect::<String>();
        let together = |m: &&MessageRow| {
            let key = m.idempotency_key.as_deref().unwrap_or_default();
            key.starts_with("followup-collect:") && store::text_of(&m.message).contains(said.trim())
        };
        let together = messages.iter().filter(|m| m.kind == "user").filter(together).count();
        let count = if together > 0 { together } else { usize::from(own) };
        let wanted = usize::from(row.attempts > 0);
        let kinds: Vec<_> = messages.iter().map(|m| (&m.kind, store::text_of(&m.message))).collect();
        (count != wanted).then(|| {
            let (id, attempts) = (&row.run_id, row.attempts);
            format!("{id}: asked {count} times after {attempts} attempts, {:?}, {turn}: {kinds:?}", row.body)
        })
    }

    fn check_outcome(&mut self, row: &InputRow, outcome: &Outcome) {
        let id = &row.run_id;
        if (row.state == InputState::Dead) != (outcome.error.as_ref().is_some_and(|e| e.contains("given up")))
        {
            self.problem(format!("{id} is {} with {outcome:?}", row.state.as_str()));
        }
        if row.state == InputState::Dead && row.attempts < 2 {
            self.problem(format!("{id} was given up after {} attempts", row.attempts));
        }
    }

    /// All inputs of a turn have its one outcome, which is what the transcript says.
    fn check_turn(&mut self, turn: &str) {
        let rows = self.query(|c| store::inputs_of_turn(c, turn));
        let outcomes: Vec<Outcome> = rows.iter().filter_map(outcome).collect();
        if outcomes.windows(2).any(|pair| pair[0] != pair[1]) {
            return self.problem(format!("the inputs of {turn} have several outcomes: {outcomes:?}"));
        }
        let Some(outcome) = outcomes.first().filter(|outcome| outcome.status == Status::Ok) else { return };
        let messages = self.query(|c| store::messages_by_run(c, turn));
        let answers: Vec<String> = messages
            .iter()
            .filter(|m| m.kind == "assistant")
            .map(|m| store::text_of(&m.message).trim_end().to_owned())
            .collect();
        if answers.join("\n\n") != outcome.text.trim_end() {
            let said = outcome.text.trim_end();
            self.problem(format!("{turn}: the transcript says {answers:?}, the outcome {said:?}"));
        }
        let first = rows.iter().find(|row| row.run_id == turn);
        let joined = |row: &InputRow| {
            let own = self.query(|c| store::message(c, &row.session_key, &row.id));
            own.is_some_and(|m| m.message["__openclaw"].get("steerTargetRunId").is_some())
        };
        let echoed = rows.iter().filter(|row| first.map_or(!joined(row), |first| first.id == row.id));
        let echoed: Vec<&InputRow> = echoed.collect();
        for row in
            echoed.into_iter().filter(|row| row.text.len() < 100 && !outcome.text.contains(row.text.trim()))
        {
            let (id, body, attempts) = (&row.run_id, &row.body, row.attempts);
            self.problem(format!("{id}, {attempts} attempts, {body}, was answered with {}", outcome.text));
        }
        if outcome.provider != "crabtree" {
            self.problem(format!("{turn}: the outcome does not know its model"));
        }
    }

    /// The transcript tells what was queued in the same way in the order in which it was accepted, and each
    /// answer follows what it answers.
    fn check_order(&mut self, key: &str, rows: &[(usize, InputRow)]) {
        let page = HistoryPage { limit: 10_000, offset: 0 };
        let history = self.query(|c| store::history(c, key, page));
        let mine: Vec<&InputRow> = rows
            .iter()
            .map(|(_, row)| row)
            .filter(|row| row.session_key == key && row.attempts > 0)
            .collect();
        for mode in ["steer", "followup", "collect"] {
            let told = history.rows.iter().filter_map(|m| mine.iter().find(|row| row.id == m.id));
            let told: Vec<i64> =
                told.filter(|row| row.body["queueMode"] == mode).map(|row| row.seq).collect();
            if !told.is_sorted() {
                self.problem(format!("{key}: {mode} is in the transcript in the order {told:?}"));
            }
        }
        for pair in history.rows.windows(2) {
            let asked =
                |m: &MessageRow| mine.iter().find(|row| row.id == m.id).and_then(|row| row.turn.clone());
            // Those of a turn that was given up are answered without being asked again.
            let again = |turn: &str| {
                let mut of_turn = mine.iter().filter(|row| row.turn.as_deref() == Some(turn));
                of_turn.any(|row| row.body.get("asked").is_some())
            };
            let other = pair[1].kind == "assistant" && pair[1].run_id != pair[0].run_id;
            let other = other && !pair[1].run_id.as_deref().is_some_and(again);
            if other && pair[0].kind == "user" && asked(&pair[0]) != pair[1].run_id {
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
        if self.plan.clients[link.client].node {
            return found;
        }
        let witness = from_start && wire.closed.is_none();
        for (run, row) in rows {
            let Some(outcome) = outcome(row) else { continue };
            let turn = row.turn.clone().unwrap_or_else(|| row.run_id.clone());
            match wire.ends.get(&turn).map(Vec::as_slice) {
                None if witness => found.push(format!("{} never ended here", self.plan.said[*run].id)),
                Some([end]) => found.extend(wrong_end(end, &turn, &outcome)),
                _ => {}
            }
            if turn != row.run_id {
                let (told, ends) = (wire.delivered.get(&row.run_id), wire.ends.get(&row.run_id));
                if told.is_some_and(|times| *times != 1) || (witness && told.is_none()) || ends.is_some() {
                    found.push(format!("{} was delivered {told:?} times, and ended {ends:?}", row.run_id));
                }
            }
        }
        if link.client == 0 && witness {
            let turns: BTreeSet<&str> = rows.iter().filter_map(|(_, row)| row.turn.as_deref()).collect();
            for turn in turns {
                let written = self.query(|c| store::messages_by_run(c, turn));
                let told = written.iter().map(|m| (m, wire.messages.get(&m.id).copied().unwrap_or_default()));
                found.extend(
                    told.filter(|(_, n)| *n != 1)
                        .map(|(m, n)| format!("the {} row of {turn} was told {n} times", m.kind)),
                );
            }
        }
        found.extend(self.out_of_order(&wire.requests, rows));
        found
    }

    fn check_estate(&mut self) {
        let estate = self.estate().clone();
        if estate.waiters.count() > 0 {
            self.problem(format!("{} runs are still waited for", estate.waiters.count()));
        }
        if estate.lanes.taken() != 0 {
            self.problem(format!("{} lanes are taken", estate.lanes.taken()));
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
        let manner = Manner { slow: None, device: false, node: false, subscribes: false, from_start: false };
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
