//! What is done in a chat beside sending, at once and without a row: reactions, deleting, pinning. Done again it is the
//! same, so whoever hears nothing asks again.

use super::account::AccountMsg;
use super::contract::{Act, Address, Order, Outgoing, SendError, Sent};
use super::ordered;
use super::roster::AccountName;
use crate::store::{DeliveryRow, Store};
use crate::tree::Reply;
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long a channel may take; then nobody knows.
const LIMIT: Duration = Duration::from_secs(30);

/// What is to be done.
#[derive(Debug)]
pub enum Doing {
    /// React to a message, or take the reaction back (empty).
    React {
        /// Where.
        at: Address,
        /// The message.
        message: String,
        /// An emoji.
        emoji: String,
    },
    /// Something else.
    Act(Address, Act),
    /// Say something that cannot be kept.
    Say(Box<Outgoing>),
}

impl Doing {
    /// Says what a row would say, if its address is one.
    pub fn say(row: &DeliveryRow) -> Option<Self> {
        let to = Address::deserialize(&row.address).ok()?;
        Some(Self::Say(Box::new(ordered::outgoing(row, to, None))))
    }
}

/// Has an account do it, and waits for what becomes of it.
///
/// # Errors
/// It is not done, or nobody knows.
pub async fn act(store: &Store, name: &AccountName, doing: Doing) -> Result<Sent, SendError> {
    let (done, outcome) = Reply::oneshot();
    let sent = store.estate.channels.slot(name).send(AccountMsg::Do(Box::new(doing), done));
    match sent {
        Ok(()) => outcome.await.unwrap_or_else(|_| Err(SendError::Unknown("the account was lost".into()))),
        Err(_) => Err(away()),
    }
}

/// Gives the order, and tells what became of it.
pub(super) async fn carry_out(orders: mpsc::Sender<Order>, doing: Doing) -> Result<Sent, SendError> {
    let work = async {
        match doing {
            Doing::React { at, message, emoji } => {
                let (done, outcome) = oneshot::channel();
                let reacted = Sent { id: message.clone() };
                orders.send(Order::React { at, message, emoji, done }).await.map_err(|_| away())?;
                outcome.await.unwrap_or_else(|_| Err(lost())).map(|()| reacted)
            }
            Doing::Say(outgoing) => {
                let (done, outcome) = oneshot::channel();
                orders.send(Order::Send(outgoing, done)).await.map_err(|_| away())?;
                outcome.await.unwrap_or_else(|_| Err(lost()))
            }
            Doing::Act(at, act) => {
                let (done, outcome) = oneshot::channel();
                orders.send(Order::Act { at, act, done }).await.map_err(|_| away())?;
                outcome.await.unwrap_or_else(|_| Err(lost()))
            }
        }
    };
    let late = || Err(SendError::Unknown(format!("it took more than {} s", LIMIT.as_secs())));
    timeout(LIMIT, work).await.unwrap_or_else(|_| late())
}

fn lost() -> SendError {
    SendError::Unknown("the channel was lost while it did it".into())
}

pub(super) fn away() -> SendError {
    SendError::Later { why: "the channel is not there".into(), after: None }
}
