//! Text out of HTML, for a model to read. Pages are strangers': this reads tokens one after the other, holds no tree
//! (which deep nesting would make slow, and walking it overflow the stack), and stops at a limit.

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{HtmlString, StartTag, Token, Tokenizer};
use reqwest::Url;

/// Text that is made of a page, bytes: addresses of links can be much longer there than in the page.
const MAX_TEXT: usize = 2 * 1024 * 1024;
/// Longest address of a link that is told, bytes.
const MAX_LINK: usize = 500;
/// Longest title, bytes.
const MAX_TITLE: usize = 300;
/// How deep lists and quotes are shown.
const MAX_DEPTH: usize = 4;

/// What is kept of the form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Style {
    /// Headings, lists, links and code, as Markdown writes them.
    #[default]
    Markdown,
    /// The words.
    Text,
}

/// What a page says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Its title.
    pub(super) title: Option<String>,
    /// Its text.
    pub(super) text: String,
    /// Whether there is more.
    pub(super) cut: bool,
}

/// Reads a page that is found at `base`.
pub(super) fn page(html: &str, base: &Url, style: Style) -> Page {
    let page = Writer::new(base, style, true).read(html);
    // What is to be left out does not end: the page is not well-formed, so nothing is left out.
    page.unwrap_or_else(|| Writer::new(base, style, false).read(html).unwrap_or_default())
}

struct Writer<'a> {
    base: &'a Url,
    style: Style,
    /// Navigation and controls are left out.
    sparing: bool,
    title: String,
    in_title: bool,
    text: String,
    /// Line ends before the next word, and what its line begins with.
    breaks: usize,
    lead: String,
    space: bool,
    /// The element that is being left out, and how often it was opened.
    left_out: Option<(HtmlString, usize)>,
    in_code: bool,
    preformatted: bool,
    quotes: usize,
    /// How many there were around the last word.
    quotes_before: usize,
    /// The open lists: the next number, if they have any.
    lists: Vec<Option<u64>>,
    /// The row of a table has a cell already.
    in_row: bool,
    link: Option<Link>,
}

struct Link {
    to: String,
    /// Where its words begin.
    at: Option<usize>,
}

impl<'a> Writer<'a> {
    fn new(base: &'a Url, style: Style, sparing: bool) -> Self {
        Self {
            base,
            style,
            sparing,
            title: String::new(),
            in_title: false,
            text: String::new(),
            breaks: 0,
            lead: String::new(),
            space: false,
            left_out: None,
            in_code: false,
            preformatted: false,
            quotes: 0,
            quotes_before: 0,
            lists: Vec::new(),
            in_row: false,
            link: None,
        }
    }

    /// None if something that is left out is not closed.
    fn read(mut self, html: &str) -> Option<Page> {
        let mut emitter = DefaultEmitter::default();
        emitter.naively_switch_states(true);
        let mut cut = false;
        for Ok(token) in Tokenizer::new_with_emitter(html, emitter) {
            match token {
                Token::StartTag(tag) => self.start(&tag),
                Token::EndTag(tag) => self.end(&tag.name),
                Token::String(text) => self.string(&String::from_utf8_lossy(&text)),
                _ => {}
            }
            if self.text.len() > MAX_TEXT {
                cut = true;
                break;
            }
        }
        self.end_link();
        if self.sparing && self.left_out.is_some() && !cut {
            return None;
        }
        let title = self.title.split_whitespace().collect::<Vec<_>>().join(" ");
        let title = title[..title.floor_char_boundary(MAX_TITLE)].to_owned();
        let text = self.text.trim_end().to_owned();
        Some(Page { title: (!title.is_empty()).then_some(title), text, cut })
    }

    fn start(&mut self, tag: &StartTag<()>) {
        let name: &[u8] = &tag.name;
        if let Some((left_out, depth)) = &mut self.left_out {
            *depth += usize::from(left_out.as_slice() == name && !tag.self_closing);
            return;
        }
        if is_left_out(name, self.sparing) {
            self.left_out = (!tag.self_closing).then(|| (tag.name.clone(), 1));
            return;
        }
        match name {
            b"title" => self.in_title = self.title.is_empty(),
            b"br" => self.breaks += 1,
            b"hr" => self.rule(),
            b"li" => self.item(),
            b"td" | b"th" => self.cell(),
            b"img" => self.image(tag),
            b"a" => self.start_link(tag),
            b"ul" => self.list(None),
            b"ol" => self.list(Some(1)),
            b"pre" => self.preformatted(true),
            b"code" => self.code(true),
            b"blockquote" => {
                self.gap(2);
                self.quotes += 1;
            }
            [b'h', level @ b'1'..=b'6'] => {
                self.gap(2);
                self.lead("#".repeat(usize::from(level - b'0')) + " ");
            }
            _ => {
                self.gap(lines_around(name));
                self.in_row &= name != b"tr";
            }
        }
    }

    fn end(&mut self, name: &[u8]) {
        if let Some((left_out, depth)) = &mut self.left_out {
            *depth -= usize::from(left_out.as_slice() == name);
            if *depth == 0 {
                self.left_out = None;
            }
            return;
        }
        match name {
            b"title" => self.in_title = false,
            b"a" => self.end_link(),
            b"ul" | b"ol" => {
                self.lists.pop();
                self.lead.clear();
                self.gap(if self.lists.is_empty() { 2 } else { 1 });
            }
            b"pre" => self.preformatted(false),
            b"code" => self.code(false),
            b"blockquote" => {
                self.gap(2);
                self.quotes = self.quotes.saturating_sub(1);
            }
            [b'h', b'1'..=b'6'] => {
                self.gap(2);
                self.lead.clear();
            }
            _ => self.gap(lines_around(name)),
        }
    }

    fn string(&mut self, text: &str) {
        if self.left_out.is_some() {
            return;
        }
        if self.in_title {
            self.title.push_str(text);
        } else if self.preformatted {
            if std::mem::take(&mut self.breaks) > 0 {
                self.text.push('\n');
            }
            self.text.push_str(text);
        } else {
            self.words(text);
        }
    }

    /// Adds words; white space between them is one space.
    fn words(&mut self, text: &str) {
        self.space |= text.starts_with(char::is_whitespace);
        for word in text.split_whitespace() {
            self.word(word);
            self.space = true;
        }
        self.space &= text.is_empty() || text.ends_with(char::is_whitespace);
    }

    /// Adds one, after the line ends, marks and space that come before it.
    fn word(&mut self, word: &str) {
        if self.breaks > 0 || self.text.is_empty() {
            let breaks = if self.text.is_empty() { 0 } else { self.breaks.min(2) };
            // Between two quotes the quote goes on.
            let around = self.quotes.min(self.quotes_before);
            for line in 1..=breaks {
                self.text.push('\n');
                if line < breaks {
                    self.text.push_str(self.quote(around).trim_end());
                }
            }
            self.text.push_str(self.quote(self.quotes));
            self.quotes_before = self.quotes;
            self.text.push_str(&std::mem::take(&mut self.lead));
        } else if self.space {
            self.text.push(' ');
        }
        (self.breaks, self.space) = (0, false);
        if let Some(link) = &mut self.link {
            link.at.get_or_insert(self.text.len());
        }
        self.text.push_str(word);
    }

    fn quote(&self, depth: usize) -> &'static str {
        const MARKS: &str = "> > > > ";
        if self.style == Style::Markdown { &MARKS[..2 * depth.min(MAX_DEPTH)] } else { "" }
    }

    /// At least so many line ends come before the next word.
    fn gap(&mut self, lines: usize) {
        self.breaks = self.breaks.max(lines);
    }

    /// What the next line begins with.
    fn lead(&mut self, mark: String) {
        if self.style == Style::Markdown {
            self.lead = mark;
        }
    }

    fn rule(&mut self) {
        self.gap(2);
        if self.style == Style::Markdown {
            self.word("---");
            self.gap(2);
        }
    }

    fn list(&mut self, number: Option<u64>) {
        self.gap(if self.lists.is_empty() { 2 } else { 1 });
        self.lists.push(number);
    }

    fn item(&mut self) {
        self.gap(1);
        let indent = "  ".repeat(self.lists.len().saturating_sub(1).min(MAX_DEPTH));
        let mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                *number += 1;
                format!("{indent}{}. ", *number - 1)
            }
            _ => format!("{indent}- "),
        };
        self.lead(mark);
    }

    fn cell(&mut self) {
        if std::mem::replace(&mut self.in_row, true) {
            self.space = true;
            self.word("|");
        }
        self.space = true;
    }

    fn image(&mut self, tag: &StartTag<()>) {
        let words = attribute(tag, b"alt");
        if !words.trim().is_empty() {
            self.words(&format!("[image: {}]", words.trim()));
        }
    }

    fn code(&mut self, begins: bool) {
        if self.style == Style::Markdown && !self.preformatted && self.in_code != begins {
            self.space &= begins;
            self.word("`");
            self.in_code = begins;
        }
    }

    fn preformatted(&mut self, begins: bool) {
        if self.preformatted == begins {
            return;
        }
        let fence = if self.style == Style::Markdown { "```" } else { "" };
        if begins {
            self.gap(2);
            self.word(fence);
            self.gap(fence.len().min(1));
        } else {
            let line = if self.text.ends_with('\n') { "" } else { "\n" };
            self.text.push_str(line);
            self.text.push_str(fence);
            self.gap(2);
        }
        self.preformatted = begins;
    }

    fn start_link(&mut self, tag: &StartTag<()>) {
        self.end_link();
        let to = attribute(tag, b"href");
        let to = to.trim();
        if self.style == Style::Text || to.is_empty() || to.starts_with('#') {
            return;
        }
        let to = self.base.join(to).ok().filter(|to| matches!(to.scheme(), "http" | "https" | "mailto"));
        self.link = to.map(|to| Link { to: to.into(), at: None }).filter(|link| link.to.len() <= MAX_LINK);
    }

    fn end_link(&mut self) {
        let Some(Link { to, at: Some(at) }) = self.link.take() else { return };
        // A link around whole paragraphs is told behind them.
        if self.text[at..].contains('\n') {
            self.text.push_str(&format!(" ({to})"));
        } else {
            self.text.insert(at, '[');
            self.text.push_str(&format!("]({to})"));
        }
    }
}

/// Elements whose content is no text of the page; and those that are of no use to a reader.
fn is_left_out(name: &[u8], sparing: bool) -> bool {
    match name {
        b"script" | b"style" | b"noscript" | b"iframe" | b"noembed" | b"textarea" => true,
        b"template" | b"svg" | b"object" | b"canvas" | b"select" | b"nav" => sparing,
        _ => false,
    }
}

/// Line ends before and after an element.
fn lines_around(name: &[u8]) -> usize {
    match name {
        b"p" | b"table" | b"figure" | b"dl" | b"article" | b"section" | b"main" | b"aside" | b"details" => 2,
        b"div" | b"tr" | b"dt" | b"dd" | b"header" | b"footer" | b"form" | b"fieldset" | b"address"
        | b"caption" | b"figcaption" | b"summary" | b"option" | b"body" | b"head" | b"nav" => 1,
        _ => 0,
    }
}

fn attribute(tag: &StartTag<()>, name: &[u8]) -> String {
    let value = tag.attributes.get(name).map(|value| value.value.as_slice());
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
