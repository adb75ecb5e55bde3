//! Markdown as Telegram's HTML, which has no lists, headings, tables or rules: they are written out.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// What a link may begin with; others are text.
const SCHEMES: [&str; 5] = ["http://", "https://", "tg://", "mailto:", "tel:"];
/// What stands for a line across.
const RULE: &str = "———";
/// Longest name of a language.
const MAX_LANGUAGE: usize = 32;

/// A text in Markdown as HTML that Telegram takes.
pub(super) fn html(markdown: &str) -> String {
    let options = Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS;
    let mut page = Page::default();
    let mut table = None;
    for (event, range) in Parser::new_ext(markdown, options).into_offset_iter() {
        match (&event, &table) {
            (Event::Start(Tag::Table(_)), _) => table = Some(range),
            (Event::End(TagEnd::Table), Some(source)) => {
                let source = source.clone();
                page.block();
                page.put("<pre>");
                page.text(markdown[source].trim_end());
                page.out.push_str("</pre>");
                page.block();
                table = None;
            }
            (_, Some(_)) => {}
            (_, None) => page.event(event),
        }
    }
    page.out
}

#[derive(Default)]
struct Page {
    out: String,
    /// Newlines before what comes next.
    gap: usize,
    /// Whether something has begun in which there is nothing yet: nothing stands apart from that.
    is_fresh: bool,
    /// The next number of each list we are in; none for those without.
    lists: Vec<Option<u64>>,
    quotes: usize,
    /// Whether each link we are in is one for Telegram too.
    links: Vec<bool>,
    code: Option<Code>,
}

#[derive(Default)]
struct Code {
    text: String,
    has_language: bool,
}

impl Page {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match &mut self.code {
                Some(code) => code.text.push_str(&text),
                None => self.text(&text),
            },
            Event::Code(text) => {
                self.put("<code>");
                self.text(&text);
                self.out.push_str("</code>");
            }
            // It is not for Telegram: who reads sees what was written.
            Event::Html(text) | Event::InlineHtml(text) => self.text(&text),
            Event::SoftBreak | Event::HardBreak => self.put("\n"),
            Event::Rule => {
                self.block();
                self.put(RULE);
                self.block();
            }
            Event::TaskListMarker(done) => self.put(if done { "☑ " } else { "☐ " }),
            // Not enabled.
            Event::InlineMath(_) | Event::DisplayMath(_) | Event::FootnoteReference(_) => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { .. } => {
                self.block();
                self.put("<b>");
            }
            Tag::BlockQuote(_) => self.quote(),
            Tag::CodeBlock(kind) => {
                self.block();
                let language = match &kind {
                    CodeBlockKind::Fenced(info) => language(info),
                    CodeBlockKind::Indented => String::new(),
                };
                let has_language = !language.is_empty();
                self.put("<pre>");
                if has_language {
                    self.put(&format!("<code class=\"language-{language}\">"));
                }
                self.code = Some(Code { has_language, ..Code::default() });
            }
            Tag::List(first) => {
                self.block();
                self.lists.push(first);
            }
            Tag::Item => self.item(),
            Tag::Paragraph | Tag::HtmlBlock => self.block(),
            Tag::Emphasis => self.put("<i>"),
            Tag::Strong => self.put("<b>"),
            Tag::Strikethrough => self.put("<s>"),
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                let is_link =
                    SCHEMES.iter().any(|scheme| dest_url.starts_with(scheme)) && !self.links.contains(&true);
                if is_link {
                    let url = escaped(&dest_url);
                    self.put(&format!("<a href=\"{url}\">"));
                }
                self.links.push(is_link);
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                self.out.push_str("</b>");
                self.block();
            }
            TagEnd::BlockQuote(_) => {
                self.quotes -= 1;
                if self.quotes == 0 {
                    self.out.push_str("</blockquote>");
                }
                self.block();
            }
            TagEnd::CodeBlock => {
                let code = self.code.take().unwrap_or_default();
                self.text(code.text.strip_suffix('\n').unwrap_or(&code.text));
                self.out.push_str(if code.has_language { "</code></pre>" } else { "</pre>" });
                self.block();
            }
            TagEnd::List(_) => {
                self.lists.pop();
                self.block();
            }
            TagEnd::Item => self.gap = self.gap.max(1),
            TagEnd::Paragraph | TagEnd::HtmlBlock => self.block(),
            TagEnd::Emphasis => self.out.push_str("</i>"),
            TagEnd::Strong => self.out.push_str("</b>"),
            TagEnd::Strikethrough => self.out.push_str("</s>"),
            TagEnd::Link | TagEnd::Image => {
                let is_link = self.links.pop() == Some(true);
                self.out.push_str(if is_link { "</a>" } else { "" });
            }
            _ => {}
        }
    }

    /// Quotes hold no quotes.
    fn quote(&mut self) {
        self.block();
        if self.quotes == 0 {
            self.put("<blockquote>");
            self.is_fresh = true;
        }
        self.quotes += 1;
    }

    fn item(&mut self) {
        self.apart(1);
        let depth = self.lists.len().saturating_sub(1);
        let mut mark = "  ".repeat(depth);
        match self.lists.last_mut() {
            Some(Some(number)) => {
                mark.push_str(&format!("{number}. "));
                *number += 1;
            }
            _ => mark.push_str("• "),
        }
        self.put(&mark);
        self.is_fresh = true;
    }

    /// What comes next stands apart; in a list, on a line of its own.
    fn block(&mut self) {
        self.apart(if self.lists.is_empty() { 2 } else { 1 });
    }

    fn apart(&mut self, newlines: usize) {
        if !self.is_fresh && !self.out.is_empty() {
            self.gap = self.gap.max(newlines);
        }
    }

    fn text(&mut self, text: &str) {
        self.put(&escaped(text));
    }

    fn put(&mut self, html: &str) {
        if html.is_empty() {
            return;
        }
        self.out.extend(std::iter::repeat_n('\n', std::mem::take(&mut self.gap)));
        self.out.push_str(html);
        self.is_fresh = false;
    }
}

/// The language that a block of code names, if it is a word.
fn language(info: &str) -> String {
    let word = info.split_whitespace().next().unwrap_or_default();
    let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '+' | '-' | '#' | '_' | '.');
    if word.len() <= MAX_LANGUAGE && word.chars().all(is_plain) { word.to_owned() } else { String::new() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_telegram_has_becomes_that() {
        for (markdown, expected) in [
            ("plain", "plain"),
            ("**bold** _it_ ~~no~~ `a<b`", "<b>bold</b> <i>it</i> <s>no</s> <code>a&lt;b</code>"),
            ("a < b & \"c\"", "a &lt; b &amp; &quot;c&quot;"),
            ("[x](https://e.org/?a=1&b=\"2)", "<a href=\"https://e.org/?a=1&amp;b=&quot;2\">x</a>"),
            (
                "```rust\nlet a = 1 < 2;\n\nb\n```",
                "<pre><code class=\"language-rust\">let a = 1 &lt; 2;\n\nb</code></pre>",
            ),
            ("```\nx", "<pre>x</pre>"),
            ("> a\n> b\n>\n> > c\n\nd", "<blockquote>a\nb\n\nc</blockquote>\n\nd"),
            ("> - a", "<blockquote>• a</blockquote>"),
        ] {
            assert_eq!(html(markdown), expected, "{markdown}");
        }
    }

    #[test]
    fn what_it_has_not_is_written_out() {
        for (markdown, expected) in [
            ("# One\ntext\n\n\nmore", "<b>One</b>\n\ntext\n\nmore"),
            ("a\n- one\n- two\n  - in\n\nb", "a\n\n• one\n• two\n  • in\n\nb"),
            ("- one\n\n- two", "• one\n• two"),
            ("3. c\n4. d", "3. c\n4. d"),
            ("- [x] done\n- [ ] open", "• ☑ done\n• ☐ open"),
            ("a\n\n---\n\nb", "a\n\n———\n\nb"),
            (
                "a\n\n| x | y |\n|---|---|\n| 1 | <2 |\n\nb",
                "a\n\n<pre>| x | y |\n|---|---|\n| 1 | &lt;2 |</pre>\n\nb",
            ),
            ("![cat](https://e.org/c.png)", "<a href=\"https://e.org/c.png\">cat</a>"),
        ] {
            assert_eq!(html(markdown), expected, "{markdown}");
        }
    }

    #[test]
    fn nobody_writes_tags_of_their_own() {
        for (markdown, expected) in [
            ("<b>x</b> <script>", "&lt;b&gt;x&lt;/b&gt; &lt;script&gt;"),
            ("[x](javascript:alert)", "x"),
            ("[a ![b](https://b)](https://a)", "<a href=\"https://a\">a b</a>"),
            ("```a\"b\nx\n```", "<pre>x</pre>"),
        ] {
            assert_eq!(html(markdown), expected, "{markdown}");
        }
    }
}
