use super::*;
use crate::store::MessageRow;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::os::unix::fs::PermissionsExt;

const ID: &str = "019a0000-0000-7000-8000-000000000001";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\nand so on";

fn sent(name: &str, mime: &str, bytes: &[u8]) -> Attachment {
    let named = |word: &str| Some(word.to_owned()).filter(|word| !word.is_empty());
    Attachment {
        kind: Some("file".into()),
        mime_type: named(mime),
        file_name: named(name),
        content: Some(json!(BASE64_STANDARD.encode(bytes))),
        ..Attachment::default()
    }
}

fn inbox() -> (tempfile::TempDir, Inbox) {
    let state = tempfile::tempdir().unwrap();
    let inbox = Inbox::open(state.path());
    (state, inbox)
}

fn why(inbox: &Inbox, sent: Vec<Attachment>) -> String {
    inbox.take(sent).map(|_| ()).unwrap_err().message
}

/// A row of what was said with these.
async fn row(inbox: &Inbox, id: &str, text: &str, sent: Vec<Attachment>) -> MessageRow {
    let uploads = inbox.take(sent).unwrap();
    let mut meta = json!({});
    uploads.attach(&mut meta, id);
    inbox.keep(uploads, id).await.unwrap();
    MessageRow {
        id: id.into(),
        session_key: "agent:main:main".into(),
        session_id: "s".into(),
        parent: None,
        kind: "user".into(),
        idempotency_key: None,
        run_id: None,
        hidden: false,
        message: json!({ "role": "user", "content": text, "__openclaw": meta }),
        created_at: 0,
        seq: Some(1),
        raw_seq: 1,
    }
}

#[test]
fn a_name_leads_nowhere_but_to_a_file_of_the_inbox() {
    let (state, inbox) = inbox();
    std::fs::write(state.path().join("secret"), "x").unwrap();
    for name in
        ["../../secret", "secret", "", ".", &format!("{ID}-0/../../../secret"), &format!("{ID}-0.p/ng")]
    {
        assert_eq!(id_of(name), None, "{name}");
        assert_eq!(inbox.read(name, 9).unwrap_err().kind(), io::ErrorKind::NotFound, "{name}");
        assert_eq!(name_of(&format!("media://inbound/{name}")), None, "{name}");
    }
    assert_eq!(id_of(&format!("{ID}-19.png")), Some(ID));
    assert_eq!(id_of(&format!("{ID}-0")), Some(ID));
    assert_eq!(id_of(&format!("{ID}-0.ü")), None);
}

#[test]
fn what_is_wrong_with_an_attachment_is_said() {
    let (_state, inbox) = inbox();
    let spoilt = Attachment { content: Some(json!("@@@")), ..sent("bad.png", "image/png", b"") };
    assert_eq!(why(&inbox, vec![spoilt]), "Error: attachment bad.png: invalid base64 content");
    let empty = Attachment { file_name: None, ..sent("", "", b"") };
    assert_eq!(why(&inbox, vec![empty.clone()]), "Error: attachment file: empty payload");
    let bare = Attachment { kind: None, content: None, ..empty };
    assert_eq!(why(&inbox, vec![bare]), "Error: attachment attachment-1: content must be base64 string");
    let many = (0..=MAX_ATTACHMENTS).map(|_| sent("a", "", b"x")).collect();
    assert_eq!(why(&inbox, many), "21 attachments are too many for one message; send at most 20");
}

#[test]
fn limits_are_those_that_hello_tells() {
    use crabtree_protocol::frame::{MAX_ATTACHMENT_BYTES, MAX_IMAGE_BYTES};
    let (_state, inbox) = inbox();
    let mut picture = PNG.to_vec();
    picture.resize(MAX_IMAGE_BYTES as usize, 0);
    assert!(inbox.take(vec![sent("a.png", "image/png", &picture)]).is_ok());
    picture.push(0);
    let text = why(&inbox, vec![sent("a.png", "", &picture)]);
    assert_eq!(text, "Error: attachment a.png: image exceeds size limit (6291457 > 6291456 bytes)");
    let large = vec![b'x'; MAX_ATTACHMENT_BYTES as usize + 1];
    let text = why(&inbox, vec![sent("a.txt", "text/plain", &large)]);
    assert_eq!(text, "Error: attachment a.txt: exceeds size limit (19464193 > 19464192 bytes)");
}

#[test]
fn what_is_on_its_way_takes_bounded_room() {
    let (_state, inbox) = inbox();
    let large = vec![b'x'; 15 << 20];
    let mut held = vec![];
    let refused = loop {
        match inbox.take(vec![sent("a.txt", "text/plain", &large)]) {
            Ok(uploads) => held.push(uploads),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!((held.len(), refused.retryable), (6, Some(true)), "{refused:?}");
    held.pop();
    assert!(inbox.take(vec![sent("a.txt", "text/plain", &large)]).is_ok(), "room is given back");
}

#[tokio::test]
async fn files_are_for_their_owner_only_and_rows_say_where_they_are() {
    let (state, inbox) = inbox();
    let files = vec![sent("dot.png", "image/png", PNG), sent("a.txt", "text/plain", b"hello")];
    let row = row(&inbox, ID, "look", files).await;
    let meta = &row.message["__openclaw"];
    assert_eq!(
        meta["media"],
        json!([
            { "url": format!("media://inbound/{ID}-0.png"), "contentType": "image/png", "kind": "image",
              "sizeBytes": PNG.len() },
            { "url": format!("media://inbound/{ID}-1.txt"), "contentType": "text/plain", "kind": "document",
              "sizeBytes": 5, "fileName": "a.txt", "hydrationSuppressed": true },
        ])
    );
    assert_eq!(meta["mediaImageLayout"], json!({ "slots": [{ "kind": "inline", "factIndex": 0 }] }));
    let mode = |path: &str| {
        std::fs::metadata(state.path().join("media/inbound").join(path)).unwrap().permissions().mode()
            & 0o7777
    };
    assert_eq!((mode(""), mode(&format!("{ID}-0.png"))), (0o700, 0o600));
    let (bytes, size) = inbox.read(&format!("{ID}-0.png"), 4).unwrap();
    assert_eq!((&*bytes, size), (&PNG[..4], PNG.len() as u64));
}

#[tokio::test]
async fn what_is_not_kept_whole_is_not_kept() {
    let (state, inbox) = inbox();
    let files = || vec![sent("a.txt", "", b"a"), sent("b.txt", "", b"b")];
    std::fs::create_dir_all(state.path().join("media/inbound")).unwrap();
    std::fs::create_dir(state.path().join(format!("media/inbound/{ID}-1.txt"))).unwrap();
    let error = inbox.keep(inbox.take(files()).unwrap(), ID).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(!state.path().join(format!("media/inbound/{ID}-0.txt")).exists());
}

#[test]
fn a_picture_is_known_by_its_bytes_and_a_type_by_its_shape() {
    let (_state, inbox) = inbox();
    let types = |mime: &str, bytes: &[u8]| {
        let mut meta = json!({});
        inbox.take(vec![sent("x", mime, bytes)]).unwrap().attach(&mut meta, ID);
        (meta["media"][0]["contentType"].clone(), meta["media"][0]["kind"].clone())
    };
    assert_eq!(types("text/plain", PNG), (json!("image/png"), json!("image")));
    assert_eq!(types("", b"words"), (json!("text/plain"), json!("document")));
    assert_eq!(types("nonsense\r\nX: y", b"\0\x01"), (json!("application/octet-stream"), json!("document")));
    assert_eq!(types("Audio/OGG", b"OggS"), (json!("audio/ogg"), json!("audio")));
}

#[test]
fn other_files_make_another_message() {
    let (_state, inbox) = inbox();
    let hash = |sent: Vec<Attachment>| {
        let mut hasher = blake3::Hasher::new();
        inbox.take(sent).unwrap().digest(&mut hasher);
        hasher.finalize()
    };
    let one = hash(vec![sent("a", "", b"1")]);
    assert_eq!(one, hash(vec![sent("a", "", b"1")]));
    assert_ne!(one, hash(vec![sent("a", "", b"2")]));
    assert_ne!(one, hash(vec![sent("b", "", b"1")]));
    assert_ne!(one, hash(vec![]));
}

#[tokio::test]
async fn a_model_is_shown_pictures_and_texts_and_told_of_the_rest() {
    let (_state, inbox) = inbox();
    let files = vec![
        sent("dot.png", "image/png", PNG),
        sent("a.txt", "text/plain", b"hello"),
        sent("b.pdf", "application/pdf", b"%PDF-\xff\xfe"),
        sent("c.heic", "image/heic", b"ftyp"),
    ];
    let rows = inbox.shown(vec![row(&inbox, ID, "look", files).await]).await.unwrap();
    let content = &rows[0].message["content"];
    assert_eq!(content[1]["mimeType"], "image/png");
    assert_eq!(content[1]["data"], BASE64_STANDARD.encode(PNG));
    let text = content[0]["text"].as_str().unwrap();
    assert_eq!(
        text,
        "look\n\n[attached file a.txt, text/plain, 5 bytes, begins]\nhello\n[it ends]\n\n\
         [attached file b.pdf, application/pdf, 7 bytes: it is not text and cannot be shown to you]\n\n\
         [attached picture, image/heic, 4 bytes: ask for it as png, jpeg, gif or webp; others cannot be shown to you]"
    );
    inbox.remove(&[format!("{ID}-0.png"), format!("{ID}-1.txt")]);
    let again = vec![MessageRow {
        message: json!({ "content": "", "__openclaw": rows[0].message["__openclaw"] }),
        ..rows[0].clone()
    }];
    let gone = inbox.shown(again).await.unwrap();
    let text = gone[0].message["content"][0]["text"].as_str().unwrap();
    assert!(
        text.starts_with("[attached picture, image/png, 17 bytes: it is gone]\n\n[attached file a.txt"),
        "{text}"
    );
}

#[tokio::test]
async fn long_texts_are_cut_and_of_many_pictures_the_newest_are_shown() {
    let (_state, inbox) = inbox();
    let long = "ü".repeat(50_000);
    let first =
        row(&inbox, ID, "", vec![sent("a.txt", "", long.as_bytes()), sent("b.txt", "", b"more")]).await;
    let mut rows = vec![first];
    for n in 2..24 {
        let id = format!("019a0000-0000-7000-8000-0000000000{n:02}");
        rows.push(row(&inbox, &id, "look", vec![sent("", "", PNG)]).await);
    }
    let shown = inbox.shown(rows).await.unwrap();
    let text = shown[0].message["content"][0]["text"].as_str().unwrap();
    assert!(text.len() < 66_000 && text.contains("[only 65536 of 100000 bytes are shown]"), "{}", text.len());
    assert!(text.contains("b.txt") && text.contains("[only 0 of 4 bytes are shown]"));
    let pictures: Vec<bool> = shown[1..].iter().map(|row| row.message["content"][1].is_object()).collect();
    assert_eq!(pictures, [[false; 2].as_slice(), &[true; 20]].concat());
    let text = shown[1].message["content"][0]["text"].as_str().unwrap();
    assert!(text.ends_with("is not shown again; ask for it, if it matters]"), "{text}");
}

#[tokio::test]
async fn a_picture_that_providers_refuse_is_not_given_to_them() {
    let (_state, inbox) = inbox();
    let mut picture = PNG.to_vec();
    picture.resize(4_000_000, 0);
    let rows = inbox.shown(vec![row(&inbox, ID, "look", vec![sent("", "", &picture)]).await]).await.unwrap();
    let content = rows[0].message["content"].as_array().unwrap();
    let text = content[0]["text"].as_str().unwrap();
    assert!(content.len() == 1 && text.contains("too large to be shown to you"), "{text}");
}
