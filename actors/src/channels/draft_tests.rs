use super::super::contract::{Kind, Unit};
use super::*;

fn answer(chat: &str) -> Answer {
    Answer {
        id: "in-1".into(),
        channel: "c".into(),
        account: "a".into(),
        to: Address { chat_type: Kind::Direct, chat: chat.into(), thread: None },
        reply_to: None,
        capabilities: Capabilities::texts(100).into(),
    }
}

#[test]
fn a_draft_has_one_name_for_each_run_and_chat() {
    let later = Answer { id: "in-2".into(), reply_to: Some("9".into()), ..answer("1") };
    assert_eq!(id("r", &answer("1")), id("r", &later), "whatever of the chat's messages is answered");
    assert_ne!(id("r", &answer("1")), id("s", &answer("1")));
    assert_ne!(id("r", &answer("1")), id("r", &answer("2")));
}

#[test]
fn a_draft_is_never_all_of_a_text() {
    let capabilities = Capabilities::texts(200);
    let words = "word ".repeat(8);
    assert_eq!(shown(&words[..30], capabilities), None, "it is not worth it yet");
    let shown_words = shown(&words, capabilities).unwrap();
    assert_eq!(shown_words, format!("{} …", "word ".repeat(7).trim_end()), "the last word waits");
    assert_eq!(shown(&"字".repeat(40), capabilities).unwrap(), format!("{} …", "字".repeat(39)));
    assert_eq!(shown("", capabilities), None);
    assert_eq!(shown(&" ".repeat(50), capabilities), None);
}

#[test]
fn a_draft_of_a_long_text_is_its_first_message() {
    for unit in [Unit::Chars, Unit::Utf16, Unit::Bytes] {
        let capabilities = Capabilities { unit, ..Capabilities::texts(200) };
        let said = shown(&"🦀 crab. ".repeat(5_000), capabilities).unwrap();
        assert!(unit.of(&said) <= 200 && said.ends_with(" …"), "{unit:?}: {said}");
    }
    let code = format!("```rust\n{}", "let x = 1;\n".repeat(100));
    let said = shown(&code, Capabilities::texts(200)).unwrap();
    assert_eq!(said.matches("```").count(), 2, "{said}");
}
