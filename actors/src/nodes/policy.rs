//! Which commands of a node may be used at all: those its platform is there for, what the configuration adds, and less
//! what it takes away. What remains is only a ceiling: a person still has to approve it. Pure.

use crate::settings::NodeCommandSettings;

/// What kind of machine a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// iPhone and iPad.
    Ios,
    /// Apple Watch.
    Watchos,
    /// Android.
    Android,
    /// A Mac.
    Macos,
    /// Windows.
    Windows,
    /// Linux.
    Linux,
    /// Anything else.
    Unknown,
}

impl Platform {
    /// The platform that a node's own words mean, its kind of device if they mean none.
    pub fn of(platform: &str, family: Option<&str>) -> Self {
        const BEGINNINGS: [(&str, Platform); 12] = [
            ("ios", Platform::Ios),
            ("ipad", Platform::Ios),
            ("iphone", Platform::Ios),
            ("watchos", Platform::Watchos),
            ("apple watch", Platform::Watchos),
            ("watch", Platform::Watchos),
            ("android", Platform::Android),
            ("mac", Platform::Macos),
            ("darwin", Platform::Macos),
            ("windows", Platform::Windows),
            ("win32", Platform::Windows),
            ("linux", Platform::Linux),
        ];
        let named = |words: &str| {
            let words = words.trim().to_lowercase();
            BEGINNINGS.iter().find(|(beginning, _)| words.starts_with(beginning)).map(|(_, found)| *found)
        };
        named(platform).or_else(|| family.and_then(named)).unwrap_or(Self::Unknown)
    }

    fn is_desktop(self) -> bool {
        matches!(self, Self::Macos | Self::Windows | Self::Linux)
    }

    /// What the platform is there for.
    fn commands(self) -> &'static [&'static str] {
        match self {
            Self::Ios => IOS,
            Self::Watchos => &["device.info", "device.status", "system.notify"],
            Self::Android => ANDROID,
            Self::Macos => MACOS,
            Self::Windows => &[
                "camera.list",
                "location.get",
                "device.info",
                "device.status",
                "system.notify",
                "computer.act",
            ],
            Self::Linux => &["camera.list", "location.get", "system.notify", "computer.act"],
            Self::Unknown => &["camera.list", "location.get", "system.notify"],
        }
    }

    fn is_for(self, command: &str) -> bool {
        self.commands().contains(&command)
            || TALK.contains(&command)
            || (self.is_desktop() && DESKTOP.contains(&command))
    }
}

const IOS: &[&str] = &[
    "camera.list",
    "location.get",
    "device.info",
    "device.status",
    "contacts.search",
    "calendar.events",
    "reminders.list",
    "photos.latest",
    "motion.activity",
    "motion.pedometer",
    "system.notify",
];
const ANDROID: &[&str] = &[
    "camera.list",
    "location.get",
    "notifications.list",
    "notifications.actions",
    "system.notify",
    "device.info",
    "device.status",
    "device.permissions",
    "device.health",
    "device.apps",
    "contacts.search",
    "calendar.events",
    "callLog.search",
    "reminders.list",
    "photos.latest",
    "motion.activity",
    "motion.pedometer",
    "mobile.ui.observe",
    "mobile.ui.act",
];
const MACOS: &[&str] = &[
    "camera.list",
    "camera.ptz.status",
    "location.get",
    "device.info",
    "device.status",
    "device.apps",
    "contacts.search",
    "calendar.events",
    "reminders.list",
    "photos.latest",
    "motion.activity",
    "motion.pedometer",
    "system.notify",
    "computer.act",
    "canvas.present",
    "canvas.hide",
    "canvas.navigate",
    // Beyond the recorded three, of one's own panel: they neither look elsewhere nor run anything.
    "canvas.snapshot",
    "canvas.a2ui.pushJSONL",
    "canvas.a2ui.reset",
];
/// What whoever can talk is there for, whatever it runs on.
const TALK: &[&str] = &["talk.ptt.start", "talk.ptt.stop", "talk.ptt.cancel", "talk.ptt.once"];
/// What a computer is there for beside, once a person has approved it.
const DESKTOP: &[&str] = &[
    "system.run",
    "system.run.prepare",
    "system.which",
    "system.execApprovals.get",
    "system.execApprovals.set",
    "browser.proxy",
    "browser.proxy.upload.v1",
    "mcp.tools.call.v1",
    "screen.snapshot",
    "desktop.stream",
    "fs.listDir",
    "ollama.chat",
    "ollama.models",
    "terminal.upload",
];
/// What looks into people's lives, speaks for them or runs scripts on their screens: only if the configuration allows it by name.
const OPT_IN: &[&str] = &[
    "canvas.eval",
    "camera.snap",
    "camera.clip",
    "camera.ptz.control",
    "screen.record",
    "contacts.add",
    "calendar.add",
    "reminders.add",
    "health.summary",
    "sms.send",
    "sms.search",
];

/// What acts in a person's place, though platforms are there for it.
const ACTING: &[&str] = &["computer.act", "mobile.ui.act", "notifications.actions"];

/// Whether who can do this shows the canvas.
pub fn shows_canvas(command: &str) -> bool {
    command.starts_with("canvas.")
}

/// Why a command may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// The configuration denies it.
    Denied,
    /// The configuration would have to allow it.
    OptIn,
    /// The platform is not there for it.
    NotListed,
    /// The node does not offer it, or nobody approved that it does.
    NotDeclared,
}

/// The ceiling of one node.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// What the node is.
    pub platform: Platform,
    /// What the configuration says of commands.
    pub commands: &'a NodeCommandSettings,
}

impl Policy<'_> {
    /// Whether a command may be used, whoever declares it.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, command: &str) -> Result<(), Barrier> {
        let named = |list: &[String]| list.iter().any(|name| name.trim() == command);
        match () {
            () if named(&self.commands.deny) => Err(Barrier::Denied),
            () if named(&self.commands.allow) => Ok(()),
            () if OPT_IN.contains(&command) => Err(Barrier::OptIn),
            () if self.platform.is_for(command) => Ok(()),
            () => Err(Barrier::NotListed),
        }
    }

    /// Whether it may be used with nobody having looked at it: the platform itself is there for it (nothing that only
    /// the configuration adds, nothing a computer does once a person has approved it, so never `system.run`), and it
    /// acts in nobody's place.
    pub fn is_harmless(&self, command: &str) -> bool {
        let native = self.platform.commands().contains(&command) || TALK.contains(&command);
        native && !ACTING.contains(&command) && self.admits(command).is_ok()
    }

    /// What of the declared commands may be used, in their order, each once.
    pub fn kept<'c>(&self, declared: impl Iterator<Item = &'c str>) -> Vec<String> {
        let mut kept: Vec<String> = Vec::new();
        for command in declared.map(str::trim) {
            if self.admits(command).is_ok() && !kept.iter().any(|known| known == command) {
                kept.push(command.to_owned());
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the nodes of the recording `n2` declare.
    const DECLARED: &str = "camera.list camera.snap camera.clip location.get canvas.present canvas.navigate system.run \
        system.which system.notify device.info notifications.list contacts.search screen.record screen.snapshot \
        computer.act talk.ptt.start browser.proxy foo.bar";

    fn recorded() -> NodeCommandSettings {
        NodeCommandSettings { allow: vec!["camera.snap".into()], deny: vec!["camera.clip".into()] }
    }

    fn kept(platform: &str, family: &str, declared: &str, commands: &NodeCommandSettings) -> String {
        let policy = Policy { platform: Platform::of(platform, Some(family)), commands };
        policy.kept(declared.split_whitespace()).join(" ")
    }

    /// The recording `n2`.
    #[test]
    fn each_platform_keeps_what_was_recorded() {
        let of = |platform, family| kept(platform, family, DECLARED, &recorded());
        assert_eq!(
            of("ios", "iPhone"),
            "camera.list camera.snap location.get system.notify device.info contacts.search talk.ptt.start"
        );
        assert_eq!(
            of("android", "Android"),
            "camera.list camera.snap location.get system.notify device.info notifications.list contacts.search \
             talk.ptt.start"
        );
        let linux = "camera.list camera.snap location.get system.run system.which system.notify screen.snapshot \
            computer.act talk.ptt.start browser.proxy";
        assert_eq!(of("linux", "Linux"), linux);
        assert_eq!(of("windows", "Windows"), linux.replace("notify screen", "notify device.info screen"));
        assert_eq!(of("plan9", "x"), "camera.list camera.snap location.get system.notify talk.ptt.start");
        let mac = "camera.snap camera.clip camera.list canvas.present canvas.hide canvas.navigate canvas.eval \
            system.notify system.run device.info location.get talk.ptt.start screen.snapshot screen.record";
        assert_eq!(
            kept("macos", "Mac", mac, &recorded()),
            "camera.snap camera.list canvas.present canvas.hide canvas.navigate system.notify system.run device.info \
             location.get talk.ptt.start screen.snapshot"
        );
    }

    /// The recording `nodehost`.
    #[test]
    fn the_stock_host_keeps_what_was_recorded() {
        let host = "browser.proxy browser.proxy.upload.v1 desktop.stream dir.fetch dir.list file.create file.fetch \
            file.stat file.write fs.listDir mcp.tools.call.v1 ollama.chat ollama.models system.execApprovals.get \
            system.execApprovals.set system.run system.run.prepare system.which terminal.upload workspace.memory \
            workspace.skills";
        assert_eq!(
            kept("linux", "Linux", host, &NodeCommandSettings::default()),
            "browser.proxy browser.proxy.upload.v1 desktop.stream fs.listDir mcp.tools.call.v1 ollama.chat \
             ollama.models system.execApprovals.get system.execApprovals.set system.run system.run.prepare \
             system.which terminal.upload"
        );
    }

    #[test]
    fn denial_beats_permission_and_permission_beats_the_platform() {
        let commands = NodeCommandSettings {
            allow: vec!["foo.bar".into(), "camera.clip".into(), "system.run".into()],
            deny: vec!["camera.clip".into(), "system.notify".into()],
        };
        let policy = Policy { platform: Platform::Unknown, commands: &commands };
        let admits = |command| policy.admits(command);
        assert_eq!(admits("camera.clip"), Err(Barrier::Denied));
        assert_eq!(admits("system.notify"), Err(Barrier::Denied));
        assert_eq!((admits("foo.bar"), admits("system.run")), (Ok(()), Ok(())));
        assert_eq!(admits("system.which"), Err(Barrier::NotListed));
        assert_eq!(admits("sms.send"), Err(Barrier::OptIn));
    }

    #[test]
    fn what_does_no_harm_runs_nothing_and_is_on_no_list_of_the_configuration() {
        let commands = NodeCommandSettings {
            allow: vec!["camera.snap".into(), "foo.bar".into()],
            deny: vec!["location.get".into()],
        };
        let harmless = |platform| {
            let policy = Policy { platform, commands: &commands };
            DECLARED
                .split_whitespace()
                .filter(|command| policy.is_harmless(command))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(harmless(Platform::Linux), "camera.list system.notify talk.ptt.start");
        assert_eq!(
            harmless(Platform::Macos),
            "camera.list canvas.present canvas.navigate system.notify device.info contacts.search talk.ptt.start"
        );
        assert_eq!(harmless(Platform::Unknown), "camera.list system.notify talk.ptt.start");
    }

    #[test]
    fn platforms_are_known_by_how_they_call_themselves() {
        for (platform, family, found) in [
            ("macOS 15.1.0", None, Platform::Macos),
            ("darwin", None, Platform::Macos),
            ("Android 15", Some("Android"), Platform::Android),
            ("iPadOS 18", None, Platform::Ios),
            ("iOS 18.4.0", None, Platform::Ios),
            ("watchOS 11", None, Platform::Watchos),
            ("win32", None, Platform::Windows),
            ("unknown", Some("iPhone"), Platform::Ios),
            ("", Some("Linux"), Platform::Linux),
            ("freebsd", None, Platform::Unknown),
        ] {
            assert_eq!(Platform::of(platform, family), found, "{platform}");
        }
    }

    /// accepts: F3
    #[test]
    fn a_mac_shows_the_canvas_and_runs_scripts_in_it_only_if_that_is_allowed() {
        let shown = [
            "canvas.present",
            "canvas.hide",
            "canvas.navigate",
            "canvas.snapshot",
            "canvas.a2ui.pushJSONL",
            "canvas.a2ui.reset",
        ];
        let admits = |platform, commands: &NodeCommandSettings, command: &str| {
            Policy { platform, commands }.admits(command)
        };
        let (nothing, allowed) = (
            NodeCommandSettings::default(),
            NodeCommandSettings { allow: vec!["canvas.eval".into()], ..NodeCommandSettings::default() },
        );
        for command in shown {
            assert!(shows_canvas(command));
            assert_eq!(admits(Platform::Macos, &nothing, command), Ok(()), "{command}");
            assert_eq!(admits(Platform::Linux, &nothing, command), Err(Barrier::NotListed), "{command}");
        }
        assert_eq!(admits(Platform::Macos, &nothing, "canvas.eval"), Err(Barrier::OptIn));
        assert_eq!(admits(Platform::Macos, &allowed, "canvas.eval"), Ok(()));
    }
}
