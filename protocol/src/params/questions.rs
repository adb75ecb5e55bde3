//! Questions an agent asks people, and their answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::record;
use crate::value::{Int, List, Text, shaped_text, string_enum};

shaped_text! {
    /// A question's name within its request.
    pub struct QuestionId = "^[a-z][a-z0-9_]*$" if |text| {
        text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    }
}

impl Serialize for QuestionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// An answer to choose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuestionOption {
    /// The answer.
    pub label: Text,
    /// What it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

string_enum! {
    /// What an answer that is kept as a secret becomes.
    any_of pub enum SecretKind {
        /// A secret.
        Secret = "secret",
        /// A variable of the environment.
        Env = "env",
    }
}

shaped_text! {
    /// The name of a secret.
    pub struct SecretName = "^[A-Z][A-Z0-9_]{0,127}$" if |text| {
        text.len() <= 128
            && text.starts_with(|first: char| first.is_ascii_uppercase())
            && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    }
}

impl Serialize for SecretName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Where an answer is to be kept as a secret; this gateway does not ask for any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretStore {
    /// Under which name.
    pub name: SecretName,
    /// As what.
    pub kind: SecretKind,
    /// For which hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_hosts: Option<List<Text<253>, 0, 128>>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text<200, 0>>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// Its name within the request.
    pub question_id: QuestionId,
    /// What it is about, in a word.
    pub header: Text<12, 0>,
    /// The question.
    pub question: Text,
    /// Answers to choose from; without any, people write one.
    pub options: List<QuestionOption, 0, 4>,
    /// Whether several may be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multi_select: Option<bool>,
    /// Whether people may write another answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_other: Option<bool>,
    /// Whether the answer is a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_secret: Option<bool>,
    /// Where the answer is to be kept as a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_store: Option<SecretStore>,
}

/// Parameters of `question.request`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestParams {
    /// Its id; a fresh one by default.
    pub id: Option<Text>,
    /// The questions.
    pub questions: List<Question, 1, 3>,
    /// Which agent asks.
    pub agent_id: Option<Text>,
    /// In which session.
    pub session_key: Option<Text>,
    /// In which run.
    pub run_id: Option<Text>,
    /// How long it waits, in milliseconds.
    pub timeout_ms: Option<Int<1>>,
}

/// Parameters of `question.get`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetParams {
    /// The request.
    pub id: Text,
}

/// Parameters of `question.waitAnswer`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WaitParams {
    /// The request.
    pub id: Text,
    /// How long to wait, in milliseconds; to its end by default.
    pub timeout_ms: Option<Int<1>>,
}

/// Answers, by question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answers {
    /// What was chosen or written, by question.
    pub answers: BTreeMap<String, Vec<String>>,
}

/// Parameters of `question.resolve`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ResolveParams {
    /// With answers.
    Answer(AnswerParams),
    /// Without.
    Cancel(CancelParams),
}

/// Parameters of `question.resolve`: the answers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnswerParams {
    /// The request.
    pub id: Text,
    /// The answers.
    pub answers: Answers,
    /// For which hosts a secret is; this gateway does not ask for any.
    pub secret_store_allowed_hosts: Option<List<Text<253>, 0, 128>>,
    /// Who answers.
    pub resolved_by: Option<Text>,
}

/// Parameters of `question.resolve`: no answer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CancelParams {
    /// The request.
    pub id: Text,
    /// True.
    pub cancel: True,
    /// Who does not answer.
    pub resolved_by: Option<Text>,
}

/// Nothing but `true`.
#[derive(Clone, Copy, Debug)]
pub struct True;

impl<'de> Deserialize<'de> for True {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let yes = bool::deserialize(deserializer)?;
        yes.then_some(Self).ok_or_else(|| serde::de::Error::custom("must be true"))
    }
}

impl JsonSchema for True {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "True".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "boolean", "const": true })
    }
}

record! {
    /// Result of `question.request`.
    pub struct Requested {
        /// The request.
        id: String,
        /// How long it waits, ms.
        expires_at_ms: u64,
    }
}

string_enum! {
    /// Where a request stands.
    any_of pub enum QuestionStatus {
        /// It waits.
        Pending = "pending",
        /// It is answered.
        Answered = "answered",
        /// It will not be answered.
        Cancelled = "cancelled",
        /// Nobody answered in time.
        Expired = "expired",
    }
}

record! {
    /// A request, whatever became of it.
    pub struct QuestionRecord {
        /// The request.
        id: String,
        /// The questions.
        questions: Vec<Question>,
        /// When it was made, ms.
        created_at_ms: u64,
        /// How long it waits or would have waited, ms.
        expires_at_ms: u64,
        /// Where it stands.
        status: QuestionStatus,
        ; optional
        /// Which agent asks.
        agent_id: String,
        /// In which session.
        session_key: String,
        /// In which run.
        run_id: String,
        /// The answers.
        answers: Answers,
        /// Who answered.
        resolved_by: String,
    }
}

record! {
    /// Result of `question.get`.
    pub struct Got {
        /// The request.
        question: QuestionRecord,
    }
}

record! {
    /// Result of `question.list`.
    pub struct Questions {
        /// Those that wait.
        questions: Vec<QuestionRecord>,
    }
}

record! {
    /// Result of `question.waitAnswer` and `question.resolve`, and with `id` the event `question.resolved`.
    pub struct Answered {
        /// Where it stands.
        status: QuestionStatus,
        ; optional
        /// The request; of the event.
        id: String,
        /// The answers.
        answers: Answers,
    }
}
