//! Child processes and their guards: what a guard passes on, and that nothing outlives it.

use crate::client::TOKEN;
use crabtree_actors::estate::{Boot, Brought, Estate, EstateArgs};
use crabtree_actors::process::{Child, Command, Exit, Guard, SpawnError, Streams};
use crabtree_actors::settings::{AuthSecret, ExecSandbox, ExecSettings, Loaded, Secret, Settings};
use crabtree_actors::store::Store;
use crabtree_actors::tools::{Call, Place, ToolResult, exec};
use crabtree_actors::tree::{Clock, Slot};
use crabtree_protocol::{RunId, SessionKey};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long it may take until everything is gone: two graces of the guard and some.
const GONE_WITHIN: Duration = Duration::from_secs(5);

fn guard() -> Guard {
    Guard::at(env!("CARGO_BIN_EXE_crabtree"))
}

fn shell(line: &str) -> Command {
    Command::new("sh").args(["-c", line])
}

async fn spawn(line: &str) -> Child {
    shell(line).spawn(&guard()).await.unwrap()
}

async fn written(mut child: Child) -> (String, Exit) {
    drop(child.stdin.take());
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    (text, child.wait().await)
}

/// A family that does not want to end: a parent that ignores SIGTERM, a child of it, and, where there are reapers, one
/// that left the group and whose parent is gone. Each writes its pid.
fn family(pids: &Path) -> String {
    let pids = pids.display();
    let runaway = if cfg!(target_os = "linux") {
        format!("(setsid sh -c 'trap \"\" TERM; echo $$ >>{pids}; sleep 1000 & echo $! >>{pids}; wait' &);")
    } else {
        String::new()
    };
    format!("{runaway} trap '' TERM; echo $$ >>{pids}; sleep 1000 & echo $! >>{pids}; wait; sleep 1000")
}

/// How many processes the family has.
const FAMILY: usize = if cfg!(target_os = "linux") { 4 } else { 2 };

async fn born(pids: &Path) -> Vec<Pid> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(pids).unwrap_or_default();
        let found: Vec<Pid> = text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect();
        if found.len() == FAMILY && text.ends_with('\n') {
            return found;
        }
        assert!(Instant::now() < deadline, "only {found:?} were born");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn gone(pids: &[Pid]) {
    let start = Instant::now();
    while let Some(left) = pids.iter().find(|pid| test_kill_process(**pid).is_ok()) {
        assert!(start.elapsed() < GONE_WITHIN, "{left:?} is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_goes_in_and_comes_out_passes_untouched() {
    let mut child = spawn("cat; echo to the side >&2; exit 7").await;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"in\0and out").await.unwrap();
    drop(stdin);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    child.stdout.take().unwrap().read_to_end(&mut out).await.unwrap();
    child.stderr.take().unwrap().read_to_end(&mut err).await.unwrap();
    assert_eq!((out.as_slice(), err.as_slice()), (&b"in\0and out"[..], &b"to the side\n"[..]));
    assert_eq!(child.wait().await, Exit::Code(7));
    assert_eq!(child.wait().await, Exit::Code(7));
}

#[tokio::test]
async fn a_process_that_closes_its_output_is_heard_doing_so() {
    let mut child = spawn("exec >&- 2>&-; sleep 1000").await;
    let mut nothing = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut nothing).await.unwrap();
    child.stderr.take().unwrap().read_to_end(&mut nothing).await.unwrap();
    assert_eq!((nothing.as_slice(), child.kill().await), (&[][..], Exit::Signal(15)));
}

#[tokio::test]
async fn the_end_of_a_process_is_told_as_it_was() {
    for (line, exit) in [
        ("exit 0", Exit::Code(0)),
        ("exit 3", Exit::Code(3)),
        ("exit 137", Exit::Code(137)),
        ("kill -9 $$", Exit::Signal(9)),
        ("kill -TERM $$", Exit::Signal(15)),
    ] {
        assert_eq!(spawn(line).await.wait().await, exit, "{line}");
    }
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let missing = Command::new("no-such-program-here").spawn(&guard()).await.unwrap_err();
    assert!(matches!(&missing, SpawnError::Program(name, e)
        if name == "no-such-program-here" && e.kind() == std::io::ErrorKind::NotFound));
    let missing = shell("true").dir("/no/such/directory").spawn(&guard()).await.unwrap_err();
    assert_eq!(missing.to_string(), "there is no directory /no/such/directory");
    assert!(matches!(shell("true").spawn(&Guard::none()).await, Err(SpawnError::NoGuard)));
    for stranger in ["/no/such/guard", "/bin/echo"] {
        let refused = shell("true").spawn(&Guard::at(stranger)).await;
        assert!(matches!(refused, Err(SpawnError::Guard(_))), "{stranger}");
    }
}

#[test]
fn a_guard_without_a_gateway_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let touched = dir.path().join("touched");
    let run = |args: &[&str]| {
        let mut guard = std::process::Command::new(env!("CARGO_BIN_EXE_crabtree"));
        guard.arg("guard").args(args).arg(&touched).stdin(Stdio::null()).stderr(Stdio::null());
        guard.status().unwrap().code()
    };
    assert_eq!(run(&["--", "touch"]), Some(2));
    assert_eq!(run(&["touch"]), Some(2));
    assert!(!touched.exists());
}

#[tokio::test]
async fn two_outputs_may_share_a_pipe_and_the_environment_is_extended() {
    let command = shell("echo 1; echo 2 >&2; echo 3; echo ${MORE-no} ${HOME:+home}; read x || echo nothing");
    let command = command.streams(Streams::Merged).env("MORE", "yes");
    let (text, exit) = written(command.spawn(&guard()).await.unwrap()).await;
    assert_eq!((text.as_str(), exit), ("1\n2\n3\nyes home\nnothing\n", Exit::Code(0)));
}

#[tokio::test]
async fn what_a_process_leaves_behind_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let line = format!(
        "({}) & while [ $(wc -l <{pids}) -lt {FAMILY} ]; do sleep 0.01; done; exit 5",
        family(&pids),
        pids = pids.display()
    );
    std::fs::write(&pids, "").unwrap();
    let mut child = spawn(&line).await;
    let family = born(&pids).await;
    assert_eq!(child.wait().await, Exit::Code(5));
    // Its end is told when the others have ended too.
    assert!(family.iter().all(|pid| test_kill_process(*pid).is_err()));
}

#[tokio::test]
async fn a_dropped_child_ends_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let child = spawn(&family(&pids)).await;
    let family = born(&pids).await;
    assert!(family.contains(&Pid::from_raw(child.pid().cast_signed()).unwrap()));
    drop(child);
    gone(&family).await;
}

#[tokio::test]
async fn a_child_can_end_in_peace_when_it_is_killed() {
    let mut child = spawn("trap 'echo goodbye; exit 4' TERM; echo ready; while :; do sleep 0.01; done").await;
    let mut out = child.stdout.take().unwrap();
    let mut ready = [0; 6];
    out.read_exact(&mut ready).await.unwrap();
    assert_eq!(child.kill().await, Exit::Code(4));
    let mut rest = String::new();
    out.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "goodbye\n");
}

#[tokio::test]
async fn the_group_of_a_killed_guard_is_killed() {
    let mut child = spawn("echo $PPID; sleep 1000 & echo $!; wait").await;
    let mut out = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut lines = [String::new(), String::new()];
    for line in &mut lines {
        tokio::io::AsyncBufReadExt::read_line(&mut out, line).await.unwrap();
    }
    let [guard, sleep] = lines.map(|line| Pid::from_raw(line.trim().parse().unwrap()).unwrap());
    kill_process(guard, Signal::KILL).unwrap();
    assert_eq!(child.wait().await, Exit::Lost);
    gone(&[sleep, Pid::from_raw(child.pid().cast_signed()).unwrap()]).await;
}

#[tokio::test]
async fn nothing_is_left_when_the_gateway_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let mut parent = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "processes::a_parent_of_a_family"])
        .env("FAMILY_PIDS", &pids)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let family = born(&pids).await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    gone(&family).await;
}

/// No test: a process that has a child, for the test above.
#[tokio::test]
#[ignore = "started by another test, as a process of its own"]
async fn a_parent_of_a_family() {
    let Some(pids) = std::env::var_os("FAMILY_PIDS") else { return };
    let mut child = spawn(&family(Path::new(&pids))).await;
    child.wait().await;
}

/// The tool `exec` at a workspace of its own.
struct Desk {
    dir: tempfile::TempDir,
    settings: ExecSettings,
    told: Arc<Mutex<Vec<ToolResult>>>,
}

impl Desk {
    fn new() -> Self {
        let settings = ExecSettings::default();
        Self { dir: tempfile::tempdir().unwrap(), settings, told: Arc::default() }
    }

    fn workspace(&self) -> std::path::PathBuf {
        self.dir.path().join("state/workspace")
    }

    fn call(&self, args: Value) -> impl Future<Output = ToolResult> + use<> {
        let told = self.told.clone();
        let call = Call {
            id: "call_1".into(),
            args,
            place: Arc::new(Place {
                agent_id: "main".into(),
                session: SessionKey::main("main"),
                run_id: RunId::from("run"),
                workspace: self.workspace(),
                store: Store { slot: Slot::default(), estate: estate(&self.dir.path().join("state")) },
            }),
            progress: Arc::new(move |result| told.lock().push(result)),
        };
        exec::tool(&self.settings, guard(), Slot::default(), Slot::default()).call(call)
    }
}

fn estate(state_dir: &Path) -> Arc<Estate> {
    Estate::new(EstateArgs {
        clock: Clock::system(),
        boot: Boot { version: "0", build_id: "0".into(), boot_id: "0".into(), host: "h".into() },
        loaded: Loaded {
            path: state_dir.join("openclaw.json"),
            exists: false,
            text: String::new(),
            raw: json!({}),
            settings: Settings::default(),
            warnings: Vec::new(),
            hash: "0".into(),
            state_dir: state_dir.to_owned(),
            auth: None,
            origin: Default::default(),
        },
        auth: AuthSecret::Token(Secret::new(TOKEN)),
        device_key: [7; 32],
        log_ring: Arc::default(),
        brought: Brought::default(),
        guard: Guard::none(),
    })
}

#[tokio::test]
async fn a_command_runs_in_the_workspace_and_tells_how_it_goes() {
    let desk = Desk::new();
    let result = desk
        .call(json!({ "command": "pwd; echo $V >&2; until [ -e on ]; do sleep 0.01; done; echo bye",
        "env": { "V": "v" } }));
    let workspace = desk.workspace();
    let answer = async {
        while desk.told.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        std::fs::write(workspace.join("on"), "").unwrap();
    };
    let (result, ()) = tokio::join!(result, answer);
    let cwd = workspace.to_str().unwrap();
    assert_eq!(result.as_text(), format!("{cwd}\nv\nbye"));
    assert_eq!((&result.details["status"], &result.details["cwd"]), (&json!("completed"), &json!(cwd)));
    assert!(!result.is_error);
    let told = desk.told.lock();
    let details = &told[0].details;
    assert_eq!((&details["status"], &details["cwd"]), (&json!("running"), &json!(cwd)));
    assert!(details["pid"].as_u64().is_some() && details["startedAt"].as_u64().is_some());
    assert!(told[0].as_text().starts_with(cwd) && details["tail"] == told[0].as_text().as_str());
}

#[tokio::test]
async fn a_workdir_is_found_and_a_missing_one_is_said() {
    let desk = Desk::new();
    std::fs::create_dir_all(desk.workspace().join("sub")).unwrap();
    let here = desk.call(json!({ "command": "pwd -P; exit 3", "workdir": "sub" })).await;
    let sub = desk.workspace().canonicalize().unwrap().join("sub");
    assert_eq!(here.as_text(), format!("{}\n\n(Command exited with code 3)", sub.display()));
    let nowhere = desk.call(json!({ "command": "touch /tmp/never", "workdir": "nowhere" })).await;
    assert!(nowhere.is_error && nowhere.as_text().contains("give another workdir"), "{}", nowhere.as_text());
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed() {
    let desk = Desk::new();
    let result = desk.call(json!({ "command": "echo a; echo $$; sleep 1000", "timeout": 0.5 })).await;
    let text = result.as_text();
    assert!(result.is_error && text.contains("timed out after 0.5 seconds"), "{text}");
    assert_eq!(
        (&result.details["status"], &result.details["exitReason"]),
        (&json!("failed"), &json!("overall-timeout"))
    );
    gone(&[Pid::from_raw(text.lines().nth(1).unwrap().parse().unwrap()).unwrap()]).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_its_command() {
    let desk = Desk::new();
    let pids = desk.dir.path().join("pids");
    let call = tokio::spawn(desk.call(json!({ "command": family(&pids) })));
    let family = born(&pids).await;
    call.abort();
    gone(&family).await;
}

#[tokio::test]
async fn an_endless_output_takes_no_more_than_its_room() {
    let desk = Desk::new();
    let result = desk.call(json!({ "command": "yes | head -c 5000000; echo; echo end" })).await;
    let text = result.as_text();
    assert!(
        text.len() < 201_000 && text.contains("bytes left out") && text.ends_with("\nend"),
        "{}",
        text.len()
    );
}

#[tokio::test]
async fn a_sandboxed_command_writes_to_its_workspace_only() {
    let mut desk = Desk::new();
    desk.settings.sandbox = ExecSandbox::Bwrap;
    let state = desk.dir.path().join("state");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("gateway.token"), "secret").unwrap();
    let line = format!("echo in >mine; cat {0}/gateway.token; touch /etc/theirs; ls -A {0}", state.display());
    let result = desk.call(json!({ "command": line })).await;
    let text = result.as_text();
    if text.contains("no bwrap in PATH") || text.contains("bwrap: ") {
        assert!(result.is_error || result.details["exitCode"] != 0);
        println!("skipped: bubblewrap cannot be used here: {text}");
        return;
    }
    assert_eq!(std::fs::read_to_string(desk.workspace().join("mine")).unwrap(), "in\n");
    assert!(!text.contains("secret") && text.contains("workspace"), "{text}");
    assert!(!Path::new("/etc/theirs").exists());
}
