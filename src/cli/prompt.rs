//! What is asked of somebody at the terminal and is nobody else's business.

use std::io::stdin;

use crabtree_actors::settings::Secret;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::Failure;

/// Asks at the terminal, which does not show what is typed.
pub(super) fn asked(what: &str) -> Result<Secret, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("the value cannot be read: {error}"));
    let before = tcgetattr(stdin()).map_err(|error| failed(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    eprint!("{what}");
    tcsetattr(stdin(), OptionalActions::Flush, &silent).map_err(|error| failed(error.into()))?;
    let mut line = Zeroizing::new(String::with_capacity(4096));
    let read = stdin().read_line(&mut line);
    // The terminal is the user's again, whatever came of it.
    let _ = tcsetattr(stdin(), OptionalActions::Flush, &before);
    eprintln!();
    read.map_err(failed)?;
    Ok(Secret::new(line.trim_end_matches(['\r', '\n'])))
}
