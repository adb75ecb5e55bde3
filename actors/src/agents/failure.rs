//! Why a model did not answer: what it means for the run, and how it is told. The words are those recorded of
//! OpenClaw.

use std::time::Duration;

/// Characters of a provider's own words.
const DETAIL: usize = 300;

/// What kind of failure it is, by OpenClaw's names (`failoverReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The key is not accepted.
    Auth,
    /// Too much was asked for.
    RateLimit,
    /// The provider has trouble of its own.
    ServerError,
    /// It was silent, could not be reached, or broke off.
    Timeout,
    /// It does not know the model.
    ModelNotFound,
    /// It does not take the question as it is.
    Format,
    /// Anything else.
    Unknown,
}

impl Reason {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::RateLimit => "rate_limit",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::ModelNotFound => "model_not_found",
            Self::Format => "format",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the same question may be answered a little later.
    pub fn passes(self) -> bool {
        matches!(self, Self::RateLimit | Self::ServerError | Self::Timeout)
    }

    fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Auth,
            429 => Self::RateLimit,
            404 => Self::ModelNotFound,
            408 => Self::Timeout,
            500.. => Self::ServerError,
            400..500 => Self::Format,
            _ => Self::Unknown,
        }
    }
}

/// Why there is no answer, or no more of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub reason: Reason,
    /// What people are told, without secrets.
    pub text: String,
}

impl Failure {
    /// A failure that is told in these words.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// The provider said nothing for this long.
    pub(super) fn silent(waited: Duration) -> Self {
        Self::new(Reason::Timeout, format!("LLM request timed out: nothing came for {} s.", waited.as_secs()))
    }

    /// The provider answered with this status; `said` is the body.
    pub fn of_status(status: u16, said: &str) -> Self {
        let reason = Reason::of_status(status);
        let text = match reason {
            Reason::Auth => format!(
                "⚠️ LLM request failed (authentication failed, HTTP {status}). \
                 Re-authenticate the provider and try again."
            ),
            Reason::RateLimit => {
                format!("⚠️ LLM request failed (rate limited, HTTP {status}). Try again shortly.")
            }
            Reason::ServerError | Reason::Timeout => format!(
                "⚠️ LLM request failed (provider internal error, HTTP {status}). \
                 This is usually temporary — try again shortly."
            ),
            _ => format!("⚠️ LLM request failed (HTTP {status}): {}", words_of(said)),
        };
        Self { reason, text }
    }

    /// What genai says.
    pub(super) fn of(error: &genai::Error) -> Self {
        use genai::Error;
        match error {
            Error::HttpError { status, body, .. } => Self::of_status(status.as_u16(), body),
            Error::WebStream { error, cause, .. } => match error.downcast_ref::<Error>() {
                Some(inner) => Self::of(inner),
                None => {
                    Self::new(Reason::Timeout, format!("The provider could not be reached: {}", cut(cause)))
                }
            },
            Error::StreamParse { serde_error, .. } => {
                Self::new(Reason::ServerError, format!("The provider sent what is no answer: {serde_error}"))
            }
            Error::ChatResponse { body, .. } => Self::of_stream(&body.to_string()),
            other => match other.status() {
                Some(status) => Self::of_status(status.as_u16(), &other.to_string()),
                None => Self::new(Reason::Unknown, cut(&other.to_string())),
            },
        }
    }

    /// An error in the middle of an answer.
    fn of_stream(said: &str) -> Self {
        let lower = said.to_lowercase();
        let is = |word: &str| lower.contains(word);
        let reason = if is("rate_limit") || is("429") {
            Reason::RateLimit
        } else if is("authentication") || is("permission") {
            Reason::Auth
        } else {
            Reason::ServerError
        };
        Self::new(reason, format!("⚠️ LLM request failed: {}", words_of(said)))
    }
}

/// The message in a provider's body, else its beginning.
fn words_of(body: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let message = json.as_ref().and_then(|json| {
        let error = json.get("error").unwrap_or(json);
        error.get("message").or(Some(error))?.as_str()
    });
    cut(message.unwrap_or(body))
}

fn cut(text: &str) -> String {
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = words.char_indices().nth(DETAIL) {
        words.truncate(at);
        words.push('…');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_it_passes() {
        for (status, reason, passes) in [
            (401, Reason::Auth, false),
            (429, Reason::RateLimit, true),
            (500, Reason::ServerError, true),
            (503, Reason::ServerError, true),
            (404, Reason::ModelNotFound, false),
            (400, Reason::Format, false),
        ] {
            let failure = Failure::of_status(status, "{}");
            assert_eq!((failure.reason, failure.reason.passes()), (reason, passes), "{status}");
            assert!(failure.text.contains(&format!("HTTP {status}")), "{}", failure.text);
        }
    }

    #[test]
    fn the_words_of_a_provider_are_found_and_bounded() {
        assert_eq!(words_of(r#"{"error":{"message":"too  long"}}"#), "too long");
        assert_eq!(words_of(r#"{"error":"model 'x' not found"}"#), "model 'x' not found");
        assert_eq!(words_of("<html>\n502"), "<html> 502");
        assert_eq!(cut(&"ä".repeat(400)).chars().count(), DETAIL + 1);
    }
}
