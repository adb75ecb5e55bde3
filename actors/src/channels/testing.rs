//! What tests of the pure parts begin with.

use super::contract::{Address, Envelope, Kind, Place, Sender};

/// A message in a chat.
pub fn envelope(kind: Kind, chat: &str) -> Envelope {
    Envelope {
        id: "1".into(),
        from: Sender { id: "7".into(), ..Sender::default() },
        at: Address { chat_type: kind, chat: chat.into(), thread: None },
        place: Place::default(),
        text: "hello".into(),
        attachments: vec![],
        mentions_me: false,
        replies_to_me: false,
        quote: None,
        at_ms: 0,
    }
}
