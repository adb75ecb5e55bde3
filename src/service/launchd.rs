//! Property lists of launchd. It starts the gateway again after any failure, also that of its configuration, since it
//! cannot tell exit codes apart; `ThrottleInterval` is how often.

use super::{LABEL, OPEN_FILES, STOP_LIMIT, Scope, Unit, shown};

/// Seconds between two starts.
const PAUSE: u32 = 10;
/// The mask 0077: what the gateway writes is for its user only.
const MASK: u32 = 0o077;

pub(super) fn text(unit: &Unit, stamp: &str) -> String {
    let log = match unit.scope {
        Scope::User => shown(&unit.home.join("Library/Logs/crabtree.log")),
        Scope::System => "/Library/Logs/crabtree.log".to_owned(),
    };
    let arguments: String = unit.arguments().iter().map(|word| format!("    {}\n", string(word))).collect();
    let user = match unit.scope {
        Scope::User => String::new(),
        Scope::System => entry("UserName", &string(&unit.user)),
    };
    let body = [
        entry("Label", &string(LABEL)),
        entry("ProgramArguments", &format!("<array>\n{arguments}  </array>")),
        environment(unit),
        user,
        entry("RunAtLoad", "<true/>"),
        entry("KeepAlive", "<dict>\n    <key>SuccessfulExit</key>\n    <false/>\n  </dict>"),
        entry("ThrottleInterval", &integer(u64::from(PAUSE))),
        entry("ExitTimeOut", &integer(STOP_LIMIT.as_secs())),
        entry("Umask", &integer(u64::from(MASK))),
        entry(
            "SoftResourceLimits",
            &format!(
                "<dict>\n    <key>NumberOfFiles</key>\n    {}\n  </dict>",
                integer(u64::from(OPEN_FILES))
            ),
        ),
        entry("StandardOutPath", &string(&log)),
        entry("StandardErrorPath", &string(&log)),
    ];
    format!(
        "\
<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">
<!-- `crabtree service install`, template {stamp} -->
<plist version=\"1.0\">
<dict>
{}</dict>
</plist>
",
        body.concat()
    )
}

fn environment(unit: &Unit) -> String {
    let state = unit.state_dir.as_deref().map(|dir| ("CRABTREE_STATE_DIR", shown(dir)));
    let path = unit.path.clone().map(|path| ("PATH", path));
    let set: String = state
        .into_iter()
        .chain(path)
        .map(|(name, value)| format!("    <key>{name}</key>\n    {}\n", string(&value)))
        .collect();
    if set.is_empty() {
        return set;
    }
    entry("EnvironmentVariables", &format!("<dict>\n{set}  </dict>"))
}

fn entry(key: &str, value: &str) -> String {
    format!("  <key>{key}</key>\n  {value}\n")
}

fn integer(value: u64) -> String {
    format!("<integer>{value}</integer>")
}

fn string(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<string>{escaped}</string>")
}
