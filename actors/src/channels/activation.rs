//! Whether the agent answers a message of a group, and how soon. Pure.

use super::contract::{Envelope, Kind};

/// Places in the backlog (row I6).
const MENTIONED: i64 = 10;
const REPLIED_TO: i64 = 5;
const REGULAR: i64 = 1;

/// What is known of a group's session.
#[derive(Clone, Debug, Default)]
pub struct Manners<'a> {
    /// What `/activation` says in this session: `mention` or `always`.
    pub activation: Option<&'a str>,
    /// `groups.<id>.requireMention`.
    pub require_mention: Option<bool>,
    /// What the agent is called: its id, its name, and what `identity.name` says.
    pub names: Vec<&'a str>,
}

/// The place in the backlog of a message that the agent answers; none if it is not for the agent.
pub fn priority(envelope: &Envelope, manners: &Manners<'_>) -> Option<i64> {
    let named = envelope.mentions_me || manners.names.iter().any(|name| names(&envelope.text, name));
    let explicit = envelope.text.trim_start().starts_with('/');
    let always = match manners.activation {
        Some("always") => true,
        Some(_) => false,
        None => manners.require_mention == Some(false),
    };
    match () {
        () if named => Some(MENTIONED),
        () if envelope.replies_to_me => Some(REPLIED_TO),
        () if envelope.at.chat_type == Kind::Direct || explicit || always => Some(REGULAR),
        () => None,
    }
}

/// Whether a text contains `@name`, whatever the case, and not as the beginning of a longer name.
fn names(text: &str, name: &str) -> bool {
    let (text, wanted) = (text.to_lowercase(), format!("@{}", name.trim().to_lowercase()));
    let ends = |at: usize| {
        let next = text[at + wanted.len()..].chars().next();
        next.is_none_or(|next| !next.is_alphanumeric() && next != '_')
    };
    wanted.len() > 1 && text.match_indices(&wanted).any(|(at, _)| ends(at))
}

#[cfg(test)]
mod tests {
    use super::super::testing::envelope;
    use super::*;

    fn said(text: &str) -> Envelope {
        Envelope { text: text.into(), ..envelope(Kind::Group, "G") }
    }

    /// accepts: I5, I6
    #[test]
    fn in_a_group_the_agent_answers_who_speaks_to_it() {
        let manners = Manners { names: vec!["main", "Robo"], ..Manners::default() };
        assert_eq!(priority(&said("hello all"), &manners), None);
        assert_eq!(priority(&said("what does @ROBO say?"), &manners), Some(10));
        assert_eq!(priority(&said("@robotics is fun"), &manners), None);
        assert_eq!(priority(&said("Robo is fun"), &manners), None);
        assert_eq!(priority(&Envelope { mentions_me: true, ..said("hi") }, &manners), Some(10));
        assert_eq!(priority(&Envelope { replies_to_me: true, ..said("hi") }, &manners), Some(5));
        assert_eq!(priority(&said("/status"), &manners), Some(1));
        assert_eq!(priority(&envelope(Kind::Direct, "G"), &manners), Some(1));
    }

    /// accepts: I5
    #[test]
    fn a_session_or_a_group_may_want_it_to_answer_always() {
        let always = Manners { activation: Some("always"), ..Manners::default() };
        let loose = Manners { require_mention: Some(false), ..Manners::default() };
        let strict = Manners { activation: Some("mention"), ..loose.clone() };
        let all = [&always, &loose, &strict].map(|manners| priority(&said("hello"), manners));
        assert_eq!(all, [Some(1), Some(1), None]);
    }
}
