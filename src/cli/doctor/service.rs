//! Whether the gateway is started with the machine, and as this program would have it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Finding, Name, Scene, blocking};
use crate::service::{self, Platform, Scope};

/// Where packages put units of the machine.
const PACKAGED: [&str; 2] = ["/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];

/// A place where a file may stand, and what it is if it does.
type Place = (PathBuf, Platform, Scope);

pub(super) async fn check(name: Name, scene: Arc<Scene>) -> Vec<Finding> {
    let home = scene.env().get("HOME").map(PathBuf::from).unwrap_or_default();
    let settings = scene.env().get("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
    blocking(move || look(name, &places(&home, &settings))).await.unwrap_or_default()
}

fn places(home: &Path, settings: &Path) -> Vec<Place> {
    let platform = Platform::here();
    let own = [Scope::System, Scope::User]
        .map(|scope| (service::file(platform, scope, home, settings), platform, scope));
    let packaged = PACKAGED.iter().filter(|_| platform == Platform::Systemd);
    let packaged = packaged.map(|dir| (Path::new(dir).join(service::unit_name()), platform, Scope::System));
    own.into_iter().chain(packaged).collect()
}

/// What is to be said of each file that is there.
fn look(name: Name, places: &[Place]) -> Vec<Finding> {
    let found: Vec<Finding> =
        places.iter().filter(|(file, ..)| file.is_file()).map(|place| judge(name, place)).collect();
    if !found.is_empty() {
        return found;
    }
    vec![name.warn(
        "no service is installed: the gateway is not started with the machine, nor again when it ends",
        "crabtree service install; in a container its restart policy does that",
    )]
}

fn judge(name: Name, (file, platform, scope): &Place) -> Finding {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let shown = file.display();
    if let Some(program) = program(&text)
        && !Path::new(program).is_file()
    {
        return name.problem(
            format!("{shown} starts {program}, which is not there"),
            "install the program there, or `crabtree service install` anew",
        );
    }
    let renew = match scope {
        Scope::User => "crabtree service install",
        Scope::System => "sudo crabtree service install --system",
    };
    match service::stamp_in(&text) {
        Some(stamp) if stamp == service::stamp(*platform, *scope) => {
            name.ok(format!("{shown} is installed and up to date"))
        }
        Some(_) => name.warn(format!("{shown} is of another version of crabtree"), renew),
        None => name.warn(
            format!("{shown} was not made by `crabtree service install`, so whether it fits is not known"),
            &format!("{renew} --dry-run shows what it would do; what was there is kept as .bak"),
        ),
    }
}

/// What a unit starts, if it is told by its path alone.
fn program(text: &str) -> Option<&str> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("ExecStart="))?;
    let program = line.trim_start_matches(['-', '@', ':', '+', '!']).split_whitespace().next()?;
    program.starts_with('/').then_some(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Unit;

    #[test]
    fn a_unit_must_start_a_program_that_is_there_and_be_of_this_version() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("crabtree.service");
        let places = [(file.clone(), Platform::Systemd, Scope::User)];
        let status = || look(Name("service"), &places)[0].status.name();
        assert_eq!(status(), "warn");
        std::fs::write(&file, "[Service]\nExecStart=/no/such/crabtree run\n").expect("writable");
        assert_eq!(status(), "problem");
        std::fs::write(&file, "[Service]\nExecStart=-/bin/sh run\n").expect("writable");
        assert!(look(Name("service"), &places)[0].seen.contains("not made by"));
        let unit = Unit { program: "/bin/sh".into(), ..Unit::published(Platform::Systemd, Scope::User) };
        std::fs::write(&file, unit.text()).expect("writable");
        assert_eq!(status(), "ok");
        let stamp = service::stamp(Platform::Systemd, Scope::User);
        std::fs::write(&file, unit.text().replace(&stamp, "00000000")).expect("writable");
        assert!(look(Name("service"), &places)[0].seen.contains("another version"));
    }
}
