//! `gateway.http`: which APIs of others are spoken over plain HTTP, and what its answers tell browsers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `gateway.http`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpSettings {
    /// The APIs, each by itself.
    pub endpoints: HttpEndpoints,
    /// What every answer tells browsers.
    pub security_headers: SecurityHeaders,
}

/// `gateway.http.securityHeaders`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SecurityHeaders {
    /// `Strict-Transport-Security`: from now on this name only over HTTPS. Only for names that stay so.
    pub strict_transport_security: Option<SecurityHeader>,
}

/// The value of a header, or `false` for none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SecurityHeader {
    /// None.
    Off(bool),
    /// This.
    Value(String),
}

impl SecurityHeaders {
    /// The value of `Strict-Transport-Security`, if it is sent.
    pub fn strict_transport(&self) -> Option<&str> {
        match &self.strict_transport_security {
            Some(SecurityHeader::Value(value)) => Some(value.trim()).filter(|value| !value.is_empty()),
            Some(SecurityHeader::Off(_)) | None => None,
        }
    }
}

/// `gateway.http.endpoints`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpEndpoints {
    /// OpenAI's `/v1/chat/completions`, and `/v1/models` with it.
    pub chat_completions: HttpEndpoint,
    /// OpenAI's `/v1/responses`.
    pub responses: HttpEndpoint,
}

/// One of `gateway.http.endpoints`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HttpEndpoint {
    /// Off unless asked for: who knows the gateway's secret may have an agent do here whatever its tools allow.
    pub enabled: bool,
}
