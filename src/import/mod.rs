//! Takes over an installation of OpenClaw: what is there, what of it comes here, and the coming. The other
//! installation is read and never written; everything that comes may come again and changes nothing then.

mod devices;
mod jobs;
mod lines;
mod message;
mod moving;
mod people;
mod plan;
mod sessions;
mod settings;
mod source;
mod transcript;
mod tree;

use std::path::{Path, PathBuf};

use anyhow::Context;
use crabtree_actors::settings::AuthSecret;
use crabtree_actors::store::{self, ContactRow, Db};
use crabtree_protocol::params::approvals::policy::PolicyFile;
pub use moving::{Done, Step, move_all};
pub use plan::{Action, Item, Kind, Plan};
use serde_json::{Value, json};
pub use source::{Private, Source};

use crate::config::{self, Environment, Sources};
use devices::Device;
use jobs::Job;
use sessions::Session;
use settings::Settings;

/// Where commands that may run without asking are listed.
const EXEC_APPROVALS: &str = "exec-approvals.json";

/// Folders of files that agents use and show.
const FOLDERS: [&str; 3] = ["canvas", "media", "skills"];

/// Where an installation comes to.
pub struct Home {
    /// Our state directory.
    pub state_dir: PathBuf,
    /// Our configuration file.
    pub config: PathBuf,
    /// The environment of this command.
    pub env: Environment,
    /// Whether a configuration that stands here gives way.
    pub replace_config: bool,
    /// The key that tokens are hashed with.
    pub key: [u8; 32],
    /// When, ms.
    pub now: i64,
}

/// What an installation holds.
pub struct Found {
    settings: Settings,
    /// The document of approvals, if there is one. One that is not understood comes, too: it allows nothing, which is
    /// better than what holds without it.
    approvals: Option<String>,
    devices: Vec<Device>,
    people: Vec<ContactRow>,
    jobs: Vec<Job>,
    sessions: Vec<Session>,
    left_out: Vec<(Kind, String, String)>,
}

impl Found {
    /// Looks at an installation.
    ///
    /// # Errors
    /// A part of it cannot be read.
    pub fn of(source: &Source, now: i64) -> anyhow::Result<Self> {
        let settings = settings::read(&source.dir)?;
        let mut found = Self {
            approvals: None,
            devices: Vec::new(),
            people: Vec::new(),
            jobs: Vec::new(),
            sessions: Vec::new(),
            left_out: Vec::new(),
            settings,
        };
        for (name, why) in std::mem::take(&mut found.settings.left_out) {
            found.left_out.push((Kind::Config, name, why));
        }
        found.find_approvals(source)?;
        found.find_devices(source, now)?;
        found.find_people(source, now)?;
        found.find_jobs(source)?;
        for (at, agent) in source.agents.iter().enumerate() {
            let (sessions, left_out) = sessions::of_agent(at, agent)?;
            found.sessions.extend(sessions);
            found.left_out.extend(left_out.into_iter().map(|(name, why)| (Kind::Sessions, name, why)));
        }
        found.find_the_rest(source)?;
        Ok(found)
    }

    fn find_approvals(&mut self, source: &Source) -> anyhow::Result<()> {
        let row = source.rows("exec_approvals_config")?.into_iter().next();
        self.approvals = match row.and_then(|row| Some(row.get("raw_json")?.as_str()?.to_owned())) {
            Some(text) => Some(text),
            None => text_of(&source.dir.join(EXEC_APPROVALS))?,
        };
        Ok(())
    }

    fn find_devices(&mut self, source: &Source, now: i64) -> anyhow::Result<()> {
        let mut rows = source.rows("device_pairing_paired")?;
        if rows.is_empty() {
            let file = source.json("devices/paired.json")?.unwrap_or_default();
            rows.extend(
                file.as_object().into_iter().flatten().filter_map(|(_, entry)| entry.as_object()).cloned(),
            );
        }
        for row in rows {
            let name = ["device_id", "deviceId"].iter().find_map(|name| row.get(*name)?.as_str());
            let name = name.unwrap_or("?").to_owned();
            match devices::device(&row, now) {
                Ok(device) => self.devices.push(device),
                Err(why) => self.left_out.push((Kind::Devices, name, why)),
            }
        }
        Ok(())
    }

    fn find_people(&mut self, source: &Source, now: i64) -> anyhow::Result<()> {
        let rows = source.rows("channel_pairing_allow_entries")?;
        self.people.extend(rows.iter().filter_map(|row| people::of_row(row, now)));
        let value = self.config();
        let channels: Vec<&str> =
            value["channels"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let dir = source.dir.join("credentials");
        for name in source::names(&dir).context("the folder credentials")? {
            if name.ends_with("-allowFrom.json")
                && let Some(content) = source::json(&dir.join(&name))?
            {
                let known = |row: &ContactRow| {
                    self.people
                        .iter()
                        .any(|p| (&p.channel, &p.account, &p.id) == (&row.channel, &row.account, &row.id))
                };
                let new: Vec<_> = people::of_file(&name, &content, &channels, now)
                    .into_iter()
                    .filter(|row| !known(row))
                    .collect();
                self.people.extend(new);
            }
        }
        Ok(())
    }

    fn find_jobs(&mut self, source: &Source) -> anyhow::Result<()> {
        let mut made: Vec<_> = source.rows("cron_jobs")?.iter().map(jobs::of_row).collect();
        if made.is_empty() {
            let file = source.json("cron/jobs.json")?.unwrap_or_default();
            made.extend(file["jobs"].as_array().into_iter().flatten().cloned().map(jobs::job));
        }
        for job in made {
            match job {
                Ok(job) => self.jobs.push(job),
                Err((name, why)) => self.left_out.push((Kind::Cron, name, why)),
            }
        }
        Ok(())
    }

    /// What has no place here, so that nobody misses it later.
    fn find_the_rest(&mut self, source: &Source) -> anyhow::Result<()> {
        let mut rest = |name: &str, why: String| self.left_out.push((Kind::Other, name.into(), why));
        let config = self.settings.files.first().and_then(|file| json5::from_str::<Value>(&file.text).ok());
        let named = config.is_some_and(|config| config["agents"]["defaults"]["workspace"].is_string());
        let workspace = source.dir.join("workspace");
        if !named && workspace.is_dir() {
            let set = format!("crabtree config set agents.defaults.workspace {}", workspace.display());
            rest("workspace", format!("it stays where it is; for the agent to go on in it: {set}"));
        }
        for name in FOLDERS {
            if has_files(&source.dir.join(name)) {
                rest(name, "it stays where it is; copy what is wanted to the state directory".into());
            }
        }
        if source.dir.join(".env").exists() {
            rest(".env", "its variables are given to the service that runs the gateway".into());
        }
        let mut keys = Vec::new();
        for agent in &source.agents {
            let mut any = source.dir.join("agents").join(&agent.id).join("agent/auth-profiles.json").exists();
            if let Some(db) = &agent.db {
                db.each("auth_profile_store", &mut |_| any = true)?;
            }
            keys.extend(any.then_some(&agent.id));
        }
        for agent in keys {
            let why =
                "keys of model providers beside the configuration; give them as models.providers.NAME.apiKey";
            rest(&format!("auth profiles of {agent}"), why.into());
        }
        Ok(())
    }

    /// The configuration as it is written, without what it includes.
    fn config(&self) -> Value {
        let text = self.settings.files.first().map_or("", |file| &file.text);
        json5::from_str(text).unwrap_or_else(|_| json!({}))
    }

    /// Compares it with what is here.
    ///
    /// # Errors
    /// Our own store or configuration cannot be read.
    pub fn plan(&self, db: &Db, home: &Home) -> anyhow::Result<Plan> {
        let mut plan = Plan::default();
        self.plan_config(&mut plan, home)?;
        let here = db.read(store::devices)?;
        for device in &self.devices {
            let row = &device.row;
            let name = row.label.as_ref().or(row.display_name.as_ref()).unwrap_or(&row.device_id);
            let action = if here.iter().any(|known| known.device_id == row.device_id) {
                Action::Present
            } else {
                Action::Import
            };
            plan.add(Kind::Devices, name, action, "");
            if device.node.is_some() {
                plan.add(Kind::Nodes, name, action, "");
            }
        }
        for person in &self.people {
            let known = db.read(|c| store::contact(c, &person.channel, &person.account, &person.id))?;
            let known = known.is_some_and(|known| known.approved_at.is_some());
            let action = if known { Action::Present } else { Action::Import };
            plan.add(Kind::People, format!("{}:{}", person.channel, person.id), action, "");
        }
        for job in &self.jobs {
            let (action, why) = moving::job_action(db, job)?;
            plan.add(Kind::Cron, &job.name, action, why);
        }
        for session in &self.sessions {
            let (action, why) = moving::session_action(db, session)?;
            plan.add(Kind::Sessions, session.key.as_str(), action, why);
        }
        for (kind, name, why) in &self.left_out {
            plan.add(*kind, name, Action::Skip, why);
        }
        Ok(plan)
    }

    fn plan_config(&self, plan: &mut Plan, home: &Home) -> anyhow::Result<()> {
        for file in &self.settings.files {
            let name = file.name.display().to_string();
            let (action, why) = self.config_action(&file.name, &file.text, home)?;
            plan.add(Kind::Config, name, action, why);
        }
        if let Some(text) = &self.approvals {
            let here = text_of(&home.state_dir.join(EXEC_APPROVALS))?;
            let understood = serde_json::from_str::<PolicyFile>(text).is_ok();
            let (action, why) = match here {
                None if !understood => {
                    (Action::Import, "it is not understood here: no command runs until it is corrected")
                }
                None => (Action::Import, ""),
                Some(here) if here == *text => (Action::Present, ""),
                Some(_) => (Action::Conflict, "the one that is here stays"),
            };
            plan.add(Kind::Config, EXEC_APPROVALS, action, why);
        }
        Ok(())
    }

    fn config_action(&self, name: &Path, text: &str, home: &Home) -> anyhow::Result<(Action, String)> {
        if let Some(why) = self.unusable(home) {
            return Ok((Action::Skip, why));
        }
        Ok(match text_of(&home.place(name))? {
            None => (Action::Import, String::new()),
            Some(here) if here == text => (Action::Present, String::new()),
            Some(_) if home.replace_config => (Action::Import, "the one that is here is kept as .bak".into()),
            Some(_) => (
                Action::Conflict,
                "the one that is here stays; --replace-config puts this in its place".into(),
            ),
        })
    }

    /// Why the configuration would not be accepted. It may hold secrets: its words are not repeated.
    fn unusable(&self, home: &Home) -> Option<String> {
        let text = self.settings.files.first()?.text.clone();
        // What it includes is not in its place yet.
        if json5::from_str::<Value>(&text).is_ok() && text.contains("$include") {
            return None;
        }
        let sources = Sources {
            state_dir: home.state_dir.clone(),
            file: None,
            env: Environment::default(),
            flags: json!({}),
        };
        let invalid = config::load_draft(&sources, &text).err()?;
        Some(match invalid.key.as_str() {
            "" => "it cannot be read; `crabtree config validate FILE` says why".into(),
            key => format!("{key} would not be accepted here; `crabtree config validate FILE` says why"),
        })
    }

    /// Names the shared secret that will be in force, for the tokens that die with it.
    fn generation(&self, home: &Home) -> String {
        let sources = Sources {
            state_dir: home.state_dir.clone(),
            file: (home.config != home.state_dir.join("openclaw.json")).then(|| home.config.clone()),
            env: home.env.clone(),
            flags: json!({}),
        };
        let secret = config::load(&sources).ok();
        let secret = secret.and_then(|loaded| config::client_secret(&loaded, &home.env).ok().flatten());
        crabtree_actors::handshake::generation(&secret.unwrap_or(AuthSecret::None), &home.key)
    }
}

impl Home {
    /// Where a file of the configuration goes.
    fn place(&self, name: &Path) -> PathBuf {
        if name == Path::new("openclaw.json") {
            return self.config.clone();
        }
        self.config.parent().unwrap_or(&self.state_dir).join(name)
    }
}

/// Whether there is a file in a folder, or in one of its folders.
fn has_files(dir: &Path) -> bool {
    let inside =
        |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    inside(dir).any(|path| path.is_file() || inside(&path).any(|path| path.is_file()))
}

fn text_of(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("{} cannot be read", path.display())),
    }
}
