//! **Owns** the announcement of the gateway on the local network: `_openclaw-gw._tcp` by multicast DNS.
//! **Hears** that another certificate is served; **tells** the network, and the Estate how it stands.
//! **On crash** the announcement ends with it, and the next incarnation makes another. What is told is no secret, and
//! nobody has to believe it: clients that have pinned a certificate keep their pin.

use crate::estate::Estate;
use crate::reach::{Standing, State, in_container};
use crate::settings::MdnsMode;
use crate::tls::Fingerprint;
use crate::tree::*;
use mdns_sd::{ServiceDaemon, ServiceInfo};
use std::sync::Arc;
use std::time::Duration;

/// What is announced.
const SERVICE: &str = "_openclaw-gw._tcp.local.";
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(60);
/// Bytes of a name in DNS.
const MAX_LABEL: usize = 63;
/// Bytes of a key and its value.
const MAX_ENTRY: usize = 255;
/// The name where the machine's own is none that DNS takes.
const NO_NAME: &str = "openclaw";
/// The port of SSH, unless it is said otherwise.
const SSH: &str = "22";

/// What is known of the gateway.
#[derive(Clone, Debug, Default)]
struct Facts {
    host: String,
    port: u16,
    certificate: Option<Fingerprint>,
    /// Whether others on the network get to it.
    direct: bool,
    /// What is told besides where all is told.
    full: Vec<(&'static str, String)>,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The name people see.
    pub instance: String,
    /// The name of the machine, in `local.`
    pub host: String,
    /// The gateway's port.
    pub port: u16,
    /// Keys and values.
    pub txt: Vec<(&'static str, String)>,
}

fn record(facts: &Facts) -> Record {
    let host = label(&facts.host);
    let mut txt = vec![
        ("role", "gateway".to_owned()),
        ("transport", "gateway".to_owned()),
        ("displayName", shortened(&facts.host, MAX_LABEL)),
        ("lanHost", format!("{host}.local")),
        ("gatewayPort", facts.port.to_string()),
    ];
    if let Some(fingerprint) = facts.certificate {
        txt.push(("gatewayTls", "1".into()));
        txt.push(("gatewayTlsSha256", fingerprint.to_string()));
    }
    if facts.direct {
        txt.push(("gatewayDirectReachable", "1".into()));
    }
    txt.extend(facts.full.iter().filter(|(key, value)| key.len() + 1 + value.len() <= MAX_ENTRY).cloned());
    let mark = " (OpenClaw)";
    let instance = shortened(&facts.host, MAX_LABEL - mark.len()) + mark;
    Record { instance, host, port: facts.port, txt }
}

/// A name that DNS takes.
fn label(host: &str) -> String {
    let first = host.split('.').next().unwrap_or_default();
    let is_good = !first.is_empty()
        && first.len() <= MAX_LABEL
        && first.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        && !first.starts_with('-')
        && !first.ends_with('-');
    if is_good { first.to_owned() } else { NO_NAME.to_owned() }
}

fn shortened(text: &str, most: usize) -> String {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Whether it is announced at all: `OPENCLAW_DISABLE_BONJOUR` goes before everything, and from a container multicast
/// leads nowhere.
fn is_wanted(mode: MdnsMode, disabled: Option<&str>, container: bool) -> bool {
    let disabled = disabled.map(|word| word.trim().to_ascii_lowercase());
    let said = match disabled.as_deref() {
        Some("1" | "true" | "yes" | "on") => Some(false),
        Some("0" | "false" | "no" | "off") => Some(true),
        _ => None,
    };
    mode != MdnsMode::Off && said.unwrap_or(!container)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// What it is started with.
#[derive(Clone)]
pub struct BeaconArgs {
    estate: Arc<Estate>,
    mode: MdnsMode,
}

impl BeaconArgs {
    /// Those of a gateway that is to be announced.
    pub fn of(estate: &Arc<Estate>) -> Option<Self> {
        let mode = estate.config.load().settings.discovery.mdns.mode;
        let disabled = variable("OPENCLAW_DISABLE_BONJOUR");
        let wanted = is_wanted(mode, disabled.as_deref(), mode != MdnsMode::Off && in_container());
        wanted.then(|| Self { estate: estate.clone(), mode })
    }

    fn facts(&self) -> Option<Facts> {
        let doors = self.estate.reach.doors.get()?;
        let is_full = self.mode == MdnsMode::Full;
        let address = self.estate.reach.published();
        let tailnet = variable("OPENCLAW_TAILNET_DNS").or_else(|| {
            let host = address?.strip_prefix("https://")?.split([':', '/']).next()?.to_owned();
            Some(host)
        });
        let program = || std::env::current_exe().ok()?.to_str().map(str::to_owned);
        let full = [
            ("tailnetDns", tailnet),
            ("sshPort", variable("OPENCLAW_SSH_PORT").or_else(|| Some(SSH.into()))),
            ("cliPath", variable("OPENCLAW_CLI_PATH").or_else(program)),
        ];
        Some(Facts {
            host: variable("OPENCLAW_MDNS_HOSTNAME").unwrap_or_else(|| self.estate.boot.host.clone()),
            port: doors.front.first()?.port(),
            certificate: self.estate.reach.certificate.borrow().map(|certificate| certificate.fingerprint),
            direct: doors.front.iter().any(|address| !address.ip().is_loopback()),
            full: full
                .into_iter()
                .filter_map(|(key, value)| Some((key, value?)))
                .filter(|_| is_full)
                .collect(),
        })
    }

    fn word(&self) -> &'static str {
        match self.mode {
            MdnsMode::Off => "off",
            MdnsMode::Minimal => "minimal",
            MdnsMode::Full => "full",
        }
    }
}

/// An announcement that is there, with a thread of its own. Dropped, it is taken back.
pub struct Announcement {
    daemon: ServiceDaemon,
    name: String,
}

impl Announcement {
    fn new(record: &Record) -> Result<Self, mdns_sd::Error> {
        let host = format!("{}.local.", record.host);
        let service = ServiceInfo::new(SERVICE, &record.instance, &host, "", record.port, &record.txt[..])?;
        let service = service.enable_addr_auto();
        let daemon = ServiceDaemon::new()?;
        let this = Self { name: service.get_fullname().to_owned(), daemon };
        this.daemon.register(service)?;
        Ok(this)
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Its thread does both in this order; nobody waits for it.
        let _ = self.daemon.unregister(&self.name);
        let _ = self.daemon.shutdown();
    }
}

/// What it hears.
pub enum BeaconMsg {
    /// Announce the gateway as it is now.
    Announce,
    /// It is announced, or is not.
    Announced(Result<Announcement, String>),
}

/// See the module.
pub struct Beacon {
    args: BeaconArgs,
    announcement: Option<Announcement>,
    _again: Timer,
}

impl Behavior for Beacon {
    type Msg = BeaconMsg;
    type Args = BeaconArgs;
    const KIND: &'static str = "mdns";

    fn start(ctx: &mut Ctx<BeaconMsg>, args: BeaconArgs) -> Result<Self, Fault> {
        let again = ctx.after(Duration::ZERO, BeaconMsg::Announce);
        let mut certificate = args.estate.reach.certificate.subscribe();
        certificate.mark_unchanged();
        let me = ctx.me().clone();
        ctx.detached(async move {
            while certificate.changed().await.is_ok() {
                let _ = me.send(BeaconMsg::Announce);
            }
        });
        Ok(Self { args, announcement: None, _again: again })
    }

    fn handle(&mut self, ctx: &mut Ctx<BeaconMsg>, msg: BeaconMsg) -> Result<(), Fault> {
        match msg {
            BeaconMsg::Announce => self.announce(ctx),
            BeaconMsg::Announced(announced) => self.announced(ctx, announced),
        }
        Ok(())
    }
}

impl Beacon {
    fn announce(&mut self, ctx: &mut Ctx<BeaconMsg>) {
        self.announcement = None;
        let Some(facts) = self.args.facts() else { return };
        let made = tokio::task::spawn_blocking(move || {
            Announcement::new(&record(&facts)).map_err(|error| error.to_string())
        });
        ctx.task(made, |made| BeaconMsg::Announced(made.unwrap_or_else(|error| Err(error.to_string()))));
    }

    fn announced(&mut self, ctx: &mut Ctx<BeaconMsg>, announced: Result<Announcement, String>) {
        let state = match announced {
            Ok(announcement) => {
                tracing::info!(target: "crabtree::mdns", "announced on the local network as {}", announcement.name);
                self.announcement = Some(announcement);
                State::Up(None)
            }
            Err(why) => {
                self._again = ctx.after(AGAIN, BeaconMsg::Announce);
                State::Down(why)
            }
        };
        let standing = Some(Standing { mode: self.args.word(), state });
        let reach = &self.args.estate.reach;
        if let Some(Standing { state: State::Down(why), .. }) = standing.as_ref()
            && *reach.mdns.borrow() != standing
        {
            tracing::warn!(target: "crabtree::mdns", "not announced on the local network: {why}; it is tried again in {} s; \
                discovery.mdns.mode \"off\" ends that", AGAIN.as_secs());
        }
        ctx.publish_info(standing.as_ref().map_or(serde_json::Value::Null, Standing::told));
        reach.mdns.send_replace(standing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(facts: &Facts) -> Vec<String> {
        record(facts).txt.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// accepts: K13
    #[test]
    fn the_network_is_told_what_was_recorded_and_no_more() {
        let plain = Facts { host: "attic".into(), port: 18789, ..Facts::default() };
        let always = [
            "role=gateway",
            "transport=gateway",
            "displayName=attic",
            "lanHost=attic.local",
            "gatewayPort=18789",
        ];
        assert_eq!(told(&plain), always);
        let record = record(&plain);
        assert_eq!((record.instance.as_str(), record.host.as_str()), ("attic (OpenClaw)", "attic"));

        let fingerprint = Fingerprint::of(b"a certificate");
        let full = vec![("sshPort", "22".to_owned()), ("cliPath", "x".repeat(MAX_ENTRY))];
        let more = told(&Facts { certificate: Some(fingerprint), direct: true, full, ..plain });
        let (sealed, direct) = (format!("gatewayTlsSha256={fingerprint}"), "gatewayDirectReachable=1");
        assert_eq!(
            more[5..],
            ["gatewayTls=1", &sealed, direct, "sshPort=22"],
            "what is too long is left out"
        );
    }

    #[test]
    fn names_fit_into_dns() {
        assert_eq!(label("attic.example.org"), "attic");
        for odd in ["", "my host", "a_b", "-a", "a-", "ä", &"x".repeat(64)] {
            assert_eq!(label(odd), NO_NAME, "{odd}");
        }
        let long = Facts { host: "ä".repeat(60), ..Facts::default() };
        let record = record(&long);
        assert!(
            record.instance.len() <= MAX_LABEL && record.instance.ends_with("ä (OpenClaw)"),
            "{record:?}"
        );
    }

    #[test]
    fn it_is_announced_only_where_it_is_wanted() {
        use MdnsMode::{Full, Minimal, Off};
        assert!(is_wanted(Minimal, None, false) && is_wanted(Full, Some("0"), true));
        assert!(!is_wanted(Off, Some("0"), false) && !is_wanted(Minimal, None, true));
        for word in ["1", "true", " YES ", "on"] {
            assert!(!is_wanted(Full, Some(word), false), "{word}");
        }
    }
}
