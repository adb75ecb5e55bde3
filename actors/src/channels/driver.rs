//! A channel whose platform another program speaks: a *driver*, in any language, over `crabtree_protocol::driver`.
//!
//! The driver is a child process under the guard, or comes in over a WebSocket (`Doors`). What it sends is handed in and acknowledged when it is durable; what
//! it is told to send it answers within a minute, or nobody knows. When a child ends, breaks off or falls silent, the
//! account has ended, and whoever supervises that starts it anew; one that comes in is waited for again.

mod abilities;
mod child;
mod doors;
mod gathered;
mod guest;
mod outgoing;
mod sealed;
mod session;
mod settings;
mod talk;
mod waiting;

pub use doors::Doors;
pub use guest::Packet;
pub use sealed::LinkKey;

use crate::channels::contract::{Account, Capabilities, Channel, Link, Orders, Trouble};
use crate::process::Guard;
use crate::settings::AuthSecret;
use abilities::{Claims, Told};
use child::Complaint;
use chrono::Utc;
use futures_util::future::BoxFuture;
use guest::Terms;
use serde_json::Value;
use session::Session;
use settings::{DriverSettings, Speaker, client_id};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use talk::Wire;

/// A channel of which the configuration says which program speaks for it.
pub struct Driver {
    name: String,
    claims: Claims,
    guard: Guard,
    doors: Doors,
}

impl Driver {
    /// The channel called `name` with its settings (`channels.<name>`). A driver that is not a child comes in at
    /// `doors`.
    ///
    /// # Errors
    /// What to change in them.
    pub fn new(name: &str, channel: &Value, guard: Guard, doors: Doors) -> Result<Self, String> {
        let settings = DriverSettings::read(name, channel)?;
        Ok(Self { name: name.to_owned(), claims: settings.capabilities, guard, doors })
    }

    fn claims(&self) -> (Claims, Told) {
        (self.claims, self.doors.told())
    }

    async fn live(&self, account: &Account, link: &Link, orders: &mut Orders) -> Result<Infallible, Trouble> {
        let settings = DriverSettings::read(&self.name, &account.settings).map_err(Trouble::Fatal)?;
        let client_id = client_id(&self.name, &account.id);
        match settings.speaker(&self.name).map_err(Trouble::Fatal)? {
            Speaker::Program(program) => self.start(&settings, &program, client_id, link, orders).await,
            Speaker::Guest(secret, pinned) => {
                let terms = Terms { client_id, secret, pinned, claims: self.claims() };
                let door = self.doors.open(terms).map_err(Trouble::Fatal)?;
                door.serve(link, orders).await
            }
        }
    }

    /// Starts the driver and serves it until one of both ends.
    async fn start(
        &self,
        settings: &DriverSettings,
        program: &str,
        who: String,
        link: &Link,
        orders: &mut Orders,
    ) -> Result<Infallible, Trouble> {
        let mut child = child::start(settings, program, &self.guard).await.map_err(Trouble::Retry)?;
        let no_pipes = || Trouble::Retry("the driver has no pipes".into());
        let (wire, stderr) = child::wire(&mut child).ok_or_else(no_pipes)?;
        let complaint = Complaint::default();
        let mut beside = pin!(child::beside(&who, stderr, &complaint));
        let session = Session::new(who.clone(), AuthSecret::None, self.claims(), wall_ms);
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
        self.claims.at_all(&self.name, &self.doors.told())
    }

    fn check(&self, account: &Account) -> Result<(), String> {
        let settings = DriverSettings::read(&self.name, &account.settings)?;
        settings.speaker(&self.name).map(drop)
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
