//! A plan is carried out: one fault after the other, each when the tree is whole again, while clients watch and talk.

use std::time::Duration;

use crabtree_protocol::Scope;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::actors::Tree;
use super::line::Line;
use super::plan::{Due, Schedule, Target};
use super::report::{Blow, Report, Tally, Turns};
use super::strike::{Halt, RECOVERY_LIMIT, Striker};
use super::talk::Talker;
use super::witness;
use crate::cli::Failure;
use crate::cli::client::{self, Client};

/// Clients that watch, and clients that talk.
const WITNESSES: usize = 4;
const TALKERS: usize = 2;
/// An actor is struck only if it could end so often still without being parked.
const SPARE: u64 = 2;
/// How often the tree is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// The clients, while it goes on.
struct Company {
    over: watch::Sender<bool>,
    witnesses: JoinSet<Tally>,
    talkers: JoinSet<(Tally, Turns)>,
}

impl Company {
    async fn gather(target: &client::Target, mark: &str) -> Result<Self, Failure> {
        let (over, witnesses, talkers) = (watch::Sender::new(false), JoinSet::new(), JoinSet::new());
        let mut company = Self { over, witnesses, talkers };
        for nth in 1..=TALKERS {
            let scopes = [Scope::Read, Scope::Write, Scope::Admin];
            let line = Line::new(Client::connect(target, &scopes, &[]).await?, format!("talker {nth}"));
            let talker = Talker::begin(line, format!("{mark}-{nth}")).await?;
            company.talkers.spawn(talker.talk(company.over.subscribe()));
        }
        for nth in 1..=WITNESSES {
            let client = Client::connect(target, &[Scope::Read], &[]).await?;
            let line = Line::new(client, format!("witness {nth}"));
            company.witnesses.spawn(witness::look(line, company.over.subscribe()));
        }
        Ok(company)
    }

    async fn end(self, report: &mut Report) {
        self.over.send_replace(true);
        for (tally, turns) in self.talkers.join_all().await {
            report.add(tally);
            report.add_turns(&turns);
        }
        self.witnesses.join_all().await.into_iter().for_each(|tally| report.add(tally));
    }
}

/// A plan that is being carried out.
pub(super) struct Run {
    striker: Striker,
    company: Company,
    report: Report,
    /// How its sessions are known.
    mark: String,
    /// The tree before the first fault.
    start: Tree,
    /// Counts faults at its own sessions and turns: they take turns.
    own: usize,
    /// Whether it has ended because of something that is not as it has to be.
    halted: bool,
}

impl Run {
    /// Makes everything ready; nothing has failed yet.
    pub async fn begin(
        target: &client::Target,
        mut striker: Striker,
        start: Tree,
        report: Report,
    ) -> Result<Self, Failure> {
        let mark = format!("chaos-{:08x}", rand::random::<u32>());
        // First, so that nothing is left behind where the model of the talkers may not be used.
        let company = Company::gather(target, &mark).await?;
        let probe = format!("{mark}-probe");
        let made = striker.ask("sessions.create", json!({ "key": probe })).await?;
        striker.probe = made["key"].as_str().unwrap_or(&probe).to_owned();
        striker.begun = Instant::now();
        Ok(Self { striker, company, report, mark, start, own: 0, halted: false })
    }

    /// Strikes as the schedule has it, `count` times or until the deadline. Who listens is told of each fault.
    pub async fn strike(
        &mut self,
        schedule: Schedule,
        count: usize,
        limit: Duration,
        mut told: impl FnMut(usize, &Blow),
    ) {
        let deadline = Instant::now() + limit;
        for due in schedule {
            if self.report.blows.len() >= count {
                return;
            }
            match self.one(&due, deadline).await {
                Ok(Some(blow)) => {
                    self.report.blows.push(blow);
                    if let Some(blow) = self.report.blows.last() {
                        told(self.report.blows.len(), blow);
                    }
                }
                Ok(None) if Instant::now() >= deadline => {
                    self.report.stopped = Some("its time is up".into());
                    return;
                }
                Ok(None) => {}
                Err(halt) => return self.halted(halt),
            }
        }
    }

    /// Stops before the schedule does.
    pub fn stopped(&mut self, why: &str) {
        self.report.stopped = Some(why.into());
    }

    fn halted(&mut self, halt: Halt) {
        let why = match halt {
            Halt::Violated(who, expected, seen) => {
                self.report.violated(&who, expected, &seen);
                format!("{who}: {seen}")
            }
            Halt::Lost(failure) => {
                let why = failure.told();
                self.report.violated("the gateway", "it goes on answering", &why);
                why
            }
        };
        self.halted = true;
        self.report.stopped = Some(why);
    }

    /// One fault, and back to where it was. None if there was nobody to strike, or no time left.
    async fn one(&mut self, due: &Due, deadline: Instant) -> Result<Option<Blow>, Halt> {
        sleep(due.pause).await;
        let Some(path) = self.aim(&due.target, deadline).await? else { return Ok(None) };
        let before = self.striker.tree().await?;
        let Some(blow) = self.striker.strike(&path, due.fault).await? else { return Ok(None) };
        let after = self.whole().await?;
        for (harmed, why) in after.harmed(&before, &[path]) {
            self.report.violated(&harmed, "who is not struck is not harmed", why);
        }
        Ok(Some(blow))
    }

    /// Whom exactly to strike, as soon as nobody would be parked for it.
    async fn aim(&mut self, target: &Target, deadline: Instant) -> Result<Option<String>, Halt> {
        self.own += usize::from(!matches!(target, Target::At(_)));
        while Instant::now() < deadline {
            let tree = self.striker.tree().await?;
            self.nobody_is_parked(&tree)?;
            let found = self.candidates(target, &tree);
            if let Some(path) = found.get(self.own % found.len().max(1)) {
                return Ok(Some(path.clone()));
            }
            sleep(LOOK).await;
        }
        Ok(None)
    }

    fn candidates(&self, target: &Target, tree: &Tree) -> Vec<String> {
        let own = format!(":{}-", self.mark);
        let probe = format!("gateway/sessions/{}", self.striker.probe);
        let sessions =
            || tree.below("gateway/sessions").filter(|path| path.contains(&own) && **path != probe);
        let candidates: Vec<String> = match target {
            Target::At(path) => vec![path.clone()],
            Target::Session => sessions().cloned().collect(),
            // A second crash could have the message given up.
            Target::Run => sessions()
                .flat_map(|path| tree.below(path))
                .filter(|run| run.ends_with("#1"))
                .cloned()
                .collect(),
        };
        let bears = |path: &String| {
            let actor = tree.actors.get(path);
            actor.is_some_and(|actor| actor.runs() && actor.left.is_none_or(|left| left >= SPARE))
        };
        candidates.into_iter().filter(bears).collect()
    }

    /// Nobody, that is, who was not so at the start.
    fn nobody_is_parked(&self, tree: &Tree) -> Result<(), Halt> {
        let before = self.start.parked();
        let Some(path) = tree.parked().into_iter().find(|path| !before.contains(path)) else { return Ok(()) };
        let exit = tree.actors.get(&path).and_then(|actor| actor.exit.clone());
        let seen =
            exit.map_or_else(|| "it is".into(), |exit| format!("it is ({}: {})", exit.kind, exit.reason));
        Err(Halt::Violated(path, "nobody is parked", seen))
    }

    /// Waits until everybody runs who did at the start.
    async fn whole(&mut self) -> Result<Tree, Halt> {
        let deadline = Instant::now() + RECOVERY_LIMIT;
        loop {
            let tree = self.striker.tree().await?;
            self.nobody_is_parked(&tree)?;
            let Some((path, state)) = tree.missing(&self.start) else { return Ok(tree) };
            if Instant::now() > deadline {
                let seen = format!("it is {state}");
                return Err(Halt::Violated(path.to_owned(), "everybody runs again after a fault", seen));
            }
            sleep(LOOK).await;
        }
    }

    /// Nobody is slow any more, and everybody runs.
    async fn rest(&mut self) -> Result<(), Halt> {
        self.striker.release().await?;
        self.whole().await.map(|_| ())
    }

    /// Hears the clients out, and looks at the gateway once more.
    pub async fn finish(mut self) -> Report {
        self.report.took = self.striker.begun.elapsed();
        if !self.halted
            && let Err(halt) = self.rest().await
        {
            self.halted(halt);
        }
        self.company.end(&mut self.report).await;
        let mut striker = self.striker;
        let gone = json!({ "key": striker.probe, "deleteTranscript": true });
        if let Ok(tree) = striker.tree().await {
            self.report.actors = tree.actors.len();
            self.report.parked = tree.parked();
        }
        if let Ok(status) = striker.ask("status", json!({})).await {
            self.report.inputs = status["inputs"].clone();
        }
        if let Err(failure) = striker.ask("sessions.delete", gone).await {
            self.report.violated("the sessions of the plan", "they are deleted", failure.told());
        }
        self.report.add(striker.line.end().await);
        self.report
    }
}
