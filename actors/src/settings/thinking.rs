//! How hard a model thinks before it answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How hard a model thinks before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", rename_all = "lowercase")]
pub enum Thinking {
    /// Not at all.
    #[default]
    Off,
    /// Hardly.
    Minimal,
    /// A little.
    Low,
    /// As it does by itself.
    Medium,
    /// Long.
    High,
}

impl Thinking {
    /// The levels of models that think, as recorded.
    pub const ALL: [Self; 5] = [Self::Off, Self::Minimal, Self::Low, Self::Medium, Self::High];

    /// The levels of a model, and which of them it takes by itself.
    pub fn of_model(reasoning: bool) -> (&'static [Self], Self) {
        if reasoning { (&Self::ALL, Self::Medium) } else { (&[Self::Off], Self::Off) }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// The level of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim();
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }
}

/// As a configuration has it: OpenClaw knows more levels, which are taken as the nearest of these.
impl TryFrom<String> for Thinking {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_str() {
            "adaptive" => Ok(Self::Medium),
            "xhigh" | "max" | "ultra" => Ok(Self::High),
            other => Self::from_name(other).ok_or_else(|| {
                format!("there is no thinking level {name:?}; use off, minimal, low, medium or high")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_read_by_its_name_and_the_nearest_one_taken_for_others() {
        let read = |name: &str| serde_json::from_value::<Thinking>(name.into());
        for level in Thinking::ALL {
            assert_eq!(read(level.name()).unwrap(), level);
            assert_eq!(serde_json::to_value(level).unwrap(), level.name());
        }
        assert_eq!((read("xhigh").unwrap(), read("adaptive").unwrap()), (Thinking::High, Thinking::Medium));
        assert!(read("hard").unwrap_err().to_string().contains("use off, minimal"));
        assert_eq!((Thinking::from_name(" HIGH "), Thinking::from_name("max")), (Some(Thinking::High), None));
    }
}
