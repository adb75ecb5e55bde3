//! Whose an address on the tailnet is. What a request says of that is no proof; Tailscale on this machine knows.

use crate::process::{Command, Guard};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer is believed, and how long one does not ask again where there was none.
const KEPT: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(5));
/// Answers that are kept.
const MAX_KEPT: usize = 256;
/// Questions at the same time.
const MAX_ASKED: usize = 4;
/// Bytes of an answer.
const MAX_ANSWER: u64 = 64 * 1024;
/// The login of machines that belong to nobody.
const NOBODY: &str = "tagged-devices";

/// Who knows whose an address is.
pub trait Whois: Send + Sync {
    /// The login of the person whose machine has this address, if it is known.
    fn login(&self, ip: IpAddr) -> BoxFuture<'static, Option<String>>;
}

type Kept = Mutex<HashMap<IpAddr, (Option<String>, Instant)>>;

/// The `tailscale` program.
pub struct Program {
    guard: Guard,
    kept: Arc<Kept>,
    asking: Arc<Semaphore>,
}

impl Program {
    /// Run under this guard.
    pub fn new(guard: Guard) -> Self {
        Self { guard, kept: Arc::default(), asking: Arc::new(Semaphore::new(MAX_ASKED)) }
    }

    /// Who watches over it.
    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }
}

impl Whois for Program {
    fn login(&self, ip: IpAddr) -> BoxFuture<'static, Option<String>> {
        let (guard, kept, asking) = (self.guard.clone(), self.kept.clone(), self.asking.clone());
        Box::pin(async move {
            if let Some(known) = recall(&kept, ip) {
                return known;
            }
            let asked = async {
                let _place = asking.acquire().await.ok()?;
                ask(ip, &guard).await
            };
            let login = timeout(PATIENCE, asked).await.ok().flatten();
            remember(&kept, ip, login.clone());
            login
        })
    }
}

fn recall(kept: &Kept, ip: IpAddr) -> Option<Option<String>> {
    let kept = kept.lock();
    let (login, until) = kept.get(&ip)?;
    (*until > Instant::now()).then(|| login.clone())
}

fn remember(kept: &Kept, ip: IpAddr, login: Option<String>) {
    let now = Instant::now();
    let mut kept = kept.lock();
    kept.retain(|_, (_, until)| *until > now);
    if kept.len() < MAX_KEPT {
        let until = now + if login.is_some() { KEPT.0 } else { KEPT.1 };
        kept.insert(ip, (login, until));
    }
}

async fn ask(ip: IpAddr, guard: &Guard) -> Option<String> {
    let whois = Command::new("tailscale").args(["whois", "--json", &ip.to_string()]);
    let mut child = whois.spawn(guard).await.ok()?;
    child.stdin.take();
    let mut answer = Vec::new();
    child.stdout.take()?.take(MAX_ANSWER).read_to_end(&mut answer).await.ok()?;
    child.wait().await;
    login_in(&answer)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    user_profile: Profile,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Profile {
    login_name: String,
}

fn login_in(answer: &[u8]) -> Option<String> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let login = answer.user_profile.login_name.trim().to_owned();
    (!login.is_empty() && login != NOBODY).then_some(login)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_found_in_the_answer_and_nobody_is_nobody() {
        let answer = |login: &str| {
            login_in(
                format!(r#"{{"Node": {{"ID": 1}}, "UserProfile": {{"LoginName": "{login}", "ID": 2}}}}"#)
                    .as_bytes(),
            )
        };
        assert_eq!(answer("ada@example.com").as_deref(), Some("ada@example.com"));
        assert_eq!((answer(" "), answer(NOBODY)), (None, None));
        assert_eq!(login_in(b"peer not found"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_for_a_while_and_are_bounded() {
        let kept = Kept::default();
        let ip = |n: u32| IpAddr::V4(n.into());
        remember(&kept, ip(1), Some("ada".into()));
        remember(&kept, ip(2), None);
        assert_eq!(recall(&kept, ip(1)), Some(Some("ada".into())));
        assert_eq!(recall(&kept, ip(2)), Some(None));
        tokio::time::advance(KEPT.1).await;
        assert_eq!(recall(&kept, ip(2)), None);
        for n in 0..2 * MAX_KEPT as u32 {
            remember(&kept, ip(n), None);
        }
        assert_eq!(kept.lock().len(), MAX_KEPT);
        tokio::time::advance(KEPT.0).await;
        assert_eq!(recall(&kept, ip(1)), None);
    }

    #[tokio::test]
    async fn without_the_program_nobody_is_known() {
        let program = Program::new(Guard::none());
        assert_eq!(program.login([100, 64, 0, 1].into()).await, None);
    }
}
