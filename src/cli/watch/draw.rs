//! A model and a size make a screen: pure. Whatever the size, there is something to read and nothing panics.

use std::time::Instant;

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Widget, Wrap},
};

use super::{
    keys::{HELP, HINTS},
    model::{Link, Mode, Model, View},
    rows::{COLUMNS, Column, NAMES, Row, Tone},
};
use crate::cli::tree::span;

/// From so many columns on there is room for the long headings.
const ROOMY: u16 = 110;
/// What the name of a row needs at the least, before other columns are left out.
const MIN_NAME: u16 = 20;
/// Lines about the selected row, with the rule above them.
const ABOUT: u16 = 4;
/// From so many lines on there is room for them.
const TALL: u16 = 14;

/// What may be used to make things stand out.
#[derive(Clone, Copy)]
struct Palette {
    colours: bool,
}

impl Palette {
    fn tone(self, tone: Tone) -> Style {
        match tone {
            Tone::Plain => Style::new(),
            Tone::Moving => self.colour(Color::Yellow),
            Tone::Bad => self.colour(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    fn colour(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }
}

/// The parts of the screen, from above; those that find no room have no height.
struct Parts {
    header: Rect,
    headings: Rect,
    body: Rect,
    about: Rect,
    status: Rect,
}

impl Parts {
    fn of(area: Rect) -> Self {
        let mut rest = area;
        let mut above = |wanted: bool| {
            let height = u16::from(wanted && rest.height > 0);
            let part = Rect { height, ..rest };
            rest = Rect { y: rest.y + height, height: rest.height - height, ..rest };
            part
        };
        let (header, headings) = (above(area.height >= 3), above(area.height >= 5));
        let mut below = |height: u16| {
            rest.height -= height;
            Rect { y: rest.y + rest.height, height, ..rest }
        };
        let status = below(u16::from(area.height >= 2));
        let about = below(if area.height >= TALL { ABOUT } else { 0 });
        Self { header, headings, body: rest, about, status }
    }
}

/// Draws the model over the whole frame.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, at: Instant, colours: bool) {
    let (parts, palette) = (Parts::of(frame.area()), Palette { colours });
    let buffer = frame.buffer_mut();
    header(buffer, parts.header, model, at, palette);
    status(buffer, parts.status, model, at, palette);
    if let Mode::Help(top) = model.mode {
        let height = parts.headings.height + parts.body.height + parts.about.height;
        return help(buffer, Rect { height, ..parts.headings }, top);
    }
    let rows = model.rows(at);
    let selected = model.selected(&rows);
    table(buffer, &parts, model, &rows, selected, palette);
    if let Some(row) = rows.get(selected) {
        about(buffer, parts.about, row, palette);
    }
}

/// Text from `x` on, ended by `…` where it does not fit; where it ends.
fn put(buffer: &mut Buffer, area: Rect, x: u16, text: &str, style: Style) -> u16 {
    let room = area.right().saturating_sub(x);
    if area.height == 0 || room == 0 {
        return x;
    }
    if Span::raw(text).width() <= usize::from(room) {
        return buffer.set_stringn(x, area.y, text, usize::from(room), style).0;
    }
    let (end, _) = buffer.set_stringn(x, area.y, text, usize::from(room - 1), style);
    buffer.set_stringn(end, area.y, "…", 1, style).0
}

/// The views and, on the right, how the gateway is; where there is little room, rather the latter.
fn header(buffer: &mut Buffer, area: Rect, model: &Model, at: Instant, palette: Palette) {
    let (text, style) = match &model.link {
        Link::Lost { since, .. } => {
            let long =
                span(u64::try_from(at.saturating_duration_since(*since).as_millis()).unwrap_or_default());
            let seeking = if area.width < 60 { "" } else { ", seeking it" };
            (format!("○ no gateway for {long}{seeking}"), palette.tone(Tone::Bad))
        }
        Link::Live { admin } => {
            let only = if *admin { "" } else { ", looking only" };
            match model.tree.as_ref().map(|tree| (tree.count(), tree.parked())) {
                None => ("● connected".to_owned(), Style::new()),
                Some((count, 0)) => (format!("● {count} actors{only}"), palette.colour(Color::Green)),
                Some((count, parked)) => {
                    (format!("● {count} actors, {parked} PARKED{only}"), palette.tone(Tone::Bad))
                }
            }
        }
    };
    let width = u16::try_from(Span::raw(&text).width()).unwrap_or(u16::MAX);
    let start = area.x + area.width.saturating_sub(width);
    put(buffer, area, start, &text, style);
    let left = Rect { width: (start - area.x).saturating_sub(1), ..area };
    let tab = |number: usize, (view, name): (View, &str)| match view == model.view {
        true => (format!("[{} {name}]", number + 1), Style::new().add_modifier(Modifier::BOLD)),
        false => (format!(" {} {name} ", number + 1), Style::new()),
    };
    let mut tabs: Vec<_> = View::ALL.into_iter().enumerate().map(|(number, one)| tab(number, one)).collect();
    if tabs.iter().map(|(text, _)| text.len()).sum::<usize>() > usize::from(left.width) {
        tabs = vec![tabs.swap_remove(model.view as usize)];
    }
    let mut x = left.x;
    for (text, style) in &tabs {
        x = put(buffer, left, x, text, *style);
    }
}

/// What is asked, else what was said, else which keys there are.
fn status(buffer: &mut Buffer, area: Rect, model: &Model, at: Instant, palette: Palette) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let said = model.notice(at);
    match (&model.mode, &model.link) {
        (Mode::Confirm(order), _) => {
            let name = order.verb.name();
            put(
                buffer,
                area,
                area.x,
                &format!("{name} {}? y/n", ending(&order.path, area.width, name.len() + 6)),
                bold,
            );
        }
        (Mode::Filter, _) => {
            let x = put(buffer, area, area.x, &format!("/{}", model.filter), bold);
            put(buffer, area, x, "▏ Enter: keep, Esc: show all", Style::new());
        }
        (Mode::Help(_), _) => {
            put(buffer, area, area.x, "any key: back  ↑↓ more  q quit", Style::new());
        }
        (Mode::Normal, Link::Lost { why, .. }) => {
            put(buffer, area, area.x, said.unwrap_or(why), palette.tone(Tone::Bad));
        }
        (Mode::Normal, Link::Live { .. }) => {
            let mut x = area.x;
            if let Some(said) = said {
                put(buffer, area, x, said, bold);
                return;
            }
            if !model.filter.is_empty() {
                x = put(buffer, area, x, &format!("only \"{}\" (Esc: all)  ", model.filter), bold);
            }
            for hint in HINTS {
                // A half word helps nobody.
                if usize::from(area.right().saturating_sub(x)) >= Span::raw(hint).width() {
                    x = put(buffer, area, x, hint, Style::new()).saturating_add(2);
                }
            }
        }
    }
}

/// The end of a path, which tells more than its beginning, in what is left beside `taken` columns.
fn ending(path: &str, width: u16, taken: usize) -> String {
    let room = usize::from(width).saturating_sub(taken);
    let surplus = path.chars().count().saturating_sub(room);
    if surplus == 0 {
        return path.to_owned();
    }
    let end: String = path.chars().skip(surplus + 1).collect();
    format!("…{end}")
}

fn help(buffer: &mut Buffer, area: Rect, top: usize) {
    for ((keys, what), y) in HELP.iter().skip(top).zip(area.top()..area.bottom()) {
        let line = Rect { y, height: 1, ..area };
        put(buffer, line, line.x, keys, Style::new().add_modifier(Modifier::BOLD));
        let indent = if keys.is_empty() { 0 } else { 15 };
        put(buffer, line, line.x + indent, what, Style::new());
    }
}

/// The columns that have room, each with where it begins and how wide it is; the first is the name.
fn columns(all: &'static [Column], width: u16, longest: u16) -> Vec<(usize, u16, u16)> {
    let width_of = |column: &Column| if width >= ROOMY { column.width } else { column.narrow };
    let mut shown = all.len();
    let taken = |shown: usize| all[..shown].iter().map(|column| width_of(column) + 1).sum::<u16>();
    while shown > 0 && taken(shown) + MIN_NAME > width {
        shown -= 1;
    }
    let name = longest.max(MIN_NAME).min(width - taken(shown).min(width));
    let mut x = name + 1;
    let mut placed = vec![(0, 0, name)];
    for (index, column) in all[..shown].iter().enumerate() {
        // The last one takes what is left.
        let own = if index + 1 == all.len() { width.saturating_sub(x) } else { width_of(column) };
        placed.push((index + 1, x, own));
        x += own + 1;
    }
    placed
}

fn table(
    buffer: &mut Buffer,
    parts: &Parts,
    model: &Model,
    rows: &[Row<'_>],
    selected: usize,
    palette: Palette,
) {
    let all = COLUMNS[model.view as usize];
    let width = parts.body.width;
    let longest = rows.iter().map(|row| Span::raw(&row.name).width()).max().unwrap_or_default();
    let places = columns(all, width, u16::try_from(longest).unwrap_or(u16::MAX));
    let line = |buffer: &mut Buffer, area: Rect, cell: &dyn Fn(usize) -> String, style: Style| {
        for &(column, x, width) in &places {
            let place = Rect { x: area.x + x, width, ..area }.intersection(area);
            put(buffer, place, place.x, &cell(column), style);
        }
    };
    let heading = |column: usize| {
        let heading = column.checked_sub(1).map(|column| &all[column]);
        heading
            .map_or(NAMES[model.view as usize], |c| if width >= ROOMY { c.head } else { c.short })
            .to_owned()
    };
    line(buffer, parts.headings, &heading, Style::new().add_modifier(Modifier::DIM));
    if rows.is_empty() {
        put(buffer, parts.body, parts.body.x, nothing(model), Style::new());
    }
    let lost = matches!(model.link, Link::Lost { .. });
    let height = usize::from(parts.body.height);
    // The selected row stays in the middle while there are others on both sides.
    let top = selected.saturating_sub(height / 2).min(rows.len().saturating_sub(height));
    for ((index, row), y) in rows.iter().enumerate().skip(top).zip(parts.body.top()..parts.body.bottom()) {
        let area = Rect { y, height: 1, ..parts.body };
        let style = if lost { Style::new().add_modifier(Modifier::DIM) } else { palette.tone(row.tone) };
        let cell = |column: usize| {
            column.checked_sub(1).map_or_else(|| row.name.clone(), |column| row.cells[column].clone())
        };
        line(buffer, area, &cell, style);
        if index == selected {
            buffer.set_style(area, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}

/// Why there is no row.
fn nothing(model: &Model) -> &'static str {
    match (model.filter.is_empty(), model.view) {
        (false, _) => "nothing contains that; Esc shows all",
        (true, View::Tree) => "waiting for the gateway",
        (true, View::Sessions) => "no sessions yet: crabtree agent -m hello",
        (true, View::Channels) => "no channels yet: configure one, for instance channels.telegram.botToken",
    }
}

/// More of the selected row.
fn about(buffer: &mut Buffer, area: Rect, row: &Row<'_>, palette: Palette) {
    if area.height == 0 {
        return;
    }
    let rule = "─".repeat(usize::from(area.width));
    put(buffer, area, area.x, &rule, Style::new().add_modifier(Modifier::DIM));
    let text: Vec<Line<'_>> =
        row.more.iter().map(|line| Line::styled(line.as_str(), palette.tone(row.tone))).collect();
    let below = Rect { y: area.y + 1, height: area.height - 1, ..area };
    Paragraph::new(text).wrap(Wrap { trim: true }).render(below, buffer);
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
