//! What a command came to, in words and in the recorded details.

use crate::process::Exit;
use crate::tools::{MAX_RESULT, ToolResult};
use serde_json::json;
use std::time::Duration;

/// Codes with which shells say that the command could not be run (126) or was not found (127).
const NOT_RUN: [i32; 2] = [126, 127];

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// By itself, or by a signal of somebody else.
    Exited(Exit),
    /// It was killed after this time.
    TimedOut(Duration),
}

/// What it came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// What it wrote.
    pub text: String,
    /// How long it took.
    pub took: Duration,
    /// Where it was started.
    pub cwd: String,
}

impl Outcome {
    /// For the model and for clients. A code other than 0 is for the model to judge: many programs answer with it.
    pub fn result(self) -> ToolResult {
        let written = self.text.trim_end();
        let (code, signal, reason) = match self.end {
            End::Exited(Exit::Code(code)) => (Some(code), None, "exit"),
            End::Exited(exit) => (None, exit.signal_name(), "signal"),
            End::TimedOut(_) => (None, Some("SIGTERM".into()), "overall-timeout"),
        };
        let completed = code.is_some_and(|code| !NOT_RUN.contains(&code));
        let details = json!({
            "status": if completed { "completed" } else { "failed" },
            "exitCode": code,
            "exitSignal": signal,
            "exitReason": reason,
            "durationMs": self.took.as_millis() as u64,
            "aggregated": ToolResult::text(written).cut(MAX_RESULT).as_text(),
            "noOutputTimedOut": false,
            "cwd": self.cwd,
        });
        let text = match (written, self.remark()) {
            ("", None) => "(no output)".to_owned(),
            (written, None) => written.to_owned(),
            ("", Some(remark)) => remark,
            (written, Some(remark)) => format!("{written}\n\n{remark}"),
        };
        ToolResult { is_error: !completed, ..ToolResult::text(text) }.with_details(details)
    }

    fn remark(&self) -> Option<String> {
        Some(match self.end {
            End::Exited(Exit::Code(0)) => return None,
            End::Exited(Exit::Code(code)) => format!("(Command exited with code {code})"),
            End::Exited(exit) => match exit.signal_name() {
                Some(signal) => format!("Command aborted by signal {signal}"),
                None => "Command aborted: its guard was killed, perhaps for want of memory".into(),
            },
            End::TimedOut(limit) => format!(
                "Command timed out after {} seconds and was killed. If it needs longer, call again with a larger \
                 timeout",
                limit.as_secs_f64()
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(end: End, text: &str) -> ToolResult {
        let took = Duration::from_millis(2_619);
        Outcome { end, text: text.into(), took, cwd: "/w".into() }.result()
    }

    #[test]
    fn success_looks_as_recorded() {
        let result = result(End::Exited(Exit::Code(0)), "hi\nbye\n");
        assert!(!result.is_error);
        assert_eq!(
            serde_json::to_value(result).unwrap(),
            json!({
                "content": [{ "type": "text", "text": "hi\nbye" }],
                "details": {
                    "status": "completed", "exitCode": 0, "exitSignal": null, "exitReason": "exit",
                    "durationMs": 2619, "aggregated": "hi\nbye", "noOutputTimedOut": false, "cwd": "/w",
                },
            })
        );
    }

    #[test]
    fn the_model_is_told_how_it_ended() {
        let code = |code| End::Exited(Exit::Code(code));
        for (end, written, text, status) in [
            (code(0), "\n", "(no output)", "completed"),
            (code(1), "no match\n", "no match\n\n(Command exited with code 1)", "completed"),
            (code(2), "", "(Command exited with code 2)", "completed"),
            (code(127), "sh: x: not found\n", "sh: x: not found\n\n(Command exited with code 127)", "failed"),
            (End::Exited(Exit::Signal(9)), "a", "a\n\nCommand aborted by signal SIGKILL", "failed"),
        ] {
            let result = result(end, written);
            assert_eq!((result.as_text().as_str(), &result.details["status"]), (text, &json!(status)));
            assert_eq!(result.is_error, status == "failed");
        }
        let late = result(End::TimedOut(Duration::from_millis(1_500)), "a\n");
        assert!(late.is_error && late.as_text().starts_with("a\n\nCommand timed out after 1.5 seconds"));
        assert_eq!(late.details["exitReason"], "overall-timeout");
    }

    #[test]
    fn clients_are_not_shown_more_than_the_model() {
        let result = result(End::Exited(Exit::Code(0)), &"x".repeat(3 * MAX_RESULT));
        assert!(result.details["aggregated"].as_str().unwrap().len() < MAX_RESULT + 100);
    }
}
