//! The signals of the process. Between one program and the next that takes its place, and before the runtime listens,
//! they wait: nothing that is asked for then is lost, and nothing kills.

use futures_util::FutureExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Those that the gateway understands.
const HEARD: [i32; 5] = [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2];

/// What comes before the runtime is there to hear it.
pub struct Early {
    stop: Arc<AtomicBool>,
    hand_over: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Early {
    /// From now on no signal that the gateway understands ends the process. Threads that are started later let them
    /// through, too.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listen() -> io::Result<Self> {
        let heard = |signals: &[i32]| {
            let flag = Arc::new(AtomicBool::new(false));
            signals
                .iter()
                .try_for_each(|signal| signal_hook::flag::register(*signal, flag.clone()).map(drop))
                .map(|()| flag)
        };
        let this = Self {
            stop: heard(&[SIGTERM, SIGINT])?,
            hand_over: heard(&[SIGUSR2])?,
            reload: heard(&[SIGHUP])?,
        };
        // OpenClaw's opens a debugger; here it means nothing.
        heard(&[SIGUSR1])?;
        release()?;
        Ok(this)
    }
}

/// The signals of this thread wait from now on, also through a change of the program.
///
/// # Errors
/// What the kernel says.
pub fn hold() -> io::Result<()> {
    mask(uapi::c::SIG_BLOCK)
}

/// They come again, those that have waited first.
///
/// # Errors
/// What the kernel says.
pub fn release() -> io::Result<()> {
    mask(uapi::c::SIG_UNBLOCK)
}

fn mask(how: i32) -> io::Result<()> {
    let mut set = uapi::empty_sig_set()?;
    for signal in HEARD {
        uapi::sigaddset(&mut set, signal)?;
    }
    Ok(uapi::pthread_sigmask(how, Some(&set), None)?)
}

/// A failed change of the program leaves writing to a closed pipe deadly: it is an error again.
///
/// # Errors
/// What the kernel says.
pub fn mend_pipes() -> io::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::default()).map(drop)
}

/// One that is waited for.
pub struct Awaited {
    signals: Vec<Signal>,
    /// One has come before.
    early: bool,
}

impl Awaited {
    fn new(kinds: &[SignalKind], early: &AtomicBool) -> io::Result<Self> {
        let mut signals = kinds.iter().map(|kind| signal(*kind)).collect::<io::Result<Vec<_>>>()?;
        let early = early.load(SeqCst);
        if early {
            // One that came just now was heard by both.
            for signal in &mut signals {
                let _ = signal.recv().now_or_never();
            }
        }
        Ok(Self { signals, early })
    }

    /// Resolves when it has come.
    pub async fn received(&mut self) {
        if !std::mem::take(&mut self.early) {
            futures_util::future::select_all(self.signals.iter_mut().map(|signal| Box::pin(signal.recv())))
                .await;
        }
    }
}

/// What the gateway is told by signals.
pub struct Signals {
    /// SIGTERM and SIGINT: end.
    pub stop: Awaited,
    /// SIGUSR2: start anew.
    pub hand_over: Awaited,
    /// SIGHUP: read the configuration again.
    pub reload: Awaited,
}

impl Signals {
    /// Listens to them, in the runtime.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(early: &Early) -> io::Result<Self> {
        Ok(Self {
            stop: Awaited::new(&[SignalKind::terminate(), SignalKind::interrupt()], &early.stop)?,
            hand_over: Awaited::new(&[SignalKind::user_defined2()], &early.hand_over)?,
            reload: Awaited::new(&[SignalKind::hangup()], &early.reload)?,
        })
    }
}
