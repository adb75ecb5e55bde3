//! Where something goes that nobody has asked for on a channel: a chat that is named, or where a session was spoken to
//! last.

use super::outgoing::Answer;
use super::sending::{address, the_account};
use crate::store::{self, Store};
use crabtree_protocol::SessionKey;

/// A chat, as far as it is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The channel; `last` names none.
    pub channel: Option<String>,
    /// The chat, as people write it.
    pub to: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// The thread in it.
    pub thread: Option<String>,
}

impl Target {
    /// The same with a channel and a chat; the first of these sessions that was spoken to on a channel says where, unless
    /// the chat is named.
    ///
    /// # Errors
    /// There is none, and what to do.
    pub async fn whole(self, store: &Store, sessions: &[SessionKey]) -> Result<Self, String> {
        let channel = self.channel.clone().filter(|channel| channel != "last");
        if let Some(to) = &self.to {
            let prefix = to.split_once(':').map(|(prefix, _)| prefix);
            let known = |name: &str| store.estate.config.load().settings.channels.0.contains_key(name);
            let channel = channel.or_else(|| prefix.filter(|prefix| known(prefix)).map(str::to_owned));
            let channel = match channel {
                Some(channel) => channel,
                None => the_account(&store.estate, None, self.account.as_deref())?.channel,
            };
            return Ok(Self { channel: Some(channel), ..self });
        }
        for key in sessions {
            let name = key.to_string();
            let record = store.read(move |c| store::session(c, &name)).await.ok().flatten();
            let Some(record) = record else { continue };
            let route = &record.entry["deliveryContext"];
            let word = |name: &str| route[name].as_str().map(str::to_owned);
            if let (Some(on), Some(to)) = (word("channel"), word("to"))
                && channel.as_ref().is_none_or(|channel| *channel == on)
            {
                return Ok(Self {
                    channel: Some(on),
                    to: Some(to),
                    account: self.account.or_else(|| word("accountId")),
                    thread: self.thread.or_else(|| word("threadId")),
                });
            }
        }
        Err("Channel is required: nobody has spoken to the main session on one yet. Name the channel and to."
            .into())
    }
}

/// What sends the answer of a turn there, in the commit that ends it.
///
/// # Errors
/// There is no such chat, and what to do.
pub async fn answer_to(
    store: &Store,
    target: Target,
    sessions: &[SessionKey],
    id: &str,
) -> Result<Answer, String> {
    let target = target.whole(store, sessions).await?;
    let name = the_account(&store.estate, target.channel.as_deref(), target.account.as_deref())?;
    Ok(Answer {
        id: id.to_owned(),
        to: address(target.channel.as_deref(), target.to.as_deref().unwrap_or_default(), target.thread),
        reply_to: None,
        capabilities: store.estate.channels.capabilities(&name.channel).into(),
        channel: name.channel,
        account: name.account,
    })
}
