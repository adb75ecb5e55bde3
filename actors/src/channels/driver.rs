//! A channel whose platform another program speaks: a *driver*, in any language, over `crabtree_protocol::driver`.
//!
//! The driver is a child process under the guard. What it sends is handed in and acknowledged when it is durable; what
//! it is told to send it answers within a minute, or nobody knows. When it ends, breaks off or falls silent, the
//! account has ended, and whoever supervises that starts it anew.

mod child;
mod gathered;
mod outgoing;
mod session;
mod settings;
mod talk;
mod waiting;

use crate::channels::contract::{Account, Capabilities, Channel, Link, Orders, Trouble};
use crate::process::Guard;
use crate::settings::AuthSecret;
use child::Complaint;
use chrono::Utc;
use futures_util::future::BoxFuture;
use serde_json::Value;
use session::Session;
use settings::{DriverSettings, client_id};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use talk::Wire;

/// A channel of which the configuration says which program speaks for it.
pub struct Driver {
    name: String,
    capabilities: Capabilities,
    guard: Guard,
}

impl Driver {
    /// The channel called `name` with its settings (`channels.<name>`).
    ///
    /// # Errors
    /// What to change in them.
    pub fn new(name: &str, channel: &Value, guard: Guard) -> Result<Self, String> {
        let settings = DriverSettings::read(name, channel)?;
        Ok(Self { name: name.to_owned(), capabilities: settings.capabilities.capabilities(), guard })
    }

    /// Starts the driver and serves it until one of both ends.
    async fn live(&self, account: &Account, link: &Link, orders: &mut Orders) -> Result<Infallible, Trouble> {
        let settings = DriverSettings::read(&self.name, &account.settings).map_err(Trouble::Fatal)?;
        let program = settings.program(&self.name).map_err(Trouble::Fatal)?;
        let who = client_id(&self.name, account);
        let mut child = child::start(&settings, program, &self.guard).await.map_err(Trouble::Retry)?;
        let no_pipes = || Trouble::Retry("the driver has no pipes".into());
        let (wire, stderr) = child::wire(&mut child).ok_or_else(no_pipes)?;
        let complaint = Complaint::default();
        let mut beside = pin!(child::beside(&who, stderr, &complaint));
        let session = Session::new(who.clone(), AuthSecret::None, self.capabilities, wall_ms);
        let served = tokio::select! {
            ended = serve(wire, session, link, orders, &complaint) => ended,
            never = &mut beside => match never {},
        };
        let Trouble::Retry(why) = served else { return Err(served) };
        let how = tokio::select! {
            how = child::how_it_ended(&mut child, &complaint) => how,
            never = &mut beside => match never {},
        };
        Err(Trouble::Retry(format!("{why}; {how}")))
    }
}

/// From the first frame to the last.
async fn serve(
    mut wire: Wire,
    mut session: Session,
    link: &Link,
    orders: &mut Orders,
    complaint: &Complaint,
) -> Trouble {
    if let Err(trouble) = wire.greet(&mut session).await {
        return trouble;
    }
    complaint.close();
    wire.talk(session, link, orders).await
}

fn wall_ms() -> i64 {
    Utc::now().timestamp_millis()
}

impl Channel for Driver {
    fn name(&self) -> &str {
        &self.name
    }

    fn label(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn check(&self, account: &Account) -> Result<(), String> {
        let settings = DriverSettings::read(&self.name, &account.settings)?;
        settings.program(&self.name).map(drop)
    }

    fn run(self: Arc<Self>, account: Account, link: Link, mut orders: Orders) -> BoxFuture<'static, Trouble> {
        Box::pin(async move {
            match self.live(&account, &link, &mut orders).await {
                Ok(never) => match never {},
                Err(trouble) => trouble,
            }
        })
    }
}
