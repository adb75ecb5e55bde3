//! What is on the screen and what the keys make of it: pure, told what the gateway says and what is pressed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    feed::{Ask, Heard, Order, Verb},
    keys::{self, Command},
    rows::{self, Row},
    seen::{Account, Actor, Session, line},
};

/// What one page up or down moves.
const PAGE: usize = 10;
/// Longest filter, in characters.
const MAX_FILTER: usize = 60;
/// How long a notice stays.
const NOTICE: Duration = Duration::from_secs(8);
/// Why keys do nothing for who may only look.
const NOT_ADMIN: &str = "nothing done: that needs operator.admin, and this connection has only operator.read";

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Tree,
    Sessions,
    Channels,
}

impl View {
    pub const ALL: [(Self, &str); 3] =
        [(Self::Tree, "Tree"), (Self::Sessions, "Sessions"), (Self::Channels, "Channels")];
}

/// How it stands with the gateway.
#[derive(Clone, Debug)]
pub(super) enum Link {
    Live { admin: bool },
    Lost { why: String, since: Instant },
}

/// What is asked of who sits there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Mode {
    #[default]
    Normal,
    /// A filter is typed.
    Filter,
    /// Whether this shall be done.
    Confirm(Order),
    /// The help, from this line on.
    Help(usize),
}

/// What the keys want done outside.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Quit,
    Ask(Ask),
}

/// See the module.
pub(super) struct Model {
    pub view: View,
    pub mode: Mode,
    pub link: Link,
    pub filter: String,
    pub tree: Option<Actor>,
    sessions: Vec<Session>,
    channels: Vec<Account>,
    folded: BTreeSet<String>,
    /// The selected row of each view, and where it was, for when it is gone.
    selected: [(Option<String>, usize); 3],
    notice: Option<(String, Instant)>,
    /// The gateway's clock, and when it said so.
    clock: Option<(u64, Instant)>,
}

impl Model {
    /// Before anything was heard.
    pub fn new(admin: bool) -> Self {
        Self {
            view: View::default(),
            mode: Mode::default(),
            link: Link::Live { admin },
            filter: String::new(),
            tree: None,
            sessions: Vec::new(),
            channels: Vec::new(),
            // Clients come and go; whoever wants to see them unfolds them.
            folded: BTreeSet::from(["gateway/connections".to_owned()]),
            selected: Default::default(),
            notice: None,
            clock: None,
        }
    }

    /// The time at the gateway; it stands still while the gateway is lost.
    pub fn now(&self, at: Instant) -> u64 {
        let Some((ts, heard)) = self.clock else { return 0 };
        let until = match &self.link {
            Link::Live { .. } => at,
            Link::Lost { since, .. } => *since,
        };
        ts.saturating_add(
            u64::try_from(until.saturating_duration_since(heard).as_millis()).unwrap_or(u64::MAX),
        )
    }

    /// What there is to say, for a while.
    pub fn notice(&self, at: Instant) -> Option<&str> {
        self.notice.as_ref().filter(|(_, until)| at < *until).map(|(text, _)| text.as_str())
    }

    fn say(&mut self, text: impl Into<String>, at: Instant) {
        self.notice = Some((text.into(), at + NOTICE));
    }

    /// The rows of the view.
    pub fn rows(&self, at: Instant) -> Vec<Row<'_>> {
        let (root, filter, now) = (self.tree.as_ref(), &self.filter, self.now(at));
        match (self.view, root) {
            (View::Tree, Some(root)) => rows::of_tree(root, &self.folded, filter, now),
            (View::Tree, None) => Vec::new(),
            (View::Sessions, root) => rows::of_sessions(&self.sessions, root, filter, now),
            (View::Channels, root) => rows::of_channels(&self.channels, root, filter, now),
        }
    }

    /// Which of the rows is selected: the same as before, or the one that came to its place.
    pub fn selected(&self, rows: &[Row<'_>]) -> usize {
        let (id, place) = &self.selected[self.view as usize];
        let same = id.as_ref().and_then(|id| rows.iter().position(|row| row.id == *id));
        same.unwrap_or_else(|| (*place).min(rows.len().saturating_sub(1)))
    }

    /// Takes in what the gateway said.
    pub fn hear(&mut self, heard: Heard, at: Instant) {
        match heard {
            Heard::Connected { admin } => {
                if matches!(self.link, Link::Lost { .. }) {
                    self.say("connected again", at);
                }
                self.link = Link::Live { admin };
            }
            Heard::Lost { why, unanswered } => {
                // The first loss counts; what follows are attempts.
                let since = match self.link {
                    Link::Lost { since, .. } => since,
                    Link::Live { .. } => at,
                };
                self.link = Link::Lost { why: line(&why.into()), since };
                if unanswered {
                    self.say("the gateway was lost before it answered: whether it was done is unknown", at);
                }
            }
            Heard::Tree { tree, changed } => {
                self.clock = tree["ts"].as_u64().map(|ts| (ts, at));
                self.tree = Some(Actor::read(&tree["root"]));
                if let Some(changed) = changed.filter(|_| self.notice(at).is_none()) {
                    self.say(news(&changed), at);
                }
            }
            Heard::Sessions(list) => self.sessions = Session::list(&list),
            Heard::Channels(status) => self.channels = Account::list(&status),
            Heard::Done(outcome) => self.say(line(&outcome.into()), at),
        }
    }

    /// What a key does.
    pub fn press(&mut self, key: &KeyEvent, at: Instant) -> Option<Action> {
        if keys::is_interrupt(key) {
            return Some(Action::Quit);
        }
        if key.modifiers.contains(KeyModifiers::ALT) {
            // Terminals send Escape and what follows it at once like this, and nobody means Alt here.
            self.press(&KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE), at);
            return self.press(&KeyEvent::new(key.code, key.modifiers - KeyModifiers::ALT), at);
        }
        match self.mode.clone() {
            Mode::Normal => keys::command(key).and_then(|command| self.command(command, at)),
            Mode::Filter => self.type_filter(key, at),
            Mode::Confirm(order) => {
                self.mode = Mode::Normal;
                if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                    return self.order(order, at);
                }
                self.say("nothing done", at);
                None
            }
            Mode::Help(top) => {
                self.mode = match keys::command(key) {
                    Some(Command::Down) => Mode::Help((top + 1).min(keys::HELP.len() - 1)),
                    Some(Command::Up) => Mode::Help(top.saturating_sub(1)),
                    Some(Command::Quit) => return Some(Action::Quit),
                    _ => Mode::Normal,
                };
                None
            }
        }
    }

    fn command(&mut self, command: Command, at: Instant) -> Option<Action> {
        self.notice = None;
        match command {
            Command::Up => self.step(at, |index| index.saturating_sub(1)),
            Command::Down => self.step(at, |index| index + 1),
            Command::PageUp => self.step(at, |index| index.saturating_sub(PAGE)),
            Command::PageDown => self.step(at, |index| index + PAGE),
            Command::First => self.step(at, |_| 0),
            Command::Last => self.step(at, |_| usize::MAX),
            Command::Fold => self.fold(at),
            Command::Unfold => self.unfold(at),
            Command::Toggle => self.toggle(at),
            Command::Restart => return self.wish(Verb::Restart, at),
            Command::Park => return self.wish(Verb::Park, at),
            Command::Resume => return self.wish(Verb::Resume, at),
            Command::NextView => return self.show(View::ALL[(self.view as usize + 1) % View::ALL.len()].0),
            Command::View(number) => return self.show(View::ALL[number].0),
            Command::Filter => self.mode = Mode::Filter,
            Command::Clear => self.filter.clear(),
            Command::Help => self.mode = Mode::Help(0),
            Command::Quit => return Some(Action::Quit),
        }
        None
    }

    fn show(&mut self, view: View) -> Option<Action> {
        self.view = view;
        Some(Action::Ask(Ask::Show(view)))
    }

    fn type_filter(&mut self, key: &KeyEvent, at: Instant) -> Option<Action> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => self.mode = Mode::Normal,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Normal;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char('u') if control => self.filter.clear(),
            KeyCode::Char(c) if !control && !c.is_control() && self.filter.chars().count() < MAX_FILTER => {
                self.filter.push(c);
            }
            KeyCode::Up => self.step(at, |index| index.saturating_sub(1)),
            KeyCode::Down => self.step(at, |index| index + 1),
            _ => {}
        }
        None
    }

    /// Moves the selection.
    fn step(&mut self, at: Instant, to: impl Fn(usize) -> usize) {
        let rows = self.rows(at);
        let index = to(self.selected(&rows)).min(rows.len().saturating_sub(1));
        let id = rows.get(index).map(|row| row.id.clone());
        self.selected[self.view as usize] = (id, index);
    }

    /// The actor that is selected: its path, whether it has children, and whether they are hidden.
    fn current(&self, at: Instant) -> Option<(String, bool, bool)> {
        let rows = self.rows(at);
        let actor = rows.get(self.selected(&rows))?.actor?;
        Some((actor.path.clone(), !actor.children.is_empty(), self.folded.contains(&actor.path)))
    }

    fn fold(&mut self, at: Instant) {
        let Some((path, has_children, folded)) = self.current(at).filter(|_| self.view == View::Tree) else {
            return;
        };
        if has_children && !folded {
            self.folded.insert(path);
        } else if let Some((parent, _)) = path.rsplit_once('/') {
            let rows = self.rows(at);
            let index = rows.iter().position(|row| row.id == parent).unwrap_or_default();
            self.selected[self.view as usize] = (Some(parent.to_owned()), index);
        }
    }

    fn unfold(&mut self, at: Instant) {
        let Some((path, has_children, folded)) = self.current(at).filter(|_| self.view == View::Tree) else {
            return;
        };
        if folded {
            self.folded.remove(&path);
        } else if has_children {
            self.step(at, |index| index + 1);
        }
    }

    fn toggle(&mut self, at: Instant) {
        let Some((path, has_children, folded)) = self.current(at).filter(|_| self.view == View::Tree) else {
            return;
        };
        if folded {
            self.folded.remove(&path);
        } else if has_children {
            self.folded.insert(path);
        }
    }

    /// Somebody wants something done with the selected actor.
    fn wish(&mut self, verb: Verb, at: Instant) -> Option<Action> {
        let Some((path, ..)) = self.current(at) else {
            self.say("nothing done: it is not in memory, so there is no actor", at);
            return None;
        };
        if let Some(why) = self.hindrance() {
            self.say(why, at);
            return None;
        }
        let order = Order { verb, path };
        if verb == Verb::Resume {
            return self.order(order, at);
        }
        self.mode = Mode::Confirm(order);
        None
    }

    fn order(&mut self, order: Order, at: Instant) -> Option<Action> {
        if let Some(why) = self.hindrance() {
            self.say(why, at);
            return None;
        }
        self.say(format!("asked to {} {}", order.verb.name(), order.path), at);
        Some(Action::Ask(Ask::Order(order)))
    }

    /// Why nothing can be done now.
    fn hindrance(&self) -> Option<&'static str> {
        match self.link {
            Link::Live { admin: true } => None,
            Link::Live { admin: false } => Some(NOT_ADMIN),
            Link::Lost { .. } => Some("nothing done: the gateway is not reachable"),
        }
    }
}

/// A change in the tree, in a line.
fn news(changed: &serde_json::Value) -> String {
    let exit = &changed["lastExit"];
    let cause = if exit.is_object() {
        format!(" ({}: {})", line(&exit["kind"]), line(&exit["reason"]))
    } else {
        String::new()
    };
    format!("{}: {}{cause}", line(&changed["path"]), line(&changed["state"]))
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
