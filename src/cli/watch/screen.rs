//! The terminal: the only part that touches it. It is given back as it was however the program ends: at the end of
//! [`Screen`], and by the panic hook that `ratatui` sets.

use std::{io::IsTerminal, time::Instant};

use ratatui::DefaultTerminal;

use super::{draw, model::Model};
use crate::cli::Failure;

/// The whole screen, taken from the shell.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    colours: bool,
}

impl Screen {
    pub fn is_there() -> bool {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        std::io::stdout().is_terminal() && std::io::stdin().is_terminal() && !is_dumb
    }

    pub fn open() -> Result<Self, Failure> {
        // https://no-color.org: set and not empty.
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let terminal = ratatui::try_init().map_err(|error| {
            // It may have been half way.
            let _ = ratatui::try_restore();
            broken(&error)
        })?;
        Ok(Self { terminal, colours })
    }

    /// Shows the model, at whatever size the terminal has now.
    pub fn draw(&mut self, model: &Model, at: Instant) -> Result<(), Failure> {
        let colours = self.colours;
        let drawn = self.terminal.draw(|frame| draw::draw(frame, model, at, colours));
        drawn.map(drop).map_err(|error| broken(&error))
    }
}

/// The terminal cannot be used.
pub(super) fn broken(error: &std::io::Error) -> Failure {
    Failure::failed(format!("the terminal cannot be used: {error}"))
        .or_next("without a screen it works as `crabtree tree --watch | cat`")
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing any more.
        let _ = ratatui::try_restore();
    }
}
