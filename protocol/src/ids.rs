//! Identifiers as types of their own, so that none can stand where another belongs.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Defines a text identifier that is cheap to clone.
macro_rules! text_id {
    ($(#[$meta:meta])* $type:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Wraps the text as it is.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($type), "({:?})"), &self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $type {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $type {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self(String::deserialize(deserializer)?.into()))
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string" })
            }
        }
    };
}

text_id! {
    /// A run of an agent; equal to the idempotency key of the request that started it.
    RunId
}

text_id! {
    /// A device: the lowercase hex SHA-256 of its raw Ed25519 public key.
    DeviceId
}

impl RunId {
    /// A fresh id for a run that no client named.
    pub fn random() -> Self {
        Self::from(Uuid::new_v4().to_string())
    }
}

/// A connection, unique in the life of a gateway; shown as `server.connId` in its hello.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnId(Uuid);

impl ConnId {
    /// A fresh id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id with the given bits, for reproducible tests and simulations.
    pub fn from_u128(bits: u128) -> Self {
        Self(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid())
    }

    /// The underlying uuid.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ConnId({})", self.0)
    }
}

impl FromStr for ConnId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

impl JsonSchema for ConnId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ConnId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uuid" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_is_a_uuid_v4() {
        for id in [ConnId::random(), ConnId::from_u128(7)] {
            assert_eq!(id.uuid().get_version_num(), 4);
            assert_eq!(id.to_string().parse::<ConnId>().unwrap(), id);
        }
        assert_eq!(ConnId::from_u128(7), ConnId::from_u128(7));
    }

    #[test]
    fn text_ids_are_plain_strings_on_the_wire() {
        let run: RunId = serde_json::from_str(r#""abc""#).unwrap();
        assert_eq!(run, RunId::from("abc"));
        assert_eq!(serde_json::to_string(&run).unwrap(), r#""abc""#);
        assert_eq!(format!("{run:?}"), r#"RunId("abc")"#);
    }
}
