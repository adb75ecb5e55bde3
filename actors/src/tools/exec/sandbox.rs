//! bubblewrap: a command sees the machine as it is but can write only to the workspace, and has no network.

use std::ffi::OsString;
use std::path::Path;

/// The program.
pub const BWRAP: &str = "bwrap";

/// Where a command is kept. All paths are real ones, without links.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    /// What it may write to.
    pub workspace: &'a Path,
    /// Where it starts.
    pub dir: &'a Path,
    /// What it is not shown: the gateway's secrets are there. The workspace may be in it.
    pub hidden: Option<&'a Path>,
}

/// The arguments of bubblewrap that come before those of the command.
pub fn arguments(cell: Cell<'_>) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        .into_iter()
        .chain(["--tmpfs", "/tmp"])
        .map(Into::into)
        .collect();
    let mut add = |words: &[&dyn AsRef<std::ffi::OsStr>]| {
        args.extend(words.iter().map(|word| word.as_ref().to_owned()));
    };
    let inside = |hidden: &&Path| hidden.starts_with(cell.workspace);
    // What comes later lies on top.
    if let Some(hidden) = cell.hidden.filter(|hidden| !inside(hidden)) {
        add(&[&"--tmpfs", &hidden]);
    }
    add(&[&"--bind", &cell.workspace, &cell.workspace]);
    if let Some(hidden) = cell.hidden.filter(inside) {
        add(&[&"--tmpfs", &hidden]);
    }
    add(&[&"--unshare-all", &"--die-with-parent", &"--new-session", &"--chdir", &cell.dir, &"--"]);
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(workspace: &str, hidden: Option<&str>) -> String {
        let (workspace, dir) = (Path::new(workspace), Path::new("/w/sub"));
        let args = arguments(Cell { workspace, dir, hidden: hidden.map(Path::new) });
        args.into_iter().map(|arg| arg.into_string().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_the_workspace_can_be_written() {
        assert_eq!(
            line("/w", None),
            "--ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --bind /w /w \
             --unshare-all --die-with-parent --new-session --chdir /w/sub --"
        );
    }

    #[test]
    fn the_gateways_state_is_hidden_and_a_workspace_in_it_is_not() {
        assert!(line("/s/w", Some("/s")).contains("--tmpfs /s --bind /s/w /s/w --unshare"));
        assert!(line("/w", Some("/w/.state")).contains("--bind /w /w --tmpfs /w/.state --unshare"));
    }
}
