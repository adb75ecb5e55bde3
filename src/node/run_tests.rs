use super::super::roots::Roots;
use super::*;
use crabtree_actors::approvals::ExecApprovalsFile;
use crabtree_actors::process::Guard;
use crabtree_actors::settings::ExecSecurity;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A node in a directory, with a program of its own and a document of approvals.
struct Machine {
    dir: tempfile::TempDir,
    host: Host,
}

impl Machine {
    fn new(security: ExecSecurity, document: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("exec-approvals.json"), document.to_string()).unwrap();
        let host = Host {
            name: "box".into(),
            instance: "i".into(),
            roots: Roots::open(&[]).unwrap(),
            security,
            approvals: ExecApprovalsFile::open(dir.path()),
            guard: Guard::none(),
        };
        let machine = Self { dir, host };
        machine.program("tool", "echo one");
        machine
    }

    fn program(&self, name: &str, line: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().canonicalize().unwrap().join(name).to_string_lossy().into_owned()
    }

    /// What is said to a command: nothing if it may run.
    fn said(&self, params: &Value) -> String {
        match Asked::read(params).map(|asked| judged(&self.host, &asked)) {
            Err(trouble) => trouble.message,
            Ok(Ok(_)) => String::new(),
            Ok(Err(Stale::Nonsense(why))) => why.into(),
            Ok(Err(Stale::Changed(denial))) => denial.message,
        }
    }

    fn plain(&self, argv: &[&str]) -> Value {
        json!({ "command": argv, "cwd": self.path("") })
    }

    /// A command as people agreed to it.
    fn agreed(&self, argv: &[&str], decision: &str) -> Value {
        let prepared = plan::prepare(&self.host, &self.plain(argv)).unwrap();
        let plan = &prepared["plan"];
        json!({
            "command": plan["argv"], "rawCommand": plan["commandText"], "cwd": plan["cwd"], "systemRunPlan": plan,
            "approved": true, "approvalDecision": decision, "runId": "r",
        })
    }
}

fn nothing() -> Value {
    json!({ "version": 1 })
}

const REQUIRED: &str = "SYSTEM_RUN_DENIED: approval required";

#[test]
fn nothing_runs_until_somebody_allows_it() {
    let machine = Machine::new(ExecSecurity::Allowlist, nothing());
    let tool = machine.path("tool");
    assert_eq!(machine.said(&machine.plain(&[&tool])), REQUIRED);
    assert_eq!(machine.said(&machine.plain(&["./tool"])), REQUIRED);
    assert_eq!(machine.said(&machine.plain(&["no-such-program-here"])), REQUIRED);
    let full = Machine::new(ExecSecurity::Full, nothing());
    assert_eq!(full.said(&full.plain(&["./tool"])), "");
    let none = Machine::new(ExecSecurity::Deny, nothing());
    assert_eq!(none.said(&none.plain(&["./tool"])), "SYSTEM_RUN_DISABLED: security=deny");
}

#[test]
fn the_document_allows_programs_and_never_more_than_the_owner() {
    let open = json!({ "version": 1, "defaults": { "security": "full", "ask": "off" } });
    let machine = Machine::new(ExecSecurity::Allowlist, open);
    assert_eq!(machine.said(&machine.plain(&["./tool"])), REQUIRED, "the owner said allowlist");
    let listed = json!({ "version": 1, "agents": { "main": { "allowlist": [{ "pattern": "/**/tool" }] } } });
    let machine = Machine::new(ExecSecurity::Allowlist, listed);
    assert_eq!(machine.said(&machine.plain(&["./tool", "anything"])), "");
    let mut other = machine.plain(&["./tool"]);
    other["agentId"] = json!("ops");
    assert_eq!(machine.said(&other), REQUIRED);
    let mut with_env = machine.plain(&["./tool"]);
    with_env["env"] = json!({ "LD_PRELOAD": "/x" });
    assert_eq!(machine.said(&with_env), REQUIRED, "a variable can turn it into another program");
    let climbing =
        format!("{}/../{}/tool", machine.path(""), machine.dir.path().file_name().unwrap().display());
    assert_eq!(machine.said(&machine.plain(&[&climbing])), REQUIRED);
    let closed = json!({ "version": 1, "defaults": { "security": "deny" } });
    let closed = Machine::new(ExecSecurity::Full, closed);
    assert_eq!(closed.said(&closed.plain(&["./tool"])), "SYSTEM_RUN_DISABLED: security=deny");
    fs::write(machine.dir.path().join("exec-approvals.json"), "{").unwrap();
    assert!(machine.said(&machine.plain(&["./tool"])).starts_with("SYSTEM_RUN_DISABLED: "));
}

#[test]
fn entries_with_arguments_allow_just_those() {
    let listed = |pattern: &str, arguments: &str| {
        let entry = json!({ "pattern": pattern, "argPattern": arguments });
        json!({ "version": 1, "agents": { "main": { "allowlist": [entry] } } })
    };
    let machine = Machine::new(ExecSecurity::Allowlist, listed("/**/tool", ".*"));
    assert_eq!(machine.said(&machine.plain(&["./tool"])), REQUIRED, "what is not understood allows nothing");
}

#[test]
fn what_people_agreed_to_runs_and_nothing_else() {
    let machine = Machine::new(ExecSecurity::Allowlist, nothing());
    let agreed = machine.agreed(&["./tool", "a b"], "allow-once");
    assert_eq!(agreed["systemRunPlan"]["argv"], json!([machine.path("tool"), "a b"]));
    assert_eq!(agreed["rawCommand"], format!("{} \"a b\"", machine.path("tool")));
    assert_eq!(machine.said(&agreed), "");
    let forged = |name: &str, value: Value| {
        let mut forged = agreed.clone();
        forged[name] = value;
        machine.said(&forged)
    };
    let matching = "explicit approval requires matching systemRunPlan";
    assert_eq!(forged("command", json!([machine.path("tool"), "b"])), matching);
    assert_eq!(forged("cwd", json!("/")), matching);
    assert_eq!(forged("env", json!({ "A": "b" })), matching);
    assert_eq!(forged("agentId", json!("ops")), matching);
    assert_eq!(forged("rawCommand", json!("true")), matching);
    assert_eq!(forged("systemRunPlan", Value::Null), matching);
    assert_eq!(forged("systemRunPlan", json!({ "argv": [] })), "systemRunPlan invalid");
    let mut other_file = agreed.clone();
    other_file["systemRunPlan"]["mutableFileOperand"]["path"] = json!("/bin/sh");
    let changed = "SYSTEM_RUN_DENIED: approval script operand changed before execution";
    assert_eq!(machine.said(&other_file), changed);
    assert_eq!(machine.said(&machine.plain(&["./tool", "a b"])), REQUIRED, "once is once");

    machine.program("tool", "rm -rf /");
    assert_eq!(machine.said(&agreed), changed);
    machine.program("tool", "echo one");
    let entry = json!({ "version": 1, "agents": { "main": { "allowlist": [{ "pattern": "/x" }] } } });
    fs::write(machine.dir.path().join("exec-approvals.json"), entry.to_string()).unwrap();
    let policy = "SYSTEM_RUN_DENIED: exec approval policy changed; request approval again";
    assert_eq!(machine.said(&agreed), policy);
}

#[test]
fn the_script_of_an_interpreter_is_what_is_agreed_to() {
    let machine = Machine::new(ExecSecurity::Allowlist, nothing());
    let agreed = machine.agreed(&["sh", "-e", "tool"], "allow-once");
    let operand = &agreed["systemRunPlan"]["mutableFileOperand"];
    assert_eq!((&operand["argvIndex"], &operand["path"]), (&json!(2), &json!(machine.path("tool"))));
    assert_eq!(machine.said(&agreed), "");
    machine.program("tool", "echo two");
    assert!(machine.said(&agreed).ends_with("changed before execution"));
}

#[test]
fn always_is_for_these_words_in_this_directory() {
    let machine = Machine::new(ExecSecurity::Allowlist, nothing());
    let agreed = machine.agreed(&["./tool", "a"], "allow-always");
    assert_eq!(machine.said(&agreed), "");
    assert_eq!(machine.said(&machine.plain(&["./tool", "a"])), "");
    assert_eq!(machine.said(&machine.plain(&[&machine.path("tool"), "a"])), "");
    assert_eq!(machine.said(&machine.plain(&["./tool", "b"])), REQUIRED);
    assert_eq!(machine.said(&machine.plain(&["./tool"])), REQUIRED);
    let elsewhere = json!({ "command": [machine.path("tool"), "a"], "cwd": "/" });
    assert_eq!(machine.said(&elsewhere), REQUIRED);
}

#[test]
fn what_makes_no_sense_is_refused_as_recorded() {
    let machine = Machine::new(ExecSecurity::Full, nothing());
    for command in [json!("ls"), json!([]), json!([""]), json!(null), json!([1])] {
        assert_eq!(machine.said(&json!({ "command": command })), "command required");
    }
    let nowhere = json!({ "command": ["true"], "cwd": "/no/such/directory" });
    assert!(machine.said(&nowhere).contains("working directory does not exist"));
    let env = json!({ "command": ["true"], "env": { "A=B": "" } });
    assert!(machine.said(&env).contains("environment override rejected"));
}

/// The recording `nodehost`.
#[test]
fn results_and_events_have_the_recorded_shape() {
    let ran = Ran { exit: Some(3), stdout: "out\n".into(), stderr: "err\n".into(), ..Ran::default() };
    let expected = json!({
        "exitCode": 3, "timedOut": false, "success": false, "stdout": "out\n", "stderr": "err\n", "error": null,
    });
    assert_eq!(ran.payload(), expected);
    let argv = ["sh", "-c", "echo out; exit 3"].map(str::to_owned).to_vec();
    let asked = Asked { argv, run_id: "r".into(), ..Asked::default() };
    let expected = json!({
        "sessionKey": "node", "runId": "r", "host": "node", "command": "sh -c \"echo out; exit 3\"", "exitCode": 3,
        "timedOut": false, "success": false, "output": "out\n\nerr", "suppressNotifyOnExit": false,
    });
    assert_eq!(ran.facts(asked.facts()), expected);
    let error = "Command failed during launch or output capture (ENOENT)".to_owned();
    let failed = Ran { error: Some(error.clone()), ..Ran::default() };
    let expected = json!({ "timedOut": false, "success": false, "stdout": "", "stderr": "", "error": error });
    assert_eq!(failed.payload(), expected);
    assert_eq!(failed.facts(json!({}))["output"], error);
}
