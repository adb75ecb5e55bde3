//! Why a model did not answer: what it means for the run, and how it is told. The words are those recorded of
//! OpenClaw.

use crate::settings::Secret;
use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Characters of a provider's own words.
const DETAIL: usize = 300;

/// Longest wait that a provider may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What kind of failure it is, by OpenClaw's names (`failoverReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The key is not accepted.
    Auth,
    /// Too much was asked for.
    RateLimit,
    /// What is asked for must be paid first.
    Billing,
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
            Self::Billing => "billing",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::ModelNotFound => "model_not_found",
            Self::Format => "format",
            Self::Unknown => "unknown",
        }
    }

    /// OpenClaw's other name for it (`providerRuntimeFailureKind`).
    pub fn kind(self) -> &'static str {
        match self {
            Self::RateLimit | Self::ModelNotFound => self.name(),
            Self::ServerError | Self::Timeout => "timeout",
            Self::Auth | Self::Billing | Self::Format | Self::Unknown => "unclassified",
        }
    }

    /// Whether the same question may be answered a little later.
    pub fn passes(self) -> bool {
        matches!(self, Self::RateLimit | Self::ServerError | Self::Timeout)
    }

    fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Auth,
            402 => Self::Billing,
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
    /// How long the provider wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure that is told in these words.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), retry_after: None }
    }

    /// The same, told of the model that failed (`provider/model`).
    pub fn of_model(self, model: &str) -> Self {
        let text = self.text.replacen("LLM request failed", &format!("{model} request failed"), 1);
        Self { text, ..self }
    }

    /// The same without the key, which a provider may repeat.
    pub(super) fn without(self, key: Option<&Secret>) -> Self {
        Self { text: key.map_or_else(|| self.text.clone(), |key| key.struck_from(&self.text)), ..self }
    }

    /// The provider's answer has no end.
    pub fn broken_off() -> Self {
        Self::new(Reason::Timeout, "LLM request timed out: the answer broke off.")
    }

    /// The provider said nothing for this long.
    pub(super) fn silent(waited: Duration) -> Self {
        Self::new(Reason::Timeout, format!("LLM request timed out: nothing came for {} s.", waited.as_secs()))
    }

    /// The provider answered with this status; `said` is the body.
    pub fn of_status(status: u16, said: &str) -> Self {
        let reason = match Reason::of_status(status) {
            Reason::RateLimit | Reason::Format if wants_money(said) => Reason::Billing,
            reason => reason,
        };
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
        Self::new(reason, text)
    }

    /// What genai says.
    pub(super) fn of(error: &genai::Error) -> Self {
        use genai::Error;
        match error {
            Error::HttpError { status, body, headers, .. } => {
                let retry_after = retry_after(headers, Utc::now());
                Self { retry_after, ..Self::of_status(status.as_u16(), body) }
            }
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
        let reason = if wants_money(said) {
            Reason::Billing
        } else if is("rate_limit") || is("429") {
            Reason::RateLimit
        } else if is("authentication") || is("permission") {
            Reason::Auth
        } else {
            Reason::ServerError
        };
        Self::new(reason, format!("⚠️ LLM request failed: {}", words_of(said)))
    }
}

/// How long to wait, as the headers of an answer say: in milliseconds, in seconds, or until a date.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let said = |name: &str| headers.get(name)?.to_str().ok();
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let until = |text: &str| {
        let date = DateTime::parse_from_rfc2822(text.trim()).ok()?;
        Some(date.signed_duration_since(now).num_milliseconds() as f64 / 1e3)
    };
    let in_ms = said("retry-after-ms").and_then(number).map(|ms| ms / 1e3);
    let seconds =
        in_ms.or_else(|| said(RETRY_AFTER.as_str()).and_then(|text| number(text).or_else(|| until(text))))?;
    // What is negative or no number is no wait.
    Some(Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_WAIT.as_secs_f64()).max(0.0)))
}

/// Whether a provider's words are about money, whatever its status says.
fn wants_money(said: &str) -> bool {
    let said = said.to_lowercase();
    ["insufficient_quota", "credit balance", "billing_not_active"].iter().any(|words| said.contains(words))
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
            (402, Reason::Billing, false),
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
    fn who_has_not_paid_is_not_asked_again() {
        let body = r#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#;
        let failure = Failure::of_status(429, body);
        assert_eq!((failure.reason, failure.reason.passes()), (Reason::Billing, false));
        assert!(failure.text.contains("You exceeded your quota"), "{}", failure.text);
        let body = r#"{"error":{"message":"Your credit balance is too low"}}"#;
        assert_eq!(Failure::of_status(400, body).reason, Reason::Billing);
        assert_eq!(Failure::of_status(500, body).reason, Reason::ServerError);
    }

    #[test]
    fn a_provider_says_how_long_to_wait() {
        let now = DateTime::parse_from_rfc3339("2026-11-20T14:00:00Z").unwrap().to_utc();
        let wait = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| {
                (
                    reqwest::header::HeaderName::from_static(name),
                    reqwest::header::HeaderValue::from_static(value),
                )
            });
            retry_after(&headers.collect(), now).map(|wait| wait.as_millis())
        };
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&[("retry-after", "7")]), Some(7_000));
        assert_eq!(wait(&[("retry-after-ms", "1500"), ("retry-after", "7")]), Some(1_500));
        assert_eq!(wait(&[("retry-after", "Fri, 20 Nov 2026 14:01:30 GMT")]), Some(90_000));
        assert_eq!(wait(&[("retry-after", "Fri, 20 Nov 2026 13:00:00 GMT")]), Some(0));
        assert_eq!(wait(&[("retry-after", "86400")]), Some(LONGEST_WAIT.as_millis()), "there is a limit");
        assert_eq!(wait(&[("retry-after", "-3")]), Some(0));
        assert_eq!(wait(&[("retry-after", "NaN")]), Some(0));
        assert_eq!(wait(&[("retry-after", "soon")]), None);
    }

    #[test]
    fn the_words_of_a_provider_are_found_and_bounded() {
        assert_eq!(words_of(r#"{"error":{"message":"too  long"}}"#), "too long");
        assert_eq!(words_of(r#"{"error":"model 'x' not found"}"#), "model 'x' not found");
        assert_eq!(words_of("<html>\n502"), "<html> 502");
        assert_eq!(cut(&"ä".repeat(400)).chars().count(), DETAIL + 1);
    }
}
