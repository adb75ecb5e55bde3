//! `crabtree tree --watch` on a terminal: the tree, the sessions and the channels on the whole screen, with keys.
//!
//! [`model`] is told what the gateway says and what is pressed, and knows what to show; [`draw`] makes text of it for
//! a size; both are pure. [`feed`] keeps the connection, [`screen`] the terminal.

mod draw;
mod feed;
mod keys;
mod model;
mod rows;
mod screen;
mod seen;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use crossterm::event::{Event, EventStream, KeyEventKind};
use feed::{Ask, Feed, Heard};
use futures_util::StreamExt;
use model::{Action, Model};
use screen::Screen;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{Failure, Global};

/// How often the durations on the screen go on.
const CLOCK: Duration = Duration::from_secs(1);
/// What waits between the keys and the connection: more than anybody types within one answer.
const WAITING: usize = 16;

/// Whether there is a screen to show it on, and somebody at the keys.
pub(super) fn is_possible() -> bool {
    Screen::is_there()
}

pub(super) async fn run(global: &Global) -> Result<ExitCode, Failure> {
    // Who cannot connect at all learns it on the screen they are on.
    let (client, admin) = feed::connect(global).await?;
    let (asks, asked) = mpsc::channel(WAITING);
    let (tell, told) = mpsc::channel(WAITING);
    let mut signals = Signals::new().map_err(|error| screen::broken(&error))?;
    let shown = show(Model::new(admin), Screen::open()?, asks, told);
    tokio::select! {
        () = Feed::new(global, asked, tell).follow(client) => Ok(ExitCode::SUCCESS),
        code = signals.received() => Ok(ExitCode::from(code)),
        shown = shown => shown.map(|()| ExitCode::SUCCESS),
    }
}

/// Shows what is told and does what is pressed, until somebody quits.
async fn show(
    mut model: Model,
    mut screen: Screen,
    asks: mpsc::Sender<Ask>,
    mut told: mpsc::Receiver<Heard>,
) -> Result<(), Failure> {
    let mut events = EventStream::new();
    let mut clock = interval(CLOCK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        screen.draw(&model, Instant::now())?;
        tokio::select! {
            event = events.next() => {
                let key = match event {
                    Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => key,
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return Err(screen::broken(&error)),
                    None => return Ok(()),
                };
                match model.press(&key, Instant::now()) {
                    Some(Action::Quit) => return Ok(()),
                    // Where the feed is behind, it is because the gateway is lost: then nothing is done later.
                    Some(Action::Ask(ask)) => drop(asks.try_send(ask)),
                    None => {}
                }
            }
            heard = told.recv() => {
                let Some(heard) = heard else { return Ok(()) };
                if matches!(heard, Heard::Connected { .. }) {
                    // What was asked while there was no connection was not heard.
                    let _ = asks.try_send(Ask::Show(model.view));
                }
                model.hear(heard, Instant::now());
            }
            _ = clock.tick() => {}
        }
    }
}

/// What ends the program from outside. Ctrl-C is a key here.
struct Signals([(Signal, u8); 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        let of = |kind: SignalKind| {
            // As shells tell it.
            Ok::<_, std::io::Error>((
                signal(kind)?,
                128 + u8::try_from(kind.as_raw_value()).unwrap_or_default(),
            ))
        };
        Ok(Self([of(SignalKind::terminate())?, of(SignalKind::interrupt())?, of(SignalKind::hangup())?]))
    }

    /// The exit code of the one that came.
    async fn received(&mut self) -> u8 {
        let Self([(terminate, terminated), (interrupt, interrupted), (hangup, hung_up)]) = self;
        tokio::select! {
            _ = terminate.recv() => *terminated,
            _ = interrupt.recv() => *interrupted,
            _ = hangup.recv() => *hung_up,
        }
    }
}
