//! **Owns** the route by which Tailscale on this machine brings clients: a `tailscale serve` or `tailscale funnel` that
//! lives as long as this does, so that nothing of it is left, however the gateway ends.
//! **Hears** what becomes of that; **tells** the Estate, and with it health, whether there is a route and where.
//! **On crash** the route ends with it, and the next incarnation makes another.

use super::program::Program;
use crate::estate::Estate;
use crate::process::{Child, Command};
use crate::reach::{Standing, State};
use crate::tree::*;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::time::{Instant, timeout};

/// How long Tailscale may take to say where the gateway is to be found.
const ANSWER: Duration = Duration::from_secs(90);
/// The first wait before the next try, which doubles each time,
const WAIT: Duration = Duration::from_millis(500);
/// up to this one. A route that was there for so long begins with the first again.
const LONGEST: Duration = Duration::from_secs(60);
/// Bytes of what it says that are read.
const MAX_SAID: u64 = 64 * 1024;
/// Characters of why it does not work that are told.
const MAX_WHY: usize = 200;

/// A route that is there: dropping it ends it.
pub struct Claim {
    /// Where the gateway is to be found.
    pub address: Option<String>,
    /// Resolves when it is lost, with why.
    pub lost: BoxFuture<'static, String>,
}

/// Who makes routes.
pub trait Routes: Send + Sync {
    /// Makes one to this port of this machine, for `serve` or `funnel`.
    fn claim(&self, command: &'static str, port: u16) -> BoxFuture<'static, Result<Claim, String>>;
}

impl Routes for Program {
    fn claim(&self, command: &'static str, port: u16) -> BoxFuture<'static, Result<Claim, String>> {
        let guard = self.guard().clone();
        Box::pin(async move {
            let program = Command::new("tailscale").args([command, "--yes", "--bg=false", &port.to_string()]);
            let mut child = program.spawn(&guard).await.map_err(|error| error.to_string())?;
            child.stdin.take();
            timeout(ANSWER, answered(&mut child))
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER.as_secs())))
                .map(|address| Claim { address: Some(address), lost: Box::pin(lost(child)) })
        })
    }
}

/// The address, once it is told; what was said instead, if it ends before that.
async fn answered(child: &mut Child) -> Result<String, String> {
    let out = child.stdout.take().ok_or("it cannot be read")?;
    let mut lines = BufReader::new(out.take(MAX_SAID)).lines();
    let mut said = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = address_in(&line) {
            let rest = lines.into_inner().into_inner().into_inner();
            child.stdout = Some(rest);
            return Ok(address);
        }
        said = line;
    }
    let mut wrong = Vec::new();
    if let Some(err) = child.stderr.take() {
        let _ = err.take(MAX_SAID).read_to_end(&mut wrong).await;
    }
    let exit = child.wait().await;
    let wrong = String::from_utf8_lossy(&wrong);
    let why = wrong
        .lines()
        .chain([said.as_str()])
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it said nothing");
    Err(format!(
        "{} ({exit:?})",
        why.trim().chars().filter(|c| !c.is_control()).take(MAX_WHY).collect::<String>()
    ))
}

/// Reads what else it says, so that it never waits for that, until it ends.
async fn lost(mut child: Child) -> String {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let drain = async |pipe: Option<_>| {
        if let Some(mut pipe) = pipe {
            let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
        }
    };
    tokio::join!(drain(out), drain(err));
    let exit = child.wait().await;
    format!("tailscale ended ({exit:?})")
}

/// The address in a line that it says.
fn address_in(line: &str) -> Option<String> {
    let word = line.split_whitespace().find(|word| word.starts_with("https://"))?;
    Some(word.trim_end_matches('/').to_owned())
}

/// What it is started with.
#[derive(Clone)]
pub struct RouteArgs {
    /// Where it is told how it stands.
    pub estate: Arc<Estate>,
    /// Who makes it.
    pub routes: Arc<dyn Routes>,
    /// `serve` or `funnel`.
    pub command: &'static str,
}

/// What it hears.
pub enum RouteMsg {
    /// Make one.
    Claim,
    /// There is one, or there is none.
    Claimed(Result<Claim, String>),
    /// It is gone.
    Lost(String),
}

/// See the module.
pub struct Route {
    args: RouteArgs,
    wait: Duration,
    /// Since when there is one.
    up: Option<Instant>,
    _again: Timer,
}

impl Behavior for Route {
    type Msg = RouteMsg;
    type Args = RouteArgs;
    const KIND: &'static str = "tailscale";

    fn start(ctx: &mut Ctx<RouteMsg>, args: RouteArgs) -> Result<Self, Fault> {
        let again = ctx.after(Duration::ZERO, RouteMsg::Claim);
        Ok(Self { args, wait: WAIT, up: None, _again: again })
    }

    fn handle(&mut self, ctx: &mut Ctx<RouteMsg>, msg: RouteMsg) -> Result<(), Fault> {
        match msg {
            RouteMsg::Claim => self.claim(ctx),
            RouteMsg::Claimed(Ok(claim)) => self.claimed(ctx, claim),
            RouteMsg::Claimed(Err(why)) | RouteMsg::Lost(why) => self.without(ctx, why),
        }
        Ok(())
    }
}

impl Route {
    fn claim(&mut self, ctx: &mut Ctx<RouteMsg>) {
        let doors = self.args.estate.reach.doors.get();
        let Some(door) = doors.and_then(|doors| doors.tailscale) else {
            return self.without(ctx, "there is no door for it".into());
        };
        if self.args.estate.reach.tailscale.borrow().is_none() {
            self.stands(ctx, State::Starting);
        }
        ctx.task(self.args.routes.claim(self.args.command, door.port()), RouteMsg::Claimed);
    }

    fn claimed(&mut self, ctx: &mut Ctx<RouteMsg>, claim: Claim) {
        self.up = Some(Instant::now());
        let address = claim.address.as_deref().unwrap_or("an address that it did not say");
        tracing::info!(target: "crabtree::tailscale", "tailscale {} brings clients here from {address}", self.args.command);
        self.stands(ctx, State::Up(claim.address));
        ctx.task(claim.lost, RouteMsg::Lost);
    }

    /// The gateway gets along without; it is tried again.
    fn without(&mut self, ctx: &mut Ctx<RouteMsg>, why: String) {
        if self.up.take().is_some_and(|since| since.elapsed() >= LONGEST) {
            self.wait = WAIT;
        }
        let (command, down) = (self.args.command, State::Down(why));
        let is_known =
            self.args.estate.reach.tailscale.borrow().as_ref().is_some_and(|now| now.state == down);
        if let State::Down(why) = &down
            && !is_known
        {
            tracing::warn!(target: "crabtree::tailscale", "tailscale {command} does not bring clients here: {why}; it is \
                tried again. Is Tailscale installed and up, and this user its operator (`tailscale status`)?");
        }
        self.stands(ctx, down);
        self._again = ctx.after(self.wait, RouteMsg::Claim);
        self.wait = (self.wait * 2).min(LONGEST);
    }

    fn stands(&self, ctx: &Ctx<RouteMsg>, state: State) {
        let standing = Standing { mode: self.args.command, state };
        ctx.publish_info(standing.told());
        self.args.estate.reach.tailscale.send_replace(Some(standing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_what_tailscale_says() {
        assert_eq!(address_in("https://home.tail1.ts.net/").as_deref(), Some("https://home.tail1.ts.net"));
        assert_eq!(
            address_in("  https://home.tail1.ts.net:8443 (tailnet only)").as_deref(),
            Some("https://home.tail1.ts.net:8443")
        );
        for line in
            ["Available within your tailnet:", "", "|-- proxy http://127.0.0.1:4711", "Press Ctrl+C to exit."]
        {
            assert_eq!(address_in(line), None, "{line}");
        }
    }
}
