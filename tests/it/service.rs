//! The gateway as a service: its files come and go, systemd hears how it is, and containers ask whether it serves.

mod footprint;
mod told;

use crate::gateway::Process;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A user's home, and a `systemctl` that writes down what it is asked to do.
struct Home(TempDir);

impl Home {
    /// Where systemd is as `state` says, and the service as `active` says.
    fn new(state: &str, active: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "#!/bin/sh\necho \"$*\" >> {asked}\ncase \"$*\" in\n*is-system-running) echo {state};;\n\
             *is-active*) echo {active};;\n*show*) printf 'ActiveState={active}\\nSubState=x\\nMainPID=7\\n';;\n\
             *enable*) [ ! -e {refuses} ] || {{ echo no such thing >&2; exit 4; }};;\nesac\n",
            asked = dir.path().join("asked").display(),
            refuses = dir.path().join("refuses").display(),
        );
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("systemctl"), script).unwrap();
        fs::set_permissions(bin.join("systemctl"), PermissionsExt::from_mode(0o755)).unwrap();
        Self(dir)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
        program.arg("service").args(args).env_remove("XDG_CONFIG_HOME").env_remove("CRABTREE_STATE_DIR");
        program.env("HOME", self.0.path()).env("USER", "nobody-of-this-name");
        program.env("PATH", format!("{}:/usr/bin:/bin", self.0.path().join("bin").display()));
        program.output().unwrap()
    }

    /// What it says in JSON, and its exit code.
    fn told(&self, args: &[&str]) -> (Value, Option<i32>) {
        let output = self.run(&[args, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}")), output.status.code())
    }

    /// What systemctl was asked to do, beside answering.
    fn asked(&self) -> Vec<String> {
        let all = fs::read_to_string(self.0.path().join("asked")).unwrap_or_default();
        let questions = ["is-system-running", "is-active", "show"];
        all.lines().filter(|line| !questions.iter().any(|q| line.contains(q))).map(str::to_owned).collect()
    }

    fn unit(&self) -> std::path::PathBuf {
        self.0.path().join(".config/systemd/user/crabtree.service")
    }
}

/// accepts: K8
#[test]
fn a_service_is_installed_found_and_removed_again() {
    let home = Home::new("running", "inactive");
    let (told, code) = home.told(&["status"]);
    assert_eq!((&told["installed"], code), (&json!(false), Some(1)), "{told}");
    let (told, code) = home.told(&["install"]);
    assert_eq!((code, &told["changed"]), (Some(0), &json!(true)), "{told}");
    assert_eq!(home.asked(), ["--user daemon-reload", "--user enable --now crabtree"]);
    assert!(told["next"][0].as_str().unwrap().contains("enable-linger"), "{told}");
    let text = fs::read_to_string(home.unit()).unwrap();
    assert!(text.contains(&format!("ExecStart={} run\n", env!("CARGO_BIN_EXE_crabtree"))), "{text}");
    assert_eq!(fs::metadata(home.unit()).unwrap().permissions().mode() & 0o777, 0o644);
    let (told, _) = home.told(&["install"]);
    assert_eq!(told["changed"], false, "a second time it is there already: {told}");
    let (told, _) = home.told(&["status"]);
    assert_eq!((&told["installed"], &told["upToDate"]), (&json!(true), &json!(true)), "{told}");
    let (told, code) = home.told(&["uninstall"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(!home.unit().exists());
    assert_eq!(home.asked()[4..], ["--user disable --now crabtree", "--user daemon-reload"]);
    let (told, code) = home.told(&["uninstall"]);
    assert_eq!((code, &told["ok"]), (Some(1), &json!(false)), "{told}");
}

/// accepts: K8
#[test]
fn where_systemd_does_not_run_the_file_is_written_and_the_rest_is_said() {
    for home in [Home::new("offline", "inactive"), Home::new("running", "inactive")] {
        let is_absent = home.0.path().join("bin/systemctl");
        if fs::read_to_string(&is_absent).unwrap().contains("echo running") {
            // It would be found in /usr/bin where the machine has one.
            fs::write(&is_absent, "#!/bin/sh\nexit 127\n").unwrap();
        }
        let (told, code) = home.told(&["install"]);
        assert_eq!((code, &told["steps"]), (Some(0), &json!([])), "{told}");
        assert_eq!(told["next"][0], "systemd does not run here: once it does, run");
        assert_eq!(told["next"][1], "systemctl --user daemon-reload");
        assert_eq!(told["next"][2], "systemctl --user enable --now crabtree");
        assert!(home.unit().exists() && home.asked().is_empty());
        let (told, code) = home.told(&["status"]);
        assert_eq!((code, &told["managerRuns"]), (Some(1), &json!(false)), "{told}");
        let (told, _) = home.told(&["uninstall"]);
        assert!(!home.unit().exists(), "{told}");
    }
}

#[test]
fn a_dry_run_and_a_print_write_nothing() {
    let home = Home::new("running", "inactive");
    let (told, _) = home.told(&["install", "--dry-run"]);
    assert_eq!(
        told["steps"],
        json!(["systemctl --user daemon-reload", "systemctl --user enable --now crabtree"])
    );
    let printed = home.run(&["install", "--print", "--platform", "launchd"]);
    assert!(String::from_utf8_lossy(&printed.stdout).starts_with("<?xml"), "{printed:?}");
    let (told, _) =
        home.told(&["install", "--system", "--dry-run", "--program", "/usr/bin/env", "--user", "nix-da"]);
    let steps = told["steps"].as_array().unwrap();
    assert!(
        steps[0].as_str().unwrap().starts_with("useradd --system --home-dir /var/lib/crabtree "),
        "{told}"
    );
    assert_eq!(steps[2], "systemctl enable --now crabtree");
    assert!(!home.0.path().join(".config").exists() && home.asked().is_empty());
    home.run(&["install"]);
    let (told, _) = home.told(&["uninstall", "--dry-run"]);
    assert_eq!(told["steps"][0], "systemctl --user disable --now crabtree", "{told}");
    assert!(home.unit().exists());
}

#[test]
fn what_is_not_ours_is_kept_and_never_removed() {
    let home = Home::new("running", "active");
    fs::create_dir_all(home.unit().parent().unwrap()).unwrap();
    fs::write(home.unit(), "[Service]\nExecStart=/bin/true\n").unwrap();
    let (told, code) = home.told(&["uninstall"]);
    assert!(code == Some(1) && told["error"]["message"].as_str().unwrap().contains("not made by"), "{told}");
    let (told, _) = home.told(&["install"]);
    let next = told["next"][0].as_str().unwrap();
    assert!(next.starts_with("systemctl --user restart crabtree: it still runs"), "{told}");
    let kept = fs::read_to_string(home.unit().with_extension("service.bak")).unwrap();
    assert_eq!(kept, "[Service]\nExecStart=/bin/true\n");
}

#[test]
fn what_cannot_work_is_refused_and_says_what_can() {
    let home = Home::new("running", "inactive");
    let said = |args: &[&str]| {
        let (told, code) = home.told(args);
        assert_eq!(code, Some(1), "{told}");
        format!("{} {}", told["error"]["message"], told["error"]["next"])
    };
    let at_home = said(&["install", "--system", "--program", "/home/me/crabtree"]);
    assert!(at_home.contains("sudo install -m 755 /home/me/crabtree /usr/local/bin/"), "{at_home}");
    let lines = said(&["install", "--program", "/opt/a\nExecStart=/bin/evil"]);
    assert!(lines.contains("control characters"), "{lines}");
    fs::write(home.0.path().join("refuses"), "").unwrap();
    let refused = said(&["install"]);
    assert!(refused.contains("no such thing") && refused.contains("journal"), "{refused}");
}

/// With the machine's own systemctl, which can do that without a systemd that runs.
#[test]
fn a_service_is_put_into_an_image() {
    let image = tempfile::tempdir().unwrap();
    let units = image.path().join("etc/systemd/system");
    if Command::new("systemctl").arg("--version").output().is_err() {
        eprintln!("skipped: no systemctl here");
        return;
    }
    let root = image.path().to_str().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_crabtree"));
    let run = |args: &[&str]| Command::new(program).arg("service").args(args).output().unwrap();
    let made =
        run(&["install", "--system", "--root", root, "--program", "/usr/local/bin/crabtree", "--json"]);
    let told: Value = serde_json::from_slice(&made.stdout).unwrap();
    let enable = told["next"].as_array().unwrap().iter().filter_map(Value::as_str);
    let enable = enable.into_iter().find(|step| step.contains(" enable ")).unwrap().to_owned();
    let published = include_str!("../../config/crabtree.service");
    assert_eq!(fs::read_to_string(units.join("crabtree.service")).unwrap(), published);
    let enabled = Command::new("sh").args(["-c", &enable]).output().unwrap();
    assert!(enabled.status.success(), "{enable}: {enabled:?}");
    assert!(units.join("multi-user.target.wants/crabtree.service").is_symlink());
}

/// accepts: K8
#[tokio::test]
async fn a_container_learns_whether_its_gateway_serves() {
    let state = tempfile::tempdir().unwrap();
    let ask = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_crabtree"));
        let output = program.args(["healthcheck", "--json"]).env("CRABTREE_STATE_DIR", state.path()).output();
        let output = output.unwrap();
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    let (code, told) = ask();
    assert!(code == Some(1) && told["error"]["next"].as_str().unwrap().contains("crabtree run"), "{told}");
    let gateway = Process::start(state.path()).await;
    let (code, told) = ask();
    assert_eq!(
        (code, &told["ok"], told["address"].as_str()),
        (Some(0), &json!(true), Some(&*gateway.addr.to_string()))
    );
    gateway.signal("STOP");
    let stopped = std::time::Instant::now();
    let (code, told) = ask();
    assert!(
        code == Some(1) && told["error"]["message"].as_str().unwrap().contains("does not answer"),
        "{told}"
    );
    assert!(stopped.elapsed() < std::time::Duration::from_secs(15));
    gateway.kill();
    assert_eq!(ask().0, Some(1));
}
