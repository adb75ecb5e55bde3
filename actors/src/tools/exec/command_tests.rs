use super::*;
use std::fs::{self, Permissions};

fn words(line: &str) -> Option<Vec<Vec<String>>> {
    segments(line)
}

fn strings(segments: &[&[&str]]) -> Option<Vec<Vec<String>>> {
    Some(segments.iter().map(|argv| argv.iter().map(ToString::to_string).collect()).collect())
}

#[test]
fn lists_and_pipes_are_taken_apart() {
    assert_eq!(words("rg -n foo"), strings(&[&["rg", "-n", "foo"]]));
    assert_eq!(words("a|b || c&&d; e"), strings(&[&["a"], &["b"], &["c"], &["d"], &["e"]]));
    assert_eq!(words("a 'x | y; $z' \"b && c\" \\;d"), strings(&[&["a", "x | y; $z", "b && c", ";d"]]));
    assert_eq!(words("a\nb ;"), strings(&[&["a"], &["b"]]));
    assert_eq!(words("a \"it's \\\"so\\\"\" b#c"), strings(&[&["a", "it's \"so\"", "b#c"]]));
}

#[test]
fn output_may_go_nowhere() {
    assert_eq!(words("a x 2>&1 | b"), strings(&[&["a", "x"], &["b"]]));
    assert_eq!(words("a >/dev/null 2> /dev/null; b"), strings(&[&["a"], &["b"]]));
    assert_eq!(words("a file2>/dev/null"), strings(&[&["a", "file2"]]));
    for line in
        ["a > /dev/nullx", "a >&3", "a >>/dev/null", "a &>/dev/null", "a 2>&1file", "a > 1", "a >'&1'"]
    {
        assert_eq!(words(line), None, "{line}");
    }
}

#[test]
fn what_a_shell_could_hide_cannot_be_told() {
    for line in [
        "a $(b)",
        "a `b`",
        "a \"$(b)\"",
        "a \"`b`\"",
        "a $HOME",
        "a <(b)",
        "a < file",
        "a > file",
        "a >> file",
        "a <<EOF\nx\nEOF",
        "(a)",
        "a &",
        "a & b",
        "a |& b",
        "a ;; b",
        "a &&& b",
        "a && && b",
        "a ||",
        "| a",
        "; a",
        "a # b\nc",
        "# a",
        "a \\\nb",
        "a 'b",
        "a \"b",
        "a \\",
        "a\rb",
        "a *(e:b:)",
        "",
        "  ",
        ";",
    ] {
        assert_eq!(words(line), None, "{line:?}");
    }
}

/// A directory with programs in it, to be looked up in.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn with(programs: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for program in programs {
            let path = dir.path().join(program);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        Self { dir }
    }

    fn verdict(&self, command: &str, patterns: &[&str]) -> Verdict {
        let path = self.dir.path().join("bin");
        self.verdict_in(path.as_os_str(), command, patterns)
    }

    fn verdict_in(&self, path: &OsStr, command: &str, patterns: &[&str]) -> Verdict {
        let root = self.dir.path();
        let here = |pattern: &&str| Rule::new(&pattern.replace('^', root.to_str().unwrap()), None);
        let allowlist: Vec<Rule> = patterns.iter().map(here).collect();
        verdict(command, &allowlist, &Lookup { dir: root, path, home: Some(root) })
    }

    fn missing(&self, programs: &[&str]) -> Verdict {
        let full = |program: &&str| match program.strip_prefix('^') {
            Some(rest) => format!("{}{rest}", self.dir.path().display()),
            None => program.to_string(),
        };
        Verdict::Missing(programs.iter().map(full).collect())
    }
}

#[test]
fn a_rule_for_some_arguments_allows_no_others() {
    let machine = Machine::with(&["bin/python3"]);
    let root = machine.dir.path();
    let path = root.join("bin");
    let lookup = Lookup { dir: root, path: path.as_os_str(), home: None };
    let rule = |arguments: &str| [Rule::new("python3", Some(arguments))];
    for (arguments, command, is_allowed) in [
        ("^safe\\.py$", "python3 safe.py", true),
        ("^safe\\.py$", "python3 other.py", false),
        ("^safe\\.py$", "python3 safe.py --and more", false),
        ("^safe\\.py", "python3 safe.py *", false),
        ("^$", "python3", true),
        ("^(?!evil)", "python3 safe.py", false),
        ("sha256:argv:00", "python3 safe.py", false),
    ] {
        let expected = if is_allowed { Verdict::Allowed } else { machine.missing(&["^/bin/python3"]) };
        assert_eq!(verdict(command, &rule(arguments), &lookup), expected, "{arguments}: {command}");
    }
    let both = [Rule::new("python3", Some("^safe\\.py$")), Rule::new("python3", None)];
    assert_eq!(verdict("python3 other.py", &both, &lookup), Verdict::Allowed);
}

#[test]
fn every_program_of_a_line_must_be_listed() {
    let machine = Machine::with(&["bin/rg", "bin/head", "sub/tool"]);
    for (pattern, command) in [
        ("^/bin/rg", "rg x"),
        ("^/bin/*", "rg x | head -1 && rg y"),
        ("~/bin/*", "rg x"),
        ("^/**", "./sub/tool"),
        ("^/sub/too?", "sub/tool"),
        ("rg", "rg x"),
        ("r*", "rg 'a;b' *.rs"),
        ("**", "rg x | sub/tool"),
        ("^/bin/rg", "\"rg\" 2>&1"),
    ] {
        assert_eq!(machine.verdict(command, &[pattern]), Verdict::Allowed, "{pattern}: {command}");
    }
    assert_eq!(machine.verdict("rg x | head", &["^/bin/rg"]), machine.missing(&["^/bin/head"]));
    assert_eq!(machine.verdict("rg; rg; nope", &[]), machine.missing(&["^/bin/rg", "nope"]));
    assert_eq!(machine.verdict("nope", &["**"]), machine.missing(&["nope"]));
    assert_eq!(machine.verdict("sub/tool", &["^/*", "tool"]), machine.missing(&["^/sub/tool"]));
    assert_eq!(machine.verdict("RG", &["rg"]), machine.missing(&["RG"]));
}

#[test]
fn a_name_in_path_is_not_a_path_of_that_name() {
    let machine = Machine::with(&["bin/rg", "evil/rg", "rg"]);
    assert_eq!(machine.verdict("./rg", &["rg", "^/bin/*"]), machine.missing(&["^/rg"]));
    assert_eq!(machine.verdict("bin/../evil/rg", &["^/bin/**"]), Verdict::Opaque);
    let path = format!("evil:{}/bin", machine.dir.path().display());
    assert_eq!(machine.verdict_in(path.as_ref(), "rg", &["rg"]), machine.missing(&["rg"]));
}

#[test]
fn what_is_no_program_for_certain_is_left_to_a_person() {
    let machine = Machine::with(&["bin/rg", "bin/printf", "bin/command", "bin/env", "bin/a=b", "bin/r*"]);
    for command in [
        "eval rg",
        "command rg",
        "builtin rg",
        "exec rg",
        ". rg",
        "cd /tmp && rg",
        "export PATH=/tmp; rg",
        "alias rg=x\nrg",
        "printf -v PATH /tmp; rg",
        "PATH=/tmp rg",
        "a=b rg",
        "=rg",
        "~/bin/rg",
        "r* x",
        "{rg,x}",
        "{ rg; }",
        "if rg; then rg; fi",
        "! rg",
        "while rg; do rg; done",
        "'' rg",
    ] {
        assert_eq!(machine.verdict(command, &["**"]), Verdict::Opaque, "{command}");
    }
}
