use clap::CommandFactory;

use super::*;

fn parsed(line: &str) -> Cli {
    Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string()).expect("it parses")
}

#[test]
fn the_definition_is_sound_and_every_command_teaches() {
    fn teaches(command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let example = ["Example:\n  ", "Examples:\n  "].iter().any(|title| help.contains(title));
        assert!(example && help.contains("crabtree"), "{}", command.get_name());
        command.get_subcommands().for_each(teaches);
    }
    Cli::command().debug_assert();
    Cli::command().get_subcommands().for_each(teaches);
}

#[test]
fn nothing_means_run_and_start_is_run() {
    assert!(parsed("crabtree").command.is_none());
    let Some(Command::Run(run)) = parsed("crabtree start --port 0 --json-logs").command else {
        unreachable!("start is run")
    };
    assert_eq!((run.port, run.json_logs), (Some(0), true));
}

#[test]
fn global_options_may_follow_the_command() {
    let cli = parsed("crabtree call health --json --url ws://h:1 --timeout-ms 5 --state-dir /s");
    assert!(cli.global.json && cli.global.url.as_deref() == Some("ws://h:1"));
    assert_eq!(cli.global.timeout_ms, Some(5));
    assert!(
        matches!(cli.command, Some(Command::Call { method, params }) if method == "health" && params == "{}")
    );
    assert!(Cli::try_parse_from(["crabtree", "agent"]).is_err_and(|error| error.exit_code() == 2));
}

/// One key in 64 begins with a dash.
#[test]
fn random_values_may_begin_with_a_dash() {
    let cli = parsed("crabtree secrets seal --stdin --key -Y4 --token -t");
    assert_eq!(cli.global.token.as_deref(), Some("-t"));
    let Some(Command::Secrets { command: secrets::SecretsCommand::Seal { key, .. } }) = cli.command else {
        unreachable!("it is secrets seal")
    };
    assert_eq!(key.as_deref(), Some("-Y4"));
    parsed("crabtree health --password -p");
    parsed("crabtree node run --bootstrap-token -b");
}

#[test]
fn flags_become_settings() {
    let cli = parsed("crabtree run --token t --port 7 --bind lan --log-level warn");
    let Some(Command::Run(run)) = cli.command else { unreachable!("it is run") };
    assert_eq!(
        cli.global.flags(&run),
        json!({"gateway": {"auth": {"mode": "token", "token": "t"}, "port": 7, "bind": "lan"},
               "logging": {"level": "warn", "consoleLevel": "warn"}})
    );
    assert_eq!(Global::default().flags(&RunArgs::default()), json!({}));
}

#[test]
fn terminals_are_safe_from_text() {
    assert_eq!(printable("a\x1b[2Jb\n\tc\u{9b}"), "a\u{fffd}[2Jb\n\tc\u{fffd}");
}
