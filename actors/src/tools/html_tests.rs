use super::*;

fn read(html: &str, style: Style) -> Page {
    page(html, &Url::parse("https://example.com/dir/page").unwrap(), style)
}

fn markdown(html: &str) -> String {
    read(html, Style::Markdown).text
}

#[test]
fn a_page_becomes_markdown_or_words() {
    let html = r#"<!doctype html><html><head><title> A &amp;
        B </title><style>p { color: red }</style><script>if (a < b) alert("no")</script></head>
        <body><nav><a href="/">Home</a></nav>
        <h1>Head <em>line</em></h1>
        <p>Some   <b>bold</b> text,<br>a <a href="../other?a=1&amp;b=2">link</a>, <code>x &lt; y</code>.</p>
        <ul><li>one</li><li>two<ol><li>first<li>second</ol></li></ul>
        <blockquote><p>said</p><p>more</p></blockquote>
        <table><tr><th>a<th>b</tr><tr><td>1</td><td>2</td></tr></table>
        <img src="x.png" alt="a cat"><img src="pixel.gif">
        <hr><pre>
  let x;
  y</pre><p>end</p></body></html>"#;
    let page = read(html, Style::Markdown);
    assert_eq!(page.title.as_deref(), Some("A & B"));
    assert_eq!(
        page.text,
        "# Head line\n\nSome bold text,\na [link](https://example.com/other?a=1&b=2), `x < y`.\n\n\
         - one\n- two\n  1. first\n  2. second\n\n> said\n>\n> more\n\na | b\n1 | 2\n\n[image: a cat]\n\n---\n\n\
         ```\n\n  let x;\n  y\n```\n\nend"
    );
    let words = read(html, Style::Text).text;
    assert!(words.starts_with("Head line\n\nSome bold text,\na link, x < y.\n\none\ntwo\nfirst"), "{words}");
    assert!(!words.contains("---") && !words.contains('`') && !words.contains('>'), "{words}");
}

#[test]
fn links_lead_somewhere_or_are_words() {
    assert_eq!(
        markdown("<a href='javascript:x()'>a</a> <a href=#top>b</a> <a>c</a> <a href=data:,x>d</a>"),
        "a b c d"
    );
    assert_eq!(
        markdown("<a href=//other.org/x>a</a><a href=y>b<a href=z></a>"),
        "[a](https://other.org/x)[b](https://example.com/dir/y)"
    );
    assert_eq!(
        markdown("<a href=x><h2>Head</h2><p>text</p></a>"),
        "## Head\n\ntext (https://example.com/dir/x)"
    );
    assert_eq!(markdown(&format!("<a href=/{}>long</a>", "x".repeat(MAX_LINK))), "long");
}

#[test]
fn what_is_left_out_but_not_closed_leaves_nothing_out() {
    assert_eq!(markdown("a <nav>b <p>c"), "a\nb\n\nc");
    assert_eq!(markdown("a <nav>b <nav>c</nav></nav> d <svg/> e"), "a d e");
    assert_eq!(markdown("a <script>b"), "a");
    assert_eq!(markdown("</ul></blockquote></pre></a></code>a</h1>"), "a");
}

/// A page of strangers must not cost more than its size: neither time, nor stack, nor memory.
#[test]
fn hostile_pages_cost_no_more_than_their_size() {
    let begin = std::time::Instant::now();
    for piece in [
        "<div>",
        "<b>",
        "<ul><li>x",
        "<blockquote><p>x",
        "<table><tr><td>",
        "<hr>",
        "<a href=x>y",
        "<nav>",
        "<code>",
        "<h1>x",
        "&",
        "<!--",
        "<x a",
    ] {
        let page = read(&piece.repeat(MAX_TEXT / 4 / piece.len()), Style::Markdown);
        assert!(page.text.len() < MAX_TEXT + 64 * 1024, "{piece}: {}", page.text.len());
    }
    assert!(begin.elapsed() < std::time::Duration::from_secs(60), "{:?}", begin.elapsed());
    assert!(read(&"<a href=x>y".repeat(MAX_TEXT / 25), Style::Markdown).cut);
}
