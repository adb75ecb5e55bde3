//! Opens a file with the program that this machine's desktop has for it.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};

/// How long the opener is watched: what fails, fails soon, and an editor may stay for hours (as OpenClaw has it).
const WATCHED: Duration = Duration::from_secs(5);
/// How much is told of what it complained of, in bytes.
const COMPLAINT: usize = 4096;
/// How X11 and Wayland are found.
const DISPLAYS: [&str; 2] = ["DISPLAY", "WAYLAND_DISPLAY"];

/// Who opens files here.
pub struct Opener {
    program: String,
    has_display: bool,
}

impl Opener {
    /// That of this machine.
    pub fn of_this_machine() -> Self {
        let is_set = |name: &&str| std::env::var_os(*name).is_some_and(|value| !value.is_empty());
        match cfg!(target_os = "macos") {
            true => Self::new("open", true),
            false => Self::new("xdg-open", DISPLAYS.iter().any(is_set)),
        }
    }

    /// This program, which is given the path.
    pub fn new(program: &str, has_display: bool) -> Self {
        Self { program: program.into(), has_display }
    }

    /// Opens the file. What was opened stays when the gateway ends: somebody may be writing in it.
    ///
    /// # Errors
    /// Why it is not open, in words for its operator.
    pub async fn open(&self, path: &Path) -> Result<(), String> {
        let headless = || {
            // In OpenClaw's words: clients know them.
            format!(
                "Cannot open file in headless environment. File path: {}. This environment appears to lack a graphical \
                 or terminal browser handler.",
                path.display()
            )
        };
        if !self.has_display {
            return Err(headless());
        }
        let mut command = Command::new(&self.program);
        // One argument and no shell: the path is what it is, and begins with `/`, so that it is no option.
        command.arg(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => headless(),
            _ => format!("Failed to open config file: {e}"),
        })?;
        let stderr = child.stderr.take();
        let watched = tokio::spawn(ended(child, stderr));
        match tokio::time::timeout(WATCHED, watched).await {
            Ok(Ok(Err(why))) if why.contains("no method available") => Err(headless()),
            Ok(Ok(Err(why))) => Err(format!("Failed to open config file: {why}")),
            Ok(Ok(Ok(()))) | Err(_) => Ok(()),
            Ok(Err(e)) => Err(format!("Failed to open config file: {e}")),
        }
    }
}

/// How it ended. It is read to its end, so that what it says later harms nobody.
async fn ended(mut child: Child, stderr: Option<ChildStderr>) -> Result<(), String> {
    let mut said = VecDeque::new();
    if let Some(mut stderr) = stderr {
        let mut piece = [0; 1024];
        while let Ok(length @ 1..) = stderr.read(&mut piece).await {
            said.extend(&piece[..length]);
            said.drain(..said.len().saturating_sub(COMPLAINT));
        }
    }
    let status = child.wait().await.map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(said.make_contiguous()).trim().to_owned();
    match (status.success(), said.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => Err(format!("it ended with {status}")),
        (false, false) => Err(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(dir: &Path, script: &str) -> String {
        let path = dir.join("opener");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path.to_str().unwrap().into()
    }

    #[tokio::test]
    async fn the_path_is_one_argument_whatever_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("a b; touch hurt $(touch hurt) '\"");
        let seen = dir.path().join("seen");
        let opener = program(dir.path(), &format!("printf '%s|' \"$@\" > '{}'", seen.display()));
        Opener::new(&opener, true).open(&odd).await.unwrap();
        assert_eq!(std::fs::read_to_string(seen).unwrap(), format!("{}|", odd.display()));
        assert!(!dir.path().join("hurt").exists() && !Path::new("hurt").exists());
    }

    #[tokio::test]
    async fn why_it_is_not_open_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.json");
        let said =
            async |program: &str, display| Opener::new(program, display).open(&file).await.unwrap_err();
        assert!(said("xdg-open", false).await.starts_with("Cannot open file in headless environment."));
        assert!(said("/no/such/opener", true).await.contains("headless"));
        let fails = program(dir.path(), "echo 'it is broken' >&2; exit 4");
        assert_eq!(said(&fails, true).await, "Failed to open config file: it is broken");
        let none = program(dir.path(), "echo 'xdg-open: no method available for opening' >&2; exit 3");
        assert!(said(&none, true).await.contains("headless"));
    }
}
