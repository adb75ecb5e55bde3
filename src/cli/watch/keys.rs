//! The keys: what each does, for who presses them and for who reads the help.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key means while nothing is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Command {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Fold,
    Unfold,
    Toggle,
    Restart,
    Park,
    Resume,
    NextView,
    View(usize),
    Filter,
    Clear,
    Help,
    Quit,
}

/// The help: keys, and what they do.
pub(super) const HELP: [(&str, &str); 14] = [
    ("↑ ↓  k j", "up and down"),
    ("PgUp PgDn", "ten rows up and down"),
    ("Home End  g G", "first and last row"),
    ("← →  h l", "fold and unfold; ← again goes to the parent"),
    ("Enter Space", "fold or unfold"),
    ("r", "restart the actor (asks first)"),
    ("p", "park it: it stays down until it is resumed (asks first)"),
    ("u", "resume what is parked"),
    ("Tab  1 2 3", "tree, sessions, channels"),
    ("/", "show only what contains a text; Esc shows all again"),
    ("?", "this help"),
    ("q  Ctrl-C", "quit"),
    ("", "A parked actor stays down until somebody resumes it."),
    ("", "BUSY is how long an actor has been at one message."),
];

/// What fits on the last line, the most needed first.
pub(super) const HINTS: [&str; 9] =
    ["? help", "q quit", "r restart", "p park", "u resume", "Tab view", "/ filter", "↑↓ move", "←→ fold"];

/// Ctrl-C, which quits whatever is asked.
pub(super) fn is_interrupt(key: &KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'C'))
}

/// What a key means while nothing is asked.
pub(super) fn command(key: &KeyEvent) -> Option<Command> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return None;
    }
    Some(match key.code {
        KeyCode::Up | KeyCode::Char('k') => Command::Up,
        KeyCode::Down | KeyCode::Char('j') => Command::Down,
        KeyCode::PageUp => Command::PageUp,
        KeyCode::PageDown => Command::PageDown,
        KeyCode::Home | KeyCode::Char('g') => Command::First,
        KeyCode::End | KeyCode::Char('G') => Command::Last,
        KeyCode::Left | KeyCode::Char('h') => Command::Fold,
        KeyCode::Right | KeyCode::Char('l') => Command::Unfold,
        KeyCode::Enter | KeyCode::Char(' ') => Command::Toggle,
        KeyCode::Char('r') => Command::Restart,
        KeyCode::Char('p') => Command::Park,
        KeyCode::Char('u') => Command::Resume,
        KeyCode::Tab => Command::NextView,
        KeyCode::Char(digit @ '1'..='3') => Command::View(digit as usize - '1' as usize),
        KeyCode::Char('/') => Command::Filter,
        KeyCode::Esc => Command::Clear,
        KeyCode::Char('?') => Command::Help,
        KeyCode::Char('q') => Command::Quit,
        _ => return None,
    })
}
