//! Every difference of events and answers from the recordings, and its reason; those of keys are in [`keys`].

mod failures;
mod particular;

use super::compare::Found;
use super::keys::KEYS;
use failures::FAILURES;
use particular::PARTICULAR;

/// Some events or answers are not as recorded.
pub struct Difference {
    /// Scenarios; `*` is one or more of them.
    pub at: &'static [&'static str],
    /// `-` is only in the recording, `+` only here, in front of the label of a line (and what it comes after), or of
    /// the name of a stream; `>` comes elsewhere; or `#request member: ours not theirs`. A second one of the same in
    /// a stream is marked ` (2)`, except for `*`.
    pub what: &'static [&'static str],
    pub why: &'static str,
}

/// Of any scenario.
const GENERAL: &[Difference] = &[
    Difference {
        at: &["agent_basic", "agent_idempotency", "noreply", "tool_agent_method"],
        what: &["-task"],
        why: "there are no background tasks beside runs",
    },
    Difference {
        at: &[
            "abort_queued",
            "abort_running",
            "queue_interrupt",
            "sess_reset_delete",
            "sess_send",
            "slash_stop_running",
        ],
        what: &["-agent lifecycle model"],
        why: "the model is told once a call, and not again on an abort",
    },
    Difference {
        at: &["*"],
        what: &[
            ">agent lifecycle start after session.message user ag",
            ">session: agent lifecycle start after session.message user ag",
            ">agent lifecycle start after session.message user x",
            ">session: agent lifecycle start after session.message user x",
            ">session: agent lifecycle start after session.message user [Queued",
            ">session: agent lifecycle start after session.message user second",
            ">session: agent lifecycle start after session.message user third",
            ">agent lifecycle start after session.message user agent",
            ">session: agent lifecycle start after session.message user agent",
            ">agent lifecycle start after session.message user read",
            ">session: agent lifecycle start after session.message user read",
            ">agent lifecycle start after session.message user quiet",
            ">session: agent lifecycle start after agent lifecycle start",
        ],
        why: "what a run answers is durable and told before the run starts, however it was sent",
    },
    Difference {
        at: &["slash", "slash_stop_running"],
        what: &["-session.message assistant 🦞"],
        why: "each gateway signs with its own animal",
    },
    Difference {
        at: &["*"],
        what: &["+session.message assistant 🦀 after session.message user /status"],
        why: "each gateway signs with its own animal",
    },
    Difference {
        at: &["*"],
        what: &[
            ">chat final seq1 after res chat.send started",
            ">res chat.send started after session.message assistant Current",
            ">res chat.send started after session.message assistant Current:",
            ">res chat.send started after session.message assistant Model",
            ">res chat.send started after session.message assistant Thinking",
            ">res chat.send started after session.message assistant ℹ️",
            ">res chat.send started after session.message assistant ⚙️",
            ">res chat.send started after session.message assistant ✅",
            ">session.message user /status after nothing",
            ">session: chat final seq1 after session.message user /help",
            ">session: chat final seq1 after session.message user /model",
            ">session: chat final seq1 after session.message user /queue",
            ">session: chat final seq1 after session.message user /reset",
            ">session: chat final seq1 after session.message user /status",
            ">session: chat final seq1 after session.message user /think",
            ">session: chat final seq1 after session.message user /verbose",
        ],
        why: "a command's rows and changes are one commit, and told before it is answered",
    },
    Difference {
        at: &["*"],
        what: &[
            ">session.message user third after agent run_status preparing_context",
            ">session.message user inflight after agent run_status preparing_context",
            ">session.message user long after agent run_status preparing_context",
            ">session.message user long2 after agent run_status preparing_context",
            ">session.message user no after agent run_status preparing_context",
            ">session.message user via after agent run_status preparing_context",
            ">session.message user /bogus after agent run_status preparing_context",
            ">session.message user go after agent run_status preparing_context",
        ],
        why: "a turn tells its phases and then what it answers; recorded both ways",
    },
    Difference {
        at: &["*"],
        what: &[">session.message assistant tok0 after agent lifecycle error aborted aborted"],
        why: "what is left of an aborted answer follows the end of the run, as recorded in `abort_running`",
    },
    Difference {
        at: &["*"],
        what: &[
            ">res chat.abort ok after session.message assistant tok0",
            ">res sessions.abort aborted after session.message assistant tok0",
        ],
        why: "an abort is answered when its outcome is durable, which is after all of its events",
    },
    Difference {
        at: &["sess_fork", "sess_send"],
        what: &["-changed: sessions.changed participants"],
        why: "told when somebody is heard in a session for the first time; the recorded gateway repeats it",
    },
    Difference {
        at: &["abort_queued", "abort_running", "queue_interrupt", "sess_send", "slash_stop_running"],
        what: &["-changed: sessions.changed phase error"],
        why: "a run has one end: that of an aborted one is `end`, not `error` as well",
    },
    Difference {
        at: &["queue_interrupt", "sess_send", "slash_stop_running"],
        what: &["-changed: sessions.changed phase error (2)"],
        why: "a run has one end: that of an aborted one is `end`, not `error` as well",
    },
    Difference {
        at: &["agent_idempotency", "restart_kill", "restart_term2", "tool_agent_method"],
        what: &["-changed: sessions.changed create"],
        why: "a session comes into being with its first input, told as `send`",
    },
    Difference {
        at: &["agent_basic", "restart_kill", "restart_post_term"],
        what: &["-chat.metadata.changed"],
        why: "there is no placement of sessions, nothing makes jobs on its own, and nothing finds models later",
    },
    Difference {
        at: &["agents"],
        what: &["-cron"],
        why: "there is no placement of sessions, nothing makes jobs on its own, and nothing finds models later",
    },
    Difference {
        at: &["sess_fork", "sess_reset_delete"],
        what: &["-changed: sessions.changed placement"],
        why: "there is no placement of sessions, nothing makes jobs on its own, and nothing finds models later",
    },
    Difference {
        at: &["*"],
        what: &[
            ">changed: sessions.changed send after nothing",
            ">changed: sessions.changed phase end after sessions.changed agent.input.settled",
            ">changed: sessions.changed participants after sessions.changed send",
            ">changed: sessions.changed agent.input.settled after sessions.changed phase model",
            ">changed: sessions.changed abort after sessions.changed phase end",
        ],
        why: "what becomes of a session is told in the order in which it does; recorded late, or merged with what came later",
    },
    Difference {
        at: &["*"],
        what: &[
            "+changed: sessions.changed phase end after sessions.changed phase model",
            "+changed: sessions.changed send after nothing",
            "+changed: sessions.changed phase end after sessions.changed agent.input.settled",
            "+changed: sessions.changed phase model after sessions.changed phase start",
            "+changed: sessions.changed phase start after sessions.changed phase end",
            "+changed: sessions.changed phase start after sessions.changed agent.run.started",
            "+changed: sessions.changed create after nothing",
            "+changed: sessions.changed agent.input.settled after sessions.changed phase model",
        ],
        why: "each is told once and at once; recorded late, merged, or after the last answer, when nobody listened any more",
    },
];

fn all() -> impl Iterator<Item = &'static Difference> {
    PARTICULAR.iter().chain(FAILURES).chain(GENERAL)
}

/// The reason of a difference, if it is in a table.
pub fn why(place: &str, what: &str) -> Option<&'static str> {
    if let Some(kind) = place.strip_prefix("keys ") {
        let of_it = |(kinds, paths, _): &&(&str, &str, &str)| {
            kinds.split(", ").any(|k| k == kind) && paths.split_whitespace().any(|path| path == what)
        };
        return KEYS.iter().find(of_it).map(|(_, _, why)| *why);
    }
    let any = what.split(" (").next().unwrap_or(what);
    let of_it = |difference: &&Difference| {
        (difference.at.contains(&place) && difference.what.contains(&what))
            || (difference.at.contains(&"*") && difference.what.contains(&any))
    };
    all().find(of_it).map(|difference| difference.why)
}

/// Entries of the tables that are not needed.
pub fn stale(found: &Found) -> Vec<String> {
    let is_found = |place: &str, what: &str| found.contains(&(place.to_owned(), what.to_owned()));
    let is_anywhere = |what: &str| found.iter().any(|(_, is)| is.split(" (").next() == Some(what));
    let mut stale = vec![];
    for difference in all() {
        for (at, what) in difference.at.iter().flat_map(|at| difference.what.iter().map(move |w| (*at, *w))) {
            if !(if at == "*" { is_anywhere(what) } else { is_found(at, what) }) {
                stale.push(format!("no difference any more: {at}: {what}"));
            }
        }
    }
    for (kinds, paths, _) in KEYS {
        for (kind, path) in
            kinds.split(", ").flat_map(|k| paths.split_whitespace().map(move |path| (k, path)))
        {
            if !is_found(&format!("keys {kind}"), path) {
                stale.push(format!("no difference any more: keys {kind}: {path}"));
            }
        }
    }
    stale
}
