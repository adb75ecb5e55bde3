//! Skills: which there are, what they need, and installing one.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::params::record;
use crate::value::{Int, Text, string_enum};

/// Parameters of `skills.status`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusParams {
    /// The agent; the default one, or that of the session, when absent.
    pub agent_id: Option<Text>,
    /// A session of the agent.
    pub session_key: Option<Text>,
}

record! {
    /// Result of `skills.status`.
    pub struct Status {
        /// The directory the agent works in.
        workspace_dir: String,
        /// Where skills are installed.
        managed_skills_dir: String,
        /// The agent.
        agent_id: String,
        /// The skills, by name.
        skills: Vec<SkillRow>,
        /// What cannot be used (ours).
        broken: Vec<BrokenSkill>,
    }
}

record! {
    /// A skill, and whether it works here.
    pub struct SkillRow {
        /// Its name.
        name: String,
        /// What it is for.
        description: String,
        /// Where it was found: `openclaw-workspace`, `openclaw-managed`, `openclaw-extra`.
        source: String,
        /// Whether it came with the gateway: never.
        bundled: bool,
        /// Its `SKILL.md`.
        file_path: String,
        /// Its folder.
        base_dir: String,
        /// Its name in the configuration.
        skill_key: String,
        /// Whether it works whatever is missing.
        always: bool,
        /// Whether the configuration says it may not be used.
        disabled: bool,
        /// Whether a list of allowed skills leaves it out: never.
        blocked_by_allowlist: bool,
        /// Whether the agent's list of skills leaves it out: never.
        blocked_by_agent_filter: bool,
        /// Whether it can be used.
        eligible: bool,
        /// Whether it is for other platforms.
        platform_incompatible: bool,
        /// Whether models hear of it.
        model_visible: bool,
        /// Whether it says people may call it.
        user_invocable: bool,
        /// Whether people can.
        command_visible: bool,
        /// What it requires.
        requirements: Requirements,
        /// What of it is not there.
        missing: Requirements,
        /// The paths of the configuration it requires.
        config_checks: Vec<ConfigCheck>,
        /// How what it needs is installed.
        install: Vec<Installer>,
        ; optional
        /// Its mark.
        emoji: String,
        /// Where people read of it.
        homepage: String,
        /// The variable that `apiKey` of the configuration gives it.
        primary_env: String,
    }
}

record! {
    /// What a skill requires, or what of it is missing.
    pub struct Requirements {
        /// Programs, all of them.
        bins: Vec<String>,
        /// Programs, one of them.
        any_bins: Vec<String>,
        /// Variables of the environment.
        env: Vec<String>,
        /// Paths in the configuration.
        config: Vec<String>,
        /// Platforms.
        os: Vec<String>,
    }
}

record! {
    /// A path of the configuration that a skill requires.
    pub struct ConfigCheck {
        /// Which.
        path: String,
        /// Whether it is set, and not off.
        satisfied: bool,
    }
}

record! {
    /// A way to install what a skill needs.
    pub struct Installer {
        /// Its name.
        id: String,
        /// `brew`, `node`, `go`, `uv`, `download`.
        kind: String,
        /// What people call it.
        label: String,
        /// The programs it brings.
        bins: Vec<String>,
    }
}

record! {
    /// A skill that cannot be used (ours).
    pub struct BrokenSkill {
        /// Where it was found.
        source: String,
        /// Its folder.
        path: String,
        /// Why.
        reason: String,
    }
}

record! {
    /// Result of `skills.bins`.
    pub struct Bins {
        /// The programs that skills ask for or bring.
        bins: Vec<String>,
    }
}

/// Parameters of `skills.install`. The first three are stock clients', the others ours.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum InstallParams {
    /// Runs an installer of a skill that is there.
    Installer(InstallerParams),
    /// From ClawHub.
    ClawHub(ClawHubParams),
    /// What was uploaded.
    Upload(UploadParams),
    /// A folder, a `.zip` or a `.tar.gz` on the gateway's machine.
    Path(PathParams),
    /// A git repository.
    Git(GitParams),
}

/// Most milliseconds that fetching may be given.
pub const MAX_FETCH_MS: u64 = 600_000;

/// Runs an installer of a skill that is there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstallerParams {
    /// The agent whose skill it is.
    pub agent_id: Option<Text>,
    /// The skill.
    pub name: Text,
    /// The installer.
    pub install_id: Text,
    /// Ignored, as by current gateways.
    pub dangerously_force_unsafe_install: Option<bool>,
    /// How long it may take.
    pub timeout_ms: Option<Int<1_000>>,
}

string_enum! {
    /// The word `clawhub`.
    any_of pub enum ClawHubWord {
        /// `clawhub`.
        ClawHub = "clawhub",
    }
}

/// From ClawHub.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClawHubParams {
    /// The agent it is for.
    pub agent_id: Option<Text>,
    /// Says that it is this kind.
    pub source: ClawHubWord,
    /// Which skill.
    pub slug: Text,
    /// Which version.
    pub version: Option<Text>,
    /// Whether it may take the place of another.
    pub force: Option<bool>,
    /// How long it may take.
    pub timeout_ms: Option<Int<1_000>>,
}

string_enum! {
    /// The word `upload`.
    any_of pub enum UploadWord {
        /// `upload`.
        Upload = "upload",
    }
}

/// What was uploaded.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UploadParams {
    /// The agent it is for.
    pub agent_id: Option<Text>,
    /// Says that it is this kind.
    pub source: UploadWord,
    /// The upload.
    pub upload_id: Text,
    /// The name it gets.
    pub slug: Text,
    /// Whether it may take the place of another.
    pub force: Option<bool>,
    /// Its checksum.
    pub sha256: Option<Text<64, 64>>,
    /// How long it may take.
    pub timeout_ms: Option<Int<1_000>>,
}

string_enum! {
    /// The word `path`.
    any_of pub enum PathWord {
        /// `path`.
        Path = "path",
    }
}

/// A folder, a `.zip` or a `.tar.gz` on the gateway's machine.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathParams {
    /// Says that it is this kind.
    pub source: PathWord,
    /// Where it is, absolute.
    pub path: Text<4096>,
    /// Whether it may take the place of another.
    pub force: Option<bool>,
}

string_enum! {
    /// The word `git`.
    any_of pub enum GitWord {
        /// `git`.
        Git = "git",
    }
}

/// A git repository.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitParams {
    /// Says that it is this kind.
    pub source: GitWord,
    /// Its https URL, or its absolute path on the gateway's machine.
    pub url: Text<4096>,
    /// Whether it may take the place of another.
    pub force: Option<bool>,
    /// How long fetching may take; two minutes when absent.
    pub timeout_ms: Option<Int<1_000, MAX_FETCH_MS>>,
}

record! {
    /// Result of `skills.install`, which comes with a refusal, too.
    pub struct Installation {
        /// Whether it was installed.
        ok: bool,
        /// What was done, or why it was not.
        message: String,
        /// What an installer said: nothing, as none is run.
        stdout: String,
        /// What it complained about: nothing.
        stderr: String,
        /// How it ended: 0, or `null` after a failure.
        code: Option<i64>,
        ; optional
        /// The skill's name.
        slug: String,
        /// Its folder.
        target_dir: String,
    }
}
