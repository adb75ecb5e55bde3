//! What a `SKILL.md` says of its skill: the YAML between two lines `---` at its beginning.

use serde::Deserialize;
use serde_saphyr::{Error, budget, options};

/// Largest `SKILL.md`, bytes.
pub const MAX_FILE: u64 = 256 * 1024;
/// Longest front matter, bytes; no more of a file is read to know the skill.
pub const MAX_FRONT_MATTER: usize = 16 * 1024;
/// Longest name of a skill.
pub const MAX_NAME: usize = 64;

/// What a skill says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its name: `[a-z0-9-]{1,64}`.
    pub name: String,
    /// What it is for, on one line.
    pub description: String,
    /// Where people read of it.
    pub homepage: Option<String>,
    /// Whether people may call it by a slash command.
    pub user_invocable: bool,
    /// Whether models hear of it.
    pub model_invocable: bool,
    /// What it asks for.
    pub needs: Needs,
}

/// What a skill asks for: `metadata.openclaw`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Needs {
    /// Its name in the configuration, if it is not its own.
    pub skill_key: Option<String>,
    /// Its mark.
    pub emoji: Option<String>,
    /// Where people read of it.
    pub homepage: Option<String>,
    /// It works whatever is missing.
    pub always: bool,
    /// The variable that `apiKey` of the configuration gives it.
    pub primary_env: Option<String>,
    /// The platforms it works on: `darwin`, `linux`, `win32`; any if there is none.
    pub os: Vec<String>,
    /// What has to be there.
    pub requires: Requires,
    /// How what it needs is installed.
    pub install: Vec<Installer>,
}

/// What has to be there for a skill to work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Requires {
    /// Programs, all of them.
    pub bins: Vec<String>,
    /// Programs, one of them.
    pub any_bins: Vec<String>,
    /// Variables of the environment.
    pub env: Vec<String>,
    /// Paths in the configuration that are set and not off.
    pub config: Vec<String>,
}

/// A way to install what a skill needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Installer {
    /// Its name.
    pub id: Option<String>,
    /// `brew`, `node`, `go`, `uv`, `download`.
    pub kind: String,
    /// What people call it.
    pub label: Option<String>,
    /// The programs it brings.
    pub bins: Vec<String>,
    /// The platforms it is for; any if there is none.
    pub os: Vec<String>,
    /// What `brew` installs.
    pub formula: Option<String>,
    /// What `npm` and `uv` install.
    pub package: Option<String>,
    /// What `go` installs.
    pub module: Option<String>,
    /// What is downloaded.
    pub url: Option<String>,
}

impl Installer {
    /// Its name, its kind if it has none.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.kind)
    }

    /// What a person does to the same end.
    pub fn by_hand(&self) -> String {
        let named = |what: &Option<String>| what.clone().unwrap_or_else(|| self.id().to_owned());
        match self.kind.as_str() {
            "brew" => format!("brew install {}", named(&self.formula)),
            "node" => format!("npm install -g {}", named(&self.package)),
            "go" => format!("go install {}", named(&self.module)),
            "uv" => format!("uv tool install {}", named(&self.package)),
            "download" => format!("download {}", named(&self.url)),
            kind => format!("install {} by {kind}", named(&self.package)),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FrontMatter {
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    homepage: Option<String>,
    #[serde(default = "yes")]
    user_invocable: bool,
    #[serde(default)]
    disable_model_invocation: bool,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    openclaw: Option<Needs>,
    /// OpenClaw's older name, in many published skills.
    clawdbot: Option<Needs>,
}

fn yes() -> bool {
    true
}

/// Reads the beginning of a `SKILL.md`, at most [`MAX_FRONT_MATTER`] bytes of it.
///
/// # Errors
/// What is wrong with it, for whoever wrote it.
pub fn parse(head: &[u8]) -> Result<Manifest, String> {
    let read = yaml(front_matter(head)?).map_err(|e| {
        let what = e.without_snippet();
        format!("the front matter is no valid YAML: {what}; quote texts that hold `: ` or begin with a sign")
    })?;
    if !is_name(&read.name) {
        return Err(format!(
            "name {:?} in the front matter must be 1 to {MAX_NAME} of a-z, 0-9 and -",
            read.name.chars().take(MAX_NAME).collect::<String>()
        ));
    }
    let description = one_line(&read.description);
    if description.is_empty() {
        return Err(
            "the front matter has no description: say what the skill is for, and when to use it".into()
        );
    }
    let needs = read.metadata.openclaw.or(read.metadata.clawdbot).unwrap_or_default();
    Ok(Manifest {
        name: read.name,
        description,
        homepage: read.homepage.or_else(|| needs.homepage.clone()),
        user_invocable: read.user_invocable,
        model_invocable: !read.disable_model_invocation,
        needs,
    })
}

/// Whether it is the name of a skill, and so a safe name of its folder.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn yaml(text: &str) -> Result<FrontMatter, Error> {
    // Nobody needs anchors here, and without them a document cannot grow while it is read.
    let budget = budget! { max_events: 5_000, max_depth: 16, max_anchors: 0, max_aliases: 0 };
    // Lines are counted from the first of the file.
    serde_saphyr::from_str_with_options(&format!("\n{text}"), options! { budget: budget })
}

fn front_matter(head: &[u8]) -> Result<&str, String> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let mut lines = head.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    if first.trim_ascii_end() != b"---" {
        return Err(
            "it does not begin with front matter: a line `---`, `name:` and `description:`, `---`".into()
        );
    }
    let mut end = first.len();
    for line in lines {
        if line.trim_ascii_end() == b"---" {
            return std::str::from_utf8(&head[first.len()..end]).map_err(|_| "it is no UTF-8 text".into());
        }
        end += line.len();
    }
    Err(format!("its front matter is not closed by a line `---` within {MAX_FRONT_MATTER} bytes"))
}

/// The text with single spaces for all white space and control characters.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(front: &str) -> Result<Manifest, String> {
        parse(format!("---\n{front}\n---\n# Body\n").as_bytes())
    }

    #[test]
    fn a_small_front_matter_is_enough() {
        let manifest = read("name: note-taker\ndescription: Takes notes.").unwrap();
        assert_eq!((manifest.name.as_str(), manifest.description.as_str()), ("note-taker", "Takes notes."));
        assert!(manifest.user_invocable && manifest.model_invocable);
        assert_eq!(manifest.needs, Needs::default());
        let windows = parse(b"\xef\xbb\xbf---\r\nname: a\r\ndescription: b\r\n---\r\n").unwrap();
        assert_eq!(windows.name, "a");
    }

    #[test]
    fn metadata_is_read_as_json_and_as_yaml() {
        let as_json = r#"name: x
description: "Plays: music."
homepage: https://x.example
user-invocable: false
disable-model-invocation: true
metadata:
  {
    "openclaw":
      {
        "emoji": "🎵", "os": ["darwin", "linux"], "primaryEnv": "X_KEY",
        "requires": { "bins": ["a"], "anyBins": ["b", "c"], "env": ["X_KEY"], "config": ["x.y"] },
        "install": [ { "id": "brew", "kind": "brew", "formula": "x", "bins": ["a"], "label": "Install x", }, ],
      },
  }"#;
        let as_yaml = "name: x\ndescription: >\n  Plays:\n  music.\nhomepage: https://x.example\n\
            user-invocable: false\ndisable-model-invocation: true\nmetadata:\n  clawdbot:\n    emoji: 🎵\n    \
            os: [darwin, linux]\n    primaryEnv: X_KEY\n    requires:\n      bins: [a]\n      anyBins: [b, c]\n      \
            env: [X_KEY]\n      config: [x.y]\n    install:\n      - {id: brew, kind: brew, formula: x, bins: [a], \
            label: Install x}";
        let manifest = read(as_json).unwrap();
        assert_eq!(read(as_yaml).unwrap(), manifest);
        assert_eq!((manifest.user_invocable, manifest.model_invocable), (false, false));
        assert_eq!(manifest.needs.requires.any_bins, ["b", "c"]);
        assert_eq!(manifest.needs.install[0].by_hand(), "brew install x");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let broken = [
            ("", "no valid YAML|name \"\" in the front matter"),
            ("description: x", "name \"\" in the front matter must be 1 to 64"),
            ("name: Upper\ndescription: x", "must be 1 to 64 of a-z, 0-9 and -"),
            ("name: ../up\ndescription: x", "must be 1 to 64 of a-z, 0-9 and -"),
            ("name: a", "no description"),
            ("name: a\ndescription: \" \\n\"", "no description"),
            ("name: a\ndescription: use: it", "not allowed in this context at line 3"),
            ("name: [a", "no valid YAML"),
            ("name: a\ndescription: b\nmetadata: {openclaw: {requires: {bins: jq}}}", "no valid YAML"),
        ];
        for (front, expected) in broken {
            let why = read(front).unwrap_err();
            assert!(expected.split('|').any(|part| why.contains(part)), "{front}: {why}");
        }
        assert!(parse(b"# Just text").unwrap_err().contains("does not begin with front matter"));
        assert!(parse(b"---\nname: a\n").unwrap_err().contains("not closed"));
        assert!(parse(b"---\nname: \xff\n---\n").unwrap_err().contains("UTF-8"));
        assert!(!is_name(&"a".repeat(65)) && is_name(&"a".repeat(64)) && !is_name("a_b") && !is_name("."));
    }

    #[test]
    fn a_document_that_grows_or_nests_is_refused() {
        let bomb = "name: a\ndescription: b\na: &a [x]\nb: [*a, *a]";
        assert!(read(bomb).unwrap_err().contains("no valid YAML"));
        let deep = format!("name: a\ndescription: b\nc: {}{}", "[".repeat(40), "]".repeat(40));
        assert!(read(&deep).unwrap_err().contains("no valid YAML"));
        let many = format!("name: a\ndescription: b\nc: [{}]", "1,".repeat(6_000));
        assert!(read(&many).unwrap_err().contains("no valid YAML"));
    }
}
