use super::*;

const ALL: [(Platform, Scope); 4] = [
    (Platform::Systemd, Scope::User),
    (Platform::Systemd, Scope::System),
    (Platform::Launchd, Scope::User),
    (Platform::Launchd, Scope::System),
];

/// Everything that may be said, with the characters that mean something to the formats.
fn odd(platform: Platform, scope: Scope) -> Unit {
    Unit {
        program: "/opt/100% crab & <tree>/crabtree".into(),
        state_dir: Some("/srv/a \"state\"".into()),
        config: Some("/etc/$x.json5".into()),
        user: "crab".into(),
        path: Some("/usr/bin:/opt/a b".into()),
        writable: vec!["/home/a/agents".into()],
        home: "/Users/a&b".into(),
        ..Unit::published(platform, scope)
    }
}

/// accepts: K8
#[test]
fn the_published_unit_is_what_the_program_makes() {
    let made = Unit::published(Platform::Systemd, Scope::System).text();
    assert!(
        made == include_str!("../../config/crabtree.service"),
        "config/crabtree.service is not what this program makes; write it anew with\n  \
         crabtree service install --system --program /usr/local/bin/crabtree --print > config/crabtree.service"
    );
}

#[test]
fn a_file_says_which_template_it_is_of_whatever_is_set_in_it() {
    for (platform, scope) in ALL {
        let of_it = stamp(platform, scope);
        assert_eq!(stamp_in(&odd(platform, scope).text()), Some(&*of_it), "{platform:?} {scope:?}");
        assert_eq!(stamp_in(&Unit::published(platform, scope).text()), Some(&*of_it));
    }
    let stamps: std::collections::BTreeSet<_> = ALL.into_iter().map(|(p, s)| stamp(p, s)).collect();
    assert_eq!(stamps.len(), ALL.len());
    assert_eq!(stamp_in("[Service]\nExecStart=/bin/sh\n"), None);
    assert_eq!(stamp_in("# of a template nobody knows"), None);
}

/// accepts: K8
#[test]
fn systemd_starts_it_again_unless_a_person_has_to_correct_something() {
    for scope in [Scope::User, Scope::System] {
        let text = Unit::published(Platform::Systemd, scope).text();
        let set = |line: &str| text.lines().any(|one| one == line);
        for line in [
            "Type=notify",
            "NotifyAccess=main",
            "ExecStart=/usr/local/bin/crabtree run",
            "ExecReload=/bin/kill -HUP $MAINPID",
            "WatchdogSec=30",
            "Restart=on-failure",
            "RestartPreventExitStatus=78",
            "TimeoutStopSec=330",
            "MemoryMax=75%",
            "MemoryHigh=50%",
            "OOMPolicy=continue",
            "NoNewPrivileges=true",
        ] {
            assert!(set(line), "{line} in\n{text}");
        }
        let is_system = scope == Scope::System;
        for line in ["ProtectSystem=strict", "ProtectHome=true", "StateDirectory=crabtree", "User=crabtree"] {
            assert_eq!(set(line), is_system, "{line} in\n{text}");
        }
        // With these no command of an agent could be kept in bubblewrap.
        for word in ["ProtectKernelTunables=", "ProtectKernelLogs=", "ProcSubset=", "RestrictNamespaces="] {
            assert!(!text.contains(word), "{word} in\n{text}");
        }
    }
}

#[test]
fn what_is_set_is_quoted_as_systemd_reads_it() {
    let text = odd(Platform::Systemd, Scope::System).text();
    for line in [
        r#"ExecStart="/opt/100%% crab & <tree>/crabtree" run --config /etc/$$x.json5"#,
        r#"Environment="CRABTREE_STATE_DIR=/srv/a \"state\"""#,
        r#"Environment="PATH=/usr/bin:/opt/a b""#,
        "User=crab",
        "ProtectHome=read-only",
        "ReadWritePaths=-/home/a/agents",
        r#"ReadWritePaths="-/srv/a \"state\"""#,
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
    }
    assert!(!text.contains("StateDirectory="), "{text}");
}

/// accepts: K8
#[test]
fn launchd_is_given_a_property_list() {
    for scope in [Scope::User, Scope::System] {
        let text = odd(Platform::Launchd, scope).text();
        let (_, comment) = text.split_once("<!--").unwrap();
        let (comment, _) = comment.split_once("-->").unwrap();
        assert!(!comment.contains("--"), "XML has no such comment: {comment}");
        let list = plist::Value::from_reader_xml(text.as_bytes()).unwrap();
        let list = list.into_dictionary().unwrap();
        let of = |key: &str| list.get(key).and_then(plist::Value::as_string);
        assert_eq!(of("Label"), Some(LABEL));
        let words = list["ProgramArguments"].as_array().unwrap().iter();
        let words: Vec<_> = words.map(|word| word.as_string().unwrap()).collect();
        assert_eq!(words, ["/opt/100% crab & <tree>/crabtree", "run", "--config", "/etc/$x.json5"]);
        assert_eq!(list["KeepAlive"].as_dictionary().unwrap()["SuccessfulExit"].as_boolean(), Some(false));
        assert_eq!(list["RunAtLoad"].as_boolean(), Some(true));
        assert_eq!(list["ExitTimeOut"].as_unsigned_integer(), Some(STOP_LIMIT.as_secs()));
        let set = list["EnvironmentVariables"].as_dictionary().unwrap();
        assert_eq!(set["CRABTREE_STATE_DIR"].as_string(), Some("/srv/a \"state\""));
        assert_eq!(of("UserName"), (scope == Scope::System).then_some("crab"));
        let log = of("StandardErrorPath").unwrap();
        assert_eq!(log.starts_with("/Users/a&b/"), scope == Scope::User, "{log}");
    }
}

#[test]
fn nobody_is_killed_who_ends_in_order() {
    assert!(STOP_LIMIT > crate::DRAIN_BUDGET + 2 * crate::STOP_BUDGET);
}
