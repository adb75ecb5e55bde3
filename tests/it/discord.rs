//! Discord as a channel, through its real client, against a Discord that is not there.

mod incoming;
mod line;
mod missed;
mod outgoing;

use crate::fakes::desk::Desk;
use crate::fakes::discord::{BOT, Discord};
use crabtree_actors::channels::contract::{Address, Heard, Kind, Outgoing};
use crabtree_actors::channels::discord;
use std::sync::Arc;

/// A desk whose channel is connected.
async fn connected(server: &Discord) -> Desk {
    resumed(server, None).await
}

async fn resumed(server: &Discord, checkpoint: Option<String>) -> Desk {
    let mut desk = Desk::resume(Arc::new(discord::Discord), server.settings(), checkpoint);
    let Heard::Connected(Some(me)) = desk.next(|news| matches!(news, Heard::Connected(_))).await else {
        panic!("it says who it is");
    };
    assert_eq!((me.id.as_str(), me.username.as_deref(), me.is_bot), (BOT, Some("crab"), true));
    desk
}

fn channel(id: &str) -> Address {
    Address { chat_type: Kind::Channel, chat: id.into(), thread: None }
}

fn text(id: &str, to: Address, text: &str) -> Outgoing {
    Outgoing {
        id: id.into(),
        to,
        text: text.into(),
        reply_to: None,
        edits: None,
        buttons: vec![],
        attachments: vec![],
    }
}
