//! Whether a command may run: the settings `tools.exec` and the document of [`super::document`], of which the stricter
//! word counts. Pure.
//!
//! A person is asked always, or when the allowlist has no entry for the command; where everything may run (`full`), it
//! cannot lack one. If nobody answers in time, the document's `askFallback` decides: `deny`,
//! which is the default; `allowlist`, for what the allowlist has; `full`, which adds nothing to what `security` says.

use super::document::ExecApprovals;
use crate::settings::{ExecAsk, ExecSecurity, ExecSettings};
use crabtree_protocol::params::approvals::policy::{AgentPolicy, PolicyDefaults};

/// What follows for a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may run.
    Allow,
    /// A person decides.
    Ask,
    /// It may not run; this is why, for the model.
    Deny(String),
}

/// What is in force for an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which commands may run at all.
    pub security: ExecSecurity,
    /// When a person is asked.
    pub ask: ExecAsk,
    /// What happens if nobody answers.
    pub fallback: ExecSecurity,
}

impl Policy {
    /// That of this agent: the stricter of what its settings and the document say.
    pub fn of(document: &ExecApprovals, settings: &ExecSettings, agent_id: &str) -> Self {
        let defaults = document.file.defaults.as_ref();
        let word = |own: fn(&AgentPolicy) -> Option<&String>,
                    shared: fn(&PolicyDefaults) -> Option<&String>| {
            let word = document.sections(agent_id).find_map(own).or_else(|| defaults.and_then(shared));
            word.map(String::as_str)
        };
        let security = word(|a| a.security.as_ref(), |d| d.security.as_ref()).map(security);
        let ask = word(|a| a.ask.as_ref(), |d| d.ask.as_ref()).map(ask);
        let fallback = word(|a| a.ask_fallback.as_ref(), |d| d.ask_fallback.as_ref());
        Self {
            security: security.map_or(settings.security, |word| word.min(settings.security)),
            ask: ask.map_or(settings.ask, |word| word.max(settings.ask)),
            fallback: fallback.map_or(ExecSecurity::Deny, self::security),
        }
    }
}

impl Policy {
    /// The same where another machine has its own word, too: the stricter one counts.
    pub fn and(self, security: Option<ExecSecurity>, ask: Option<ExecAsk>) -> Self {
        Self {
            security: security.map_or(self.security, |word| word.min(self.security)),
            ask: ask.map_or(self.ask, |word| word.max(self.ask)),
            ..self
        }
    }

    /// What follows for a command; see [`verdict`].
    pub fn verdict(self, allowlisted: bool) -> Verdict {
        match (self.security, self.ask) {
            (ExecSecurity::Deny, _) => forbidden(),
            (_, ExecAsk::Always) => Verdict::Ask,
            (ExecSecurity::Full, _) => Verdict::Allow,
            (ExecSecurity::Allowlist, _) if allowlisted => Verdict::Allow,
            (ExecSecurity::Allowlist, ExecAsk::OnMiss) => Verdict::Ask,
            (ExecSecurity::Allowlist, ExecAsk::Off) => unlisted(),
        }
    }

    /// What follows when nobody decided; see [`unanswered`].
    pub fn unanswered(self, allowlisted: bool) -> Verdict {
        match self.fallback.min(self.security) {
            ExecSecurity::Full => Verdict::Allow,
            ExecSecurity::Allowlist if allowlisted => Verdict::Allow,
            _ => Verdict::Deny("the command needs somebody's approval, and nobody gave it".into()),
        }
    }
}

// Documents with other words are not used at all; should one be, it forbids.
fn security(word: &str) -> ExecSecurity {
    match word {
        "full" => ExecSecurity::Full,
        "allowlist" => ExecSecurity::Allowlist,
        _ => ExecSecurity::Deny,
    }
}

fn ask(word: &str) -> ExecAsk {
    match word {
        "off" => ExecAsk::Off,
        "on-miss" => ExecAsk::OnMiss,
        _ => ExecAsk::Always,
    }
}

/// What follows for every command if the document cannot be used.
pub fn unusable(document: &ExecApprovals) -> Option<Verdict> {
    let damage = document.damage.as_ref()?;
    let name = super::document::FILE_NAME;
    Some(Verdict::Deny(format!(
        "no command may run: {name} cannot be used ({damage}); an operator has to correct it"
    )))
}

fn forbidden() -> Verdict {
    Verdict::Deny("no command may run here: exec security is \"deny\"".into())
}

fn unlisted() -> Verdict {
    Verdict::Deny("the command is not on the allowlist; use one that is, or ask an operator to add it".into())
}

/// What follows for a command of this agent; `allowlisted` says whether the allowlist has an entry for every program
/// in it.
pub fn verdict(
    document: &ExecApprovals,
    settings: &ExecSettings,
    agent_id: &str,
    allowlisted: bool,
) -> Verdict {
    unusable(document).unwrap_or_else(|| Policy::of(document, settings, agent_id).verdict(allowlisted))
}

/// What follows when a person should have decided and nobody did ([`super::Decision::Expired`]): never
/// [`Verdict::Ask`].
pub fn unanswered(
    document: &ExecApprovals,
    settings: &ExecSettings,
    agent_id: &str,
    allowlisted: bool,
) -> Verdict {
    unusable(document).unwrap_or_else(|| Policy::of(document, settings, agent_id).unanswered(allowlisted))
}

#[cfg(test)]
mod tests {
    use super::super::document::tests::document;
    use super::*;
    use serde_json::{Value, json};

    fn settings(security: ExecSecurity, ask: ExecAsk) -> ExecSettings {
        ExecSettings { security, ask, ..ExecSettings::default() }
    }

    fn words(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Allow => "allow",
            Verdict::Ask => "ask",
            Verdict::Deny(_) => "deny",
        }
    }

    #[test]
    fn what_may_run_asks_or_may_not() {
        use ExecAsk::{Always, Off, OnMiss};
        use ExecSecurity::{Allowlist, Deny, Full};
        let nothing = document(json!({ "version": 1 }));
        let table = [
            // security, ask, on the list, not on it
            (Deny, Off, "deny", "deny"),
            (Deny, OnMiss, "deny", "deny"),
            (Deny, Always, "deny", "deny"),
            (Allowlist, Off, "allow", "deny"),
            (Allowlist, OnMiss, "allow", "ask"),
            (Allowlist, Always, "ask", "ask"),
            (Full, Off, "allow", "allow"),
            (Full, OnMiss, "allow", "allow"),
            (Full, Always, "ask", "ask"),
        ];
        for (security, ask, listed, unlisted) in table {
            let settings = settings(security, ask);
            let get = |on_list| verdict(&nothing, &settings, "main", on_list);
            assert_eq!((words(&get(true)), words(&get(false))), (listed, unlisted), "{security:?} {ask:?}");
        }
    }

    #[test]
    fn the_stricter_word_counts_and_the_nearest_section() {
        let policy = |file: Value, security, ask| {
            let policy = Policy::of(&document(file), &settings(security, ask), "main");
            (policy.security, policy.ask)
        };
        use ExecAsk::{Always, Off, OnMiss};
        use ExecSecurity::{Allowlist, Deny, Full};
        let strict = json!({ "version": 1, "defaults": { "security": "allowlist", "ask": "on-miss" } });
        assert_eq!(policy(strict.clone(), Full, Off), (Allowlist, OnMiss));
        assert_eq!(policy(strict, Deny, Always), (Deny, Always));
        let open = json!({ "version": 1, "defaults": { "security": "full", "ask": "off" } });
        assert_eq!(policy(open, Allowlist, OnMiss), (Allowlist, OnMiss));
        let nearest = json!({
            "version": 1,
            "defaults": { "security": "deny", "ask": "always" },
            "agents": { "*": { "security": "allowlist", "ask": "on-miss" }, "main": { "ask": "off" }, "other": { "security": "deny" } },
        });
        assert_eq!(policy(nearest, Full, Off), (Allowlist, Off));
    }

    #[test]
    fn what_nobody_decided_is_denied_unless_the_document_says_otherwise() {
        let after = |fallback: Value, security, listed| {
            let mut file = json!({ "version": 1, "defaults": {} });
            if !fallback.is_null() {
                file["defaults"]["askFallback"] = fallback;
            }
            words(&unanswered(&document(file), &settings(security, ExecAsk::Always), "main", listed))
        };
        use ExecSecurity::{Allowlist, Deny, Full};
        for listed in [true, false] {
            assert_eq!(after(Value::Null, Full, listed), "deny");
            assert_eq!(after(json!("deny"), Full, listed), "deny");
            assert_eq!(after(json!("full"), Full, listed), "allow");
            assert_eq!(after(json!("full"), Deny, listed), "deny");
        }
        for (security, fallback) in [(Full, "allowlist"), (Allowlist, "allowlist"), (Allowlist, "full")] {
            assert_eq!(after(json!(fallback), security, true), "allow");
            assert_eq!(after(json!(fallback), security, false), "deny");
        }
    }

    #[test]
    fn a_document_that_cannot_be_used_forbids_everything() {
        let mut damaged = document(json!({ "version": 1 }));
        damaged.damage = Some("expected value at line 1".into());
        let settings = settings(ExecSecurity::Full, ExecAsk::Off);
        for verdict in
            [verdict(&damaged, &settings, "main", true), unanswered(&damaged, &settings, "main", true)]
        {
            let Verdict::Deny(why) = verdict else { panic!("{verdict:?}") };
            assert!(why.contains("exec-approvals.json") && why.contains("line 1"), "{why}");
        }
    }
}
