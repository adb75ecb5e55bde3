//! Gets a repository by the `git` of this machine, with all off that a repository could make it do: hooks, filters,
//! submodules, other transports, questions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// Largest repository with its files, bytes.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// How often is looked how large it has become.
const LOOK: Duration = Duration::from_secs(1);
/// How much of what git complains about is kept, bytes.
const MAX_WORDS: u64 = 2_048;
/// What git takes over of the gateway's environment: where programs, proxies and certificates are.
const PASSED: [&str; 8] = [
    "PATH",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
];

/// How git reaches a repository: the only transport it may use, and the address for it.
///
/// # Errors
/// Why it is not gone to.
pub fn address(repository: &str) -> Result<(&'static str, String), String> {
    if let Ok(url) = reqwest::Url::from_file_path(repository) {
        return Ok(("file", url.to_string()));
    }
    let url = reqwest::Url::parse(repository);
    let url = url.map_err(|_| format!("{repository:?} is neither an https URL nor an absolute path"))?;
    if url.scheme() != "https" {
        return Err(format!("{}: repositories are fetched over https only", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the URL must not hold a name or a password; clone it yourself, and install the folder".into()
        );
    }
    Ok(("https", url.to_string()))
}

/// Clones the newest commit of a repository into a new folder.
///
/// # Errors
/// What went wrong, in git's words as far as it said any.
pub async fn clone(repository: &str, into: &Path, limit: Duration) -> Result<(), String> {
    let (transport, address) = address(repository)?;
    let mut command = Command::new("git");
    command.args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "clone", "--quiet"]);
    command.args(["--depth=1", "--single-branch", "--no-tags", "--no-recurse-submodules", "--template="]);
    command.arg("--").arg(address).arg(into);
    command.env_clear().envs(PASSED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env("GIT_ALLOW_PROTOCOL", transport).env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("HOME", "/nonexistent");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| format!("git cannot be started: {e}; install git first"))?;
    let stderr = child.stderr.take();
    let work = async {
        let mut words = Vec::new();
        if let Some(stderr) = stderr {
            // Whatever comes after that is lost with the pipe, and may end git.
            let _ = stderr.take(MAX_WORDS).read_to_end(&mut words).await;
        }
        (child.wait().await, words)
    };
    let outgrown = async {
        while size(into.to_owned()).await <= MAX_BYTES {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        done = timeout(limit, work) => match done {
            Ok((Ok(status), _)) if status.success() => Ok(()),
            Ok((_, words)) => Err(format!("git: {}", String::from_utf8_lossy(&words).trim())),
            Err(_) => Err(format!("git was not done within {} s", limit.as_secs())),
        },
        () = outgrown => Err(format!("the repository is larger than {MAX_BYTES} bytes")),
    }
}

/// What a folder holds, bytes.
async fn size(folder: PathBuf) -> u64 {
    let measure = move || {
        let (mut bytes, mut waiting) = (0, vec![folder]);
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => waiting.push(entry.path()),
                    _ => bytes += entry.metadata().map_or(0, |meta| meta.len()),
                }
            }
        }
        bytes
    };
    spawn_blocking(measure).await.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_gone_to() {
        assert_eq!(address("https://git.example/a b.git").unwrap().1, "https://git.example/a%20b.git");
        assert_eq!(address("/srv/x.git"), Ok(("file", "file:///srv/x.git".into())));
        assert_eq!(address("/srv/a %b").unwrap().1, "file:///srv/a%20%25b");
        for bad in [
            "http://git.example/x",
            "ssh://git.example/x",
            "git@git.example:x",
            "ext::sh -c evil",
            "file:///srv/x",
            "relative/path",
            "--upload-pack=evil",
            "https://name@git.example/x",
            "https://name:word@git.example/x",
            "",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_git_complains_about_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let why = clone(gone.to_str().unwrap(), &dir.path().join("to"), Duration::from_secs(20)).await;
        assert!(why.as_ref().is_err_and(|why| why.starts_with("git: ") && why.contains("gone")), "{why:?}");
        let late = clone(gone.to_str().unwrap(), &dir.path().join("to"), Duration::ZERO).await;
        assert_eq!(late, Err("git was not done within 0 s".into()));
    }
}
