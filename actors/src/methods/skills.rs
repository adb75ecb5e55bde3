//! Skills: which there are, what they need, and installing one.

use super::Call;
use super::agents::known_id;
use crate::connection::ConnectionMsg;
use crate::responder::Responder;
use crate::settings::Loaded;
use crate::skills::{Fitness, Installer, Machine, Order, Origin, Requires, Skill, Skills, Survey, managed};
use crate::tree::Ctx;
use crabtree_protocol::params::core::Empty;
use crabtree_protocol::params::skills::{
    Bins, BrokenSkill, ConfigCheck, InstallParams, Installation, Installer as InstallerRow, InstallerParams,
    Requirements, SkillRow, Status, StatusParams,
};
use crabtree_protocol::{Refusal, SessionKey};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// How long fetching a repository may take, unless a call says otherwise.
const FETCH: Duration = Duration::from_secs(120);

pub(super) fn status(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<StatusParams>() else { return };
    let loaded = call.estate().config.load_full();
    let agent_id = match agent(&loaded, params.agent_id.as_deref(), params.session_key.as_deref()) {
        Ok(agent_id) => agent_id,
        Err(refusal) => return call.responder.refuse(refusal),
    };
    let (skills, responder) = (call.estate().skills.clone(), call.responder);
    ctx.detached(async move {
        let survey = skills.survey(loaded.clone(), &agent_id).await;
        responder.ok(&status_of(&loaded, agent_id, survey));
    });
}

/// The agent that is meant.
fn agent(loaded: &Loaded, agent_id: Option<&str>, session_key: Option<&str>) -> Result<String, Refusal> {
    let default = loaded.settings.default_agent_id();
    let of_session = match (agent_id, session_key) {
        (None, Some(key)) => Some(SessionKey::canonical(key, default)?),
        _ => None,
    };
    let id = agent_id.or(of_session.as_ref().map(SessionKey::agent_id)).unwrap_or(default);
    known_id(loaded, id).ok_or_else(|| Refusal::invalid_request(format!("unknown agent id \"{id}\"")))
}

fn status_of(loaded: &Loaded, agent_id: String, survey: Survey) -> Status {
    let machine = Machine::here();
    Status {
        workspace_dir: text(&loaded.workspace(&agent_id)),
        managed_skills_dir: text(&managed(loaded)),
        agent_id,
        skills: survey.skills.iter().map(|(skill, fitness)| row(&machine, skill, fitness)).collect(),
        broken: survey
            .broken
            .into_iter()
            .map(|broken| BrokenSkill {
                source: broken.source.name().into(),
                path: text(&broken.dir),
                reason: broken.reason,
            })
            .collect(),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn row(machine: &Machine, skill: &Skill, fitness: &Fitness) -> SkillRow {
    let (manifest, needs) = (&skill.manifest, &skill.manifest.needs);
    let foreign = if fitness.foreign { needs.os.clone() } else { vec![] };
    let checks = fitness.config.iter().cloned();
    SkillRow {
        name: manifest.name.clone(),
        description: manifest.description.clone(),
        source: skill.source.name().into(),
        bundled: false,
        file_path: text(&skill.file()),
        base_dir: text(&skill.dir),
        skill_key: skill.key().to_owned(),
        always: needs.always,
        disabled: fitness.disabled,
        blocked_by_allowlist: false,
        blocked_by_agent_filter: false,
        eligible: fitness.eligible,
        platform_incompatible: fitness.foreign,
        model_visible: fitness.eligible && manifest.model_invocable,
        user_invocable: manifest.user_invocable,
        command_visible: fitness.eligible && manifest.user_invocable,
        requirements: requirements(&needs.requires, needs.os.clone()),
        missing: requirements(&fitness.missing, foreign),
        config_checks: checks.map(|(path, satisfied)| ConfigCheck { path, satisfied }).collect(),
        install: needs.install.iter().filter(|i| machine.is_among(&i.os)).map(installer).collect(),
        emoji: needs.emoji.clone(),
        homepage: manifest.homepage.clone(),
        primary_env: needs.primary_env.clone(),
    }
}

fn requirements(requires: &Requires, os: Vec<String>) -> Requirements {
    let Requires { bins, any_bins, env, config } = requires.clone();
    Requirements { bins, any_bins, env, config, os }
}

fn installer(installer: &Installer) -> InstallerRow {
    InstallerRow {
        id: installer.id().to_owned(),
        kind: installer.kind.clone(),
        label: installer.label.clone().unwrap_or_else(|| installer.by_hand()),
        bins: installer.bins.clone(),
    }
}

pub(super) fn bins(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((Empty {}, call)) = call.parse() else { return };
    let (loaded, skills) = (call.estate().config.load_full(), call.estate().skills.clone());
    let responder = call.responder;
    ctx.detached(async move {
        let bins = spawn_blocking(move || skills.bins(&loaded)).await.unwrap_or_default();
        responder.ok(&Bins { bins: bins.into_iter().collect() });
    });
}

pub(super) fn install(ctx: &mut Ctx<ConnectionMsg>, call: Call<'_>) {
    let Some((params, call)) = call.parse::<InstallParams>() else { return };
    let (loaded, skills) = (call.estate().config.load_full(), call.estate().skills.clone());
    let responder = call.responder;
    let order = match params {
        InstallParams::Path(params) => Order {
            origin: Origin::Path(params.path.as_str().into()),
            force: params.force.unwrap_or(false),
            limit: FETCH,
        },
        InstallParams::Git(params) => Order {
            origin: Origin::Git(params.url.into_string()),
            force: params.force.unwrap_or(false),
            limit: params.timeout_ms.map_or(FETCH, |ms| Duration::from_millis(ms.get())),
        },
        InstallParams::Installer(params) => {
            ctx.detached(async move { by_hand(&skills, loaded, &params, responder).await });
            return;
        }
        InstallParams::ClawHub(_) | InstallParams::Upload(_) => {
            let instead = "this gateway installs skills neither from ClawHub nor from uploads; install a folder, a \
                           .zip, a .tar.gz or a git URL with `crabtree skills install`";
            return refuse(responder, instead.into());
        }
    };
    ctx.detached(async move {
        match skills.install(loaded, order).await {
            Err(why) => refuse(responder, why),
            Ok(done) => {
                tracing::info!(target: "crabtree::skills", name = %done.name, "skill installed");
                let not_yet = done.why_not.map(|why| format!("; it does not work here yet: {why}"));
                responder.ok(&Installation {
                    ok: true,
                    message: format!("Installed {}{}", done.name, not_yet.unwrap_or_default()),
                    stdout: String::new(),
                    stderr: String::new(),
                    code: Some(0),
                    target_dir: Some(text(&done.dir)),
                    slug: Some(done.name),
                });
            }
        }
    });
}

/// Installers of other package managers are for a person to run.
async fn by_hand(skills: &Arc<Skills>, loaded: Arc<Loaded>, params: &InstallerParams, responder: Responder) {
    let agent_id = match agent(&loaded, params.agent_id.as_deref(), None) {
        Ok(agent_id) => agent_id,
        Err(refusal) => return responder.refuse(refusal),
    };
    let survey = skills.survey(loaded, &agent_id).await;
    let (name, id) = (params.name.as_str(), params.install_id.as_str());
    let why = match survey.skills.iter().find(|(skill, _)| skill.manifest.name == name) {
        None => format!("Skill not found: {name}"),
        Some((skill, _)) => match skill.manifest.needs.install.iter().find(|i| i.id() == id) {
            None => format!("Installer not found: {id}"),
            Some(found) => {
                format!("this gateway runs no installers; do it on its machine: {}", found.by_hand())
            }
        },
    };
    refuse(responder, why);
}

/// Refuses as recorded: the reason stands in the error and in a payload beside it.
fn refuse(responder: Responder, why: String) {
    let payload = Installation {
        ok: false,
        message: why.clone(),
        stdout: String::new(),
        stderr: String::new(),
        code: None,
        slug: None,
        target_dir: None,
    };
    responder.refuse_with(Refusal::failed(why), &payload);
}
