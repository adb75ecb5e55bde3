//! Of runs whose model failed or fell silent.

use super::Difference;

pub const FAILURES: &[Difference] = &[
    Difference {
        at: &["err401", "hang_mid_timeout", "hang_timeout"],
        what: &["-chat error seq1", "-session: chat error seq1"],
        why: "a run has one end; recorded: what sent it tells it once more",
    },
    Difference {
        at: &["err500", "err500_agent"],
        what: &["-agent assistant", "-agent assistant (2)"],
        why: "recorded: text is taken back though none was told",
    },
    Difference {
        at: &["err500_agent"],
        what: &["-cron", "-config.changed", "-chat.metadata.changed"],
        why: "told of what was done beside this scenario",
    },
    Difference {
        at: &["err401"],
        what: &[
            "#5 error: {\"code\":\"UNAVAILABLE\",\"message\":\"⚠️ mock401/mock-1 request failed (authentication failed, HTTP 401). Re-authenticate the provider and try again.\"} not {\"code\":\"UNAVAILABLE\",\"message\":\"⚠️ Agent failed before reply: ⚠️ mock401/mock-1 request failed (authentication failed, HTTP 401). Re-authenticate the provider and try again.\\nTo view logs, run `openclaw logs --follow` in a terminal.\"}",
            "#5 summary: \"⚠️ mock401/mock-1 request failed (authentication failed, HTTP 401). Re-authenticate the provider and try again.\" not \"⚠️ Agent failed before reply: ⚠️ mock401/mock-1 request failed (authentication failed, HTTP 401). Re-authenticate the provider and try again.\\nTo view logs, run `openclaw logs --follow` in a terminal.\"",
        ],
        why: "why a run failed is told in the same words everywhere",
    },
    Difference {
        at: &["err401"],
        what: &["-chat.metadata.changed"],
        why: "told of what was done beside this scenario",
    },
    Difference {
        at: &["err500_agent"],
        what: &["-changed: sessions.changed phase error"],
        why: "a run has one end: that of an aborted one is `end`, not `error` as well",
    },
    Difference {
        at: &["err500_agent"],
        what: &["+agent lifecycle model none after agent lifecycle end rpc aborted"],
        why: "told of every aborted run, as recorded in `abort_running`",
    },
    Difference {
        at: &["err500_agent"],
        what: &[">res chat.abort ok after res agent timeout"],
        why: "an abort is answered when its outcome is durable, which is after all of its events",
    },
    Difference {
        at: &["*"],
        what: &[
            ">agent lifecycle start after session.message user fail",
            ">session: agent lifecycle start after agent lifecycle start",
            ">agent lifecycle start after session.message user hang",
            ">session: agent lifecycle start after session.message user hang",
        ],
        why: "what a run answers is durable and told before the run starts, however it was sent",
    },
    Difference {
        at: &["hang_agent_timeout"],
        what: &[
            "+session.message assistant tok0 after chat delta",
            "-session.message assistant ",
            "-agent lifecycle model",
            ">agent lifecycle model none after agent lifecycle finishing",
        ],
        why: "what was said before the time was up is kept, and the model's end told as of other failures",
    },
    Difference {
        at: &["hang_agent_timeout"],
        what: &[
            "+changed: sessions.changed send after sessions.changed create",
            ">changed: sessions.changed phase error after sessions.changed agent.input.settled",
        ],
        why: "each is told once and at once, in the order in which it happens",
    },
    Difference {
        at: &["hang_mid_timeout"],
        what: &[
            "+agent assistant after agent lifecycle model",
            "+agent lifecycle model after agent run_status starting_model",
            "+agent lifecycle start after session.message user hang",
            "+agent run_status starting_model after chat status starting_model",
            "+changed: sessions.changed agent.run.started after sessions.changed participants",
            "+changed: sessions.changed phase error after sessions.changed agent.input.settled",
            "+chat delta after agent assistant",
            "+chat status starting_model after agent lifecycle start",
            "+session.message assistant tok0 after chat delta",
            "+session: agent lifecycle start after session.message user hang",
            "#4 messages: [\"user hang\",\"assistant tok0\"] not [\"user hang\",\"custom This\"]",
        ],
        why: "the recorded machine was so busy that the time was up before the model was asked",
    },
];
