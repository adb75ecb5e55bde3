use super::super::tests::{error, text, used};
use super::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

async fn read(workspace: &Path, args: Value) -> (String, Value) {
    let result = used(workspace, "read", args).await;
    assert!(!result.is_error, "{}", result.as_text());
    (result.as_text(), result.details)
}

#[tokio::test]
async fn a_long_text_is_read_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (1..=4_500).map(|n| format!("line {n}")).collect();
    fs::write(dir.path().join("long"), lines.join("\n")).unwrap();
    let (text, details) = read(dir.path(), json!({ "path": "long" })).await;
    assert!(text.starts_with("line 1\nline 2\n"), "{text}");
    assert!(text.ends_with("line 2000\n\n[Lines 1-2000 of 4500. Go on with offset=2001.]"), "{text}");
    assert_eq!(
        details,
        json!({ "path": "long", "offset": 1, "lines": 2000, "totalLines": 4500, "truncated": true })
    );
    let (text, details) = read(dir.path(), json!({ "path": "long", "offset": 4499, "limit": 9 })).await;
    assert_eq!((text.as_str(), &details["truncated"]), ("line 4499\nline 4500", &json!(false)));
    let (text, _) = read(dir.path(), json!({ "path": "long", "offset": 2, "limit": 1 })).await;
    assert_eq!(text, "line 2\n\n[Lines 2-2 of 4500. Go on with offset=3.]");
    let told = error(dir.path(), "read", json!({ "path": "long", "offset": 4501 })).await;
    assert_eq!(told, "long has 4500 lines: there is no line 4501.");
}

#[tokio::test]
async fn no_more_bytes_than_fit_one_result_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("wide"), format!("{}\n", "ü".repeat(400)).repeat(100)).unwrap();
    let (text, details) = read(dir.path(), json!({ "path": "wide" })).await;
    assert!(text.ends_with("[Lines 1-63 of 100. Go on with offset=64.]"), "{text}");
    assert_eq!(details["lines"], 63);
    fs::write(dir.path().join("one"), format!("x{}\nend", "ü".repeat(MAX_TEXT))).unwrap();
    let (text, _) = read(dir.path(), json!({ "path": "one" })).await;
    assert!(text.len() < MAX_TEXT + 200 && !text.contains('\u{fffd}'), "no character is cut in two");
    assert!(text.contains("Line 1 is longer"), "{}", &text[MAX_TEXT - 10..]);
    assert!(text.ends_with("[Lines 1-1 of 2. Go on with offset=2.]"), "{}", &text[MAX_TEXT - 10..]);
    assert_eq!(read(dir.path(), json!({ "path": "one", "offset": 2 })).await.0, "end");
}

#[tokio::test]
async fn line_ends_marks_and_wrong_bytes_are_told_as_text() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("dos"), b"\xef\xbb\xbfone\r\ntwo\r\n").unwrap();
    assert_eq!(text(dir.path(), "read", json!({ "path": "dos" })).await, "one\ntwo\n");
    fs::write(dir.path().join("latin"), b"gr\xfc\xdfe").unwrap();
    let told = text(dir.path(), "read", json!({ "path": "latin" })).await;
    assert_eq!(told, "gr\u{fffd}\u{fffd}e\n\n[Bytes that are no UTF-8 are shown as \u{fffd}.]");
    fs::write(dir.path().join("empty"), "").unwrap();
    assert_eq!(text(dir.path(), "read", json!({ "path": "empty" })).await, "[The file is empty.]");
}

#[tokio::test]
async fn images_are_shown_up_to_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    png.resize(20_000, 7);
    fs::write(dir.path().join("picture"), &png).unwrap();
    let result = used(dir.path(), "read", json!({ "path": "picture" })).await;
    assert_eq!(result.content[1]["mimeType"], "image/png");
    assert_eq!(BASE64_STANDARD.decode(result.content[1]["data"].as_str().unwrap()).unwrap(), png);
    assert_eq!(result.details, json!({ "path": "picture", "bytes": 20_000, "mimeType": "image/png" }));
    png.resize(MAX_IMAGE as usize + 1, 7);
    fs::write(dir.path().join("picture"), &png).unwrap();
    assert!(error(dir.path(), "read", json!({ "path": "picture" })).await.contains("3750001 bytes"));
}

#[tokio::test]
async fn what_is_no_text_is_refused_with_its_kind_and_size() {
    let dir = tempfile::tempdir().unwrap();
    let late = [vec![b'x'; HEAD + 10], vec![0]].concat();
    for (content, what) in [
        (&b"%PDF-1.7\n"[..], "a PDF document (9 bytes)"),
        (b"\xff\xfeh\0", "UTF-16 text (4 bytes)"),
        (b"abc\0def", "binary data (7 bytes)"),
        (&late, "binary data (8203 bytes)"),
    ] {
        fs::write(dir.path().join("file"), content).unwrap();
        let told = error(dir.path(), "read", json!({ "path": "file" })).await;
        assert_eq!(told, format!("file is {what}, not text: `read` cannot show it."));
    }
}

#[test]
fn images_are_known_by_how_they_begin() {
    for (head, mime) in [
        (&b"\xff\xd8\xff\xe0"[..], "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x01\x02\x03\x04WEBPVP8 ", "image/webp"),
    ] {
        assert_eq!(Form::of(head), Form::Image(mime));
    }
    assert_eq!(Form::of(b"RIFF"), Form::Text { mark: 0 });
}
