//! What comes here comes here: each thing whole or not at all, and what is here already is left as it is.

use anyhow::Context;
use crabtree_actors::cron;
use crabtree_actors::devices::import_token;
use crabtree_actors::store::{self, CronOp, Db, JobRow, StoreError, WriteOp};

use super::devices::Device;
use super::jobs::Job;
use super::plan::{Action, Kind};
use super::sessions::Session;
use super::source::Source;
use super::transcript::{Moved, Mover};
use super::{EXEC_APPROVALS, Found, Home, settings};

/// What came of it.
#[derive(Debug, Default)]
pub struct Done {
    /// How many of each kind came.
    pub came: Vec<(Kind, usize)>,
    /// What came of the transcripts.
    pub moved: Moved,
    /// What did not come though it was to, and why.
    pub failed: Vec<String>,
}

/// How far it is, for people to see.
pub struct Step {
    /// Sessions that were moved.
    pub sessions: usize,
    /// Of so many.
    pub of: usize,
    /// Messages that are new here.
    pub messages: u64,
}

/// Whether a session comes, and why not.
pub(super) fn session_action(db: &Db, session: &Session) -> anyhow::Result<(Action, &'static str)> {
    let here = db.read(|c| store::session(c, session.key.as_str()))?;
    Ok(match here {
        None => (Action::Import, ""),
        Some(here) if here.session_id == session.session_id => (Action::Present, ""),
        Some(_) => (Action::Conflict, "another conversation has its place here and stays"),
    })
}

/// Whether a job comes, and why not.
pub(super) fn job_action(db: &Db, job: &Job) -> anyhow::Result<(Action, String)> {
    let here = db.read(store::cron_jobs)?;
    if here.iter().any(|known| known.id == job.id) {
        return Ok((Action::Present, String::new()));
    }
    let declared = job.value["declarationKey"].as_str();
    if declared.is_some() && here.iter().any(|known| known.declaration_key.as_deref() == declared) {
        return Ok((Action::Conflict, "another job has its declaration key here and stays".into()));
    }
    let usable = cron::Job::read(job.value.clone()).and_then(|job| job.check());
    Ok(match usable {
        Ok(()) => (Action::Import, String::new()),
        Err(why) => (Action::Skip, format!("it is not understood here: {why}")),
    })
}

/// A job as it is stored. Every instant before the next one was seen to by the other gateway.
fn job_row(job: &Job, now: i64) -> JobRow {
    let next = job.value["state"]["nextRunAtMs"].as_i64().unwrap_or(i64::MAX);
    JobRow {
        id: job.id.clone(),
        declaration_key: job.value["declarationKey"].as_str().map(str::to_owned),
        job: job.value.clone(),
        planned_to: now.min(next.saturating_sub(1)),
    }
}

/// Takes over all that is not here yet. `tell` hears how far it is.
///
/// # Errors
/// The store or a file of ours cannot be written; what came before stays, and the next run goes on.
pub fn move_all(
    found: &Found,
    source: &Source,
    db: &Db,
    home: &Home,
    tell: &mut dyn FnMut(&Step),
) -> anyhow::Result<Done> {
    let mut done = Done::default();
    done.came.push((Kind::Config, found.move_config(home)?));
    let (devices, nodes) = found.move_devices(db, home)?;
    done.came.extend([(Kind::Devices, devices), (Kind::Nodes, nodes)]);
    done.came.push((Kind::People, found.move_people(db)?));
    done.came.push((Kind::Cron, found.move_jobs(db, home)?));
    found.move_sessions(source, db, &mut done, tell)?;
    Ok(done)
}

impl Found {
    /// The file that includes the others comes last, so that it never names what is not there.
    fn move_config(&self, home: &Home) -> anyhow::Result<usize> {
        let mut came = 0;
        for file in self.settings.files.iter().rev() {
            if self.config_action(&file.name, &file.text, home)?.0 == Action::Import {
                let path = home.place(&file.name);
                settings::put(&path, &file.text)
                    .with_context(|| format!("{} cannot be written", path.display()))?;
                came += 1;
            }
        }
        let approvals = home.state_dir.join(EXEC_APPROVALS);
        if let Some(text) = self.approvals.as_ref().filter(|_| !approvals.exists()) {
            settings::put(&approvals, text)
                .with_context(|| format!("{} cannot be written", approvals.display()))?;
            came += 1;
        }
        Ok(came)
    }

    fn move_devices(&self, db: &Db, home: &Home) -> anyhow::Result<(usize, usize)> {
        let here = db.read(store::devices)?;
        let generation = self.generation(home);
        let (mut devices, mut nodes) = (0, 0);
        for device in &self.devices {
            if here.iter().any(|known| known.device_id == device.row.device_id) {
                continue;
            }
            write(db, WriteOp::All(ops(device, home, &generation)))
                .with_context(|| format!("the device {}", device.row.device_id))?;
            devices += 1;
            nodes += usize::from(device.node.is_some());
        }
        Ok((devices, nodes))
    }

    fn move_people(&self, db: &Db) -> anyhow::Result<usize> {
        let mut came = 0;
        for person in &self.people {
            let known = db.read(|c| store::contact(c, &person.channel, &person.account, &person.id))?;
            if known.is_none_or(|known| known.approved_at.is_none()) {
                write(db, WriteOp::PutContact(person.clone()))?;
                came += 1;
            }
        }
        Ok(came)
    }

    fn move_jobs(&self, db: &Db, home: &Home) -> anyhow::Result<usize> {
        let mut came = 0;
        for job in &self.jobs {
            if job_action(db, job)?.0 == Action::Import {
                write(db, WriteOp::Cron(CronOp::Put(job_row(job, home.now))))
                    .with_context(|| format!("the job {}", job.name))?;
                came += 1;
            }
        }
        Ok(came)
    }

    fn move_sessions(
        &self,
        source: &Source,
        db: &Db,
        done: &mut Done,
        tell: &mut dyn FnMut(&Step),
    ) -> anyhow::Result<()> {
        let mut coming = Vec::new();
        for session in &self.sessions {
            if session_action(db, session)?.0 == Action::Import {
                coming.push(session);
            }
        }
        let (of, mut came) = (coming.len(), 0);
        for (sessions, session) in coming.into_iter().enumerate() {
            let mut progress = |messages| tell(&Step { sessions, of, messages });
            let moved = std::mem::take(&mut done.moved);
            let mut mover = Mover { source, db, moved, progress: &mut progress };
            let result = mover.session(session);
            done.moved = mover.moved;
            match result {
                Ok(()) => came += 1,
                // One that cannot be read does not keep the others.
                Err(error) if error.downcast_ref::<StoreError>().is_none() => {
                    done.failed.push(format!("session {}: {error:#}", session.key));
                }
                Err(error) => return Err(error.context(format!("session {}", session.key))),
            }
            tell(&Step { sessions: sessions + 1, of, messages: done.moved.messages });
        }
        done.came.push((Kind::Sessions, came));
        Ok(())
    }
}

fn ops(device: &Device, home: &Home, generation: &str) -> Vec<WriteOp> {
    let mut ops = vec![WriteOp::PutDevice(device.row.clone())];
    for (row, token) in &device.tokens {
        ops.push(WriteOp::PutToken(row.clone()));
        ops.push(import_token(&home.key, generation, &device.row, row, &token.0));
    }
    ops.extend(device.node.clone().map(WriteOp::PutNode));
    ops
}

fn write(db: &Db, op: WriteOp) -> Result<(), StoreError> {
    db.apply_batch(&[op], &|_| {})?.remove(0).map(drop)
}
