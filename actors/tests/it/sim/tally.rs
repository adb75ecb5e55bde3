//! What stories were made of, to see that schedules reach what they are meant to reach.

use super::check::outcome;
use super::wire::Topic;
use super::world::World;
use crabtree_actors::store::InputState;
use std::collections::BTreeMap;

/// How often each thing happened.
pub type Tally = BTreeMap<&'static str, u64>;

impl World {
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::from([("parked", self.parked as u64), ("reboots", self.reboots as u64)]);
        tally.insert("disk troubles", self.disk_troubles as u64);
        tally.insert("failed commits", self.estate().meters.failed_commits.read());
        let mut count = |what, n: u64| *tally.entry(what).or_default() += n;
        for (_, row) in self.rows() {
            let status = outcome(&row).map(|o| o.status);
            count(status.map_or("open", |s| ["ok", "error", "aborted", "timeout"][s as usize]), 1);
            count("dead", u64::from(row.state == InputState::Dead));
            count("second attempts", u64::from(row.attempts > 1));
        }
        count("commands carried out", self.begun().values().map(|times| u64::from(*times)).sum());
        for link in &self.links {
            let wire = link.wire.lock();
            count("frames", wire.frames);
            count("missed frames", wire.gaps);
            count("cut", u64::from(wire.closed.as_ref().is_some_and(|(code, _)| *code == 1008)));
            for request in wire.requests.values() {
                count("requests", 1);
                let command = matches!(request.topic, Topic::Invoke(_));
                count("commands", u64::from(command));
                count("commands lost", u64::from(command && request.is_unavailable()));
                count("unavailable", u64::from(request.is_unavailable()));
                count("in flight", u64::from(request.status() == Some("in_flight")));
                count("backlog full", u64::from(request.is_refused_for("backlog-full")));
                count("never answered", u64::from(request.answers.is_empty()));
            }
        }
        tally
    }
}
