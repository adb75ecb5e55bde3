//! The configuration file, as it is, with the files it includes.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;

/// Files that a configuration may include, itself one of them.
const MAX_FILES: usize = 64;
/// Longest of them, bytes.
const MAX_FILE: u64 = 4 << 20;

/// One file of a configuration.
pub struct SettingsFile {
    /// Where it goes, seen from the state directory.
    pub name: PathBuf,
    /// What it says.
    pub text: String,
}

/// A configuration, and what it names that does not come with it.
#[derive(Default)]
pub struct Settings {
    /// Its files, the one that includes the others first.
    pub files: Vec<SettingsFile>,
    /// Included files that are left out, and why.
    pub left_out: Vec<(String, String)>,
}

/// Reads the configuration of the installation in `dir`; without files if it has none.
///
/// # Errors
/// A file cannot be read, or is too long.
pub fn read(dir: &Path) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    let mut open = vec![PathBuf::from("openclaw.json")];
    while let Some(name) = open.pop() {
        if settings.files.iter().any(|file| file.name == name) {
            continue;
        }
        if settings.files.len() >= MAX_FILES {
            bail!("the configuration has more than {MAX_FILES} files");
        }
        let path = dir.join(&name);
        let text = match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if !settings.files.is_empty() {
                    settings.left_out.push((name.display().to_string(), "there is no such file".into()));
                }
                continue;
            }
            Ok(found) if found.len() > MAX_FILE => {
                bail!("{} is longer than {} MiB", path.display(), MAX_FILE >> 20)
            }
            _ => fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?,
        };
        if let Ok(value) = json5::from_str::<Value>(&text) {
            let mut names = Vec::new();
            included(&value, &mut names);
            for included in names {
                match beside(&name, &included) {
                    Some(inside) => open.push(inside),
                    None => {
                        settings.left_out.push((included, "it is not in the installation's folder".into()))
                    }
                }
            }
        }
        settings.files.push(SettingsFile { name, text });
    }
    Ok(settings)
}

fn included(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("$include", Value::String(file)) => names.push(file.clone()),
                    ("$include", Value::Array(files)) => {
                        names.extend(files.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    _ => included(value, names),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| included(item, names)),
        _ => {}
    }
}

/// A file named in another one; `None` if that leads out of the folder.
fn beside(name: &Path, included: &str) -> Option<PathBuf> {
    let mut path = name.parent()?.to_owned();
    for part in Path::new(included).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            _ => return None,
        }
    }
    Some(path)
}

/// Puts a file in its place, for its owner only, whole or not at all; what stood there is kept as `.bak`.
///
/// # Errors
/// Those of the files.
pub fn put(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let beside = |suffix: &str| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        path.with_file_name(name)
    };
    if let Ok(before) = fs::read_to_string(path) {
        write(&beside(".bak.new"), &before)?;
        fs::rename(beside(".bak.new"), beside(".bak"))?;
    }
    write(&beside(".new"), text)?;
    fs::rename(beside(".new"), path)?;
    fs::File::open(dir)?.sync_all()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn included_files_come_along_as_far_as_they_are_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir_all(home.join("parts")).unwrap();
        fs::write(dir.path().join("outside.json"), "{}").unwrap();
        let text = r#"{ // comments stay
            agents: { $include: "./parts/agents.json" }, a: { $include: ["../outside.json", "/etc/passwd", "gone.json"] },
        }"#;
        fs::write(home.join("openclaw.json"), text).unwrap();
        fs::write(home.join("parts/agents.json"), r#"{ "$include": "../more.json" }"#).unwrap();
        fs::write(home.join("more.json"), r#"{ "$include": "openclaw.json" }"#).unwrap();
        let settings = read(&home).unwrap();
        let mut names: Vec<_> = settings.files.iter().map(|file| file.name.display().to_string()).collect();
        assert_eq!((names[0].as_str(), settings.files[0].text.as_str()), ("openclaw.json", text));
        names.sort();
        assert_eq!(names, ["more.json", "openclaw.json", "parts/agents.json"]);
        let mut left_out: Vec<_> = settings.left_out.iter().map(|(name, _)| name.as_str()).collect();
        left_out.sort_unstable();
        assert_eq!(left_out, ["../outside.json", "/etc/passwd", "gone.json"]);
        assert!(read(dir.path()).unwrap().files.is_empty());
    }

    #[test]
    fn a_file_is_its_owners_and_the_last_one_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/openclaw.json");
        put(&path, "one").unwrap();
        put(&path, "two").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let kept = dir.path().join("a/openclaw.json.bak");
        assert_eq!(
            (fs::read_to_string(&path).unwrap(), fs::read_to_string(&kept).unwrap()),
            ("two".into(), "one".into())
        );
        assert_eq!((mode(&path), mode(&kept)), (0o600, 0o600));
    }
}
