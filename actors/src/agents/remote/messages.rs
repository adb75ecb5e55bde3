//! What was said, as genai wants it.

use crate::agents::{Image, Offer, Said, ToolCall};
use genai::adapter::AdapterKind;
use genai::chat::{ChatMessage, ContentPart, MessageContent, Tool, ToolResponse};

/// A conversation. What the model thought before it called a tool is said again as long as it works at the same task:
/// Anthropic and others demand it. The results of one answer's calls are one message, as Anthropic demands; but not for Ollama, of
/// which genai sends only the last result of a message.
pub(super) fn messages(conversation: Vec<Said>, kind: AdapterKind) -> Vec<ChatMessage> {
    let mut messages = Vec::with_capacity(conversation.len());
    let asked = conversation.iter().rposition(|said| matches!(said, Said::User { .. }));
    let mut results = Results::default();
    for (at, said) in conversation.into_iter().enumerate() {
        match said {
            Said::Tool { call_id, name, text, images } => {
                if kind == AdapterKind::Ollama {
                    messages.append(&mut results.take());
                }
                results.push(call_id, name, text, images);
            }
            Said::User { text, images } => {
                messages.append(&mut results.take());
                messages.push(ChatMessage::user(shown(text, images)));
            }
            Said::Assistant { text, calls, thought } => {
                messages.append(&mut results.take());
                let thought = Some(thought).filter(|_| !calls.is_empty() && Some(at) > asked);
                messages.push(ChatMessage::assistant(answer(text, calls, thought)));
            }
        }
    }
    messages.append(&mut results.take());
    messages
}

/// Results that follow each other. What they show goes behind them as if a person had shown it: to most providers
/// a result is text alone.
#[derive(Default)]
struct Results {
    responses: Vec<ToolResponse>,
    shown: Vec<ChatMessage>,
}

impl Results {
    fn push(&mut self, call_id: String, name: String, text: String, images: Vec<Image>) {
        if !images.is_empty() {
            self.shown.push(ChatMessage::user(shown(format!("[shown by {name}]"), images)));
        }
        self.responses.push(ToolResponse::new(call_id, text).with_fn_name(name));
    }

    fn take(&mut self) -> Vec<ChatMessage> {
        let responses = std::mem::take(&mut self.responses);
        let message = (!responses.is_empty()).then(|| ChatMessage::from(responses));
        message.into_iter().chain(std::mem::take(&mut self.shown)).collect()
    }
}

fn shown(text: String, images: Vec<Image>) -> MessageContent {
    let image = |image: Image| ContentPart::from_binary_base64(image.mime_type, image.data, None);
    // Some providers refuse a text that says nothing.
    let text = Some(text).filter(|text| !text.is_empty() || images.is_empty()).map(ContentPart::Text);
    let parts: Vec<_> = text.into_iter().chain(images.into_iter().map(image)).collect();
    MessageContent::from_parts(parts)
}

fn answer(text: String, calls: Vec<ToolCall>, thought: Option<String>) -> MessageContent {
    let thought = thought.filter(|thought| !thought.is_empty()).map(ContentPart::ReasoningContent);
    let text = (!text.is_empty()).then_some(ContentPart::Text(text));
    let call = |call: ToolCall| {
        ContentPart::ToolCall(genai::chat::ToolCall {
            call_id: call.id,
            fn_name: call.name,
            fn_arguments: call.arguments,
            thought_signatures: Some(call.thought_signatures).filter(|known| !known.is_empty()),
        })
    };
    let parts: Vec<_> = thought.into_iter().chain(text).chain(calls.into_iter().map(call)).collect();
    MessageContent::from_parts(parts)
}

/// A tool it may call.
pub(super) fn offered(offer: Offer) -> Tool {
    Tool::new(offer.name).with_description(offer.description).with_schema(offer.parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_thought_is_said_again_with_the_calls_of_the_same_task_and_not_later() {
        let call = || ToolCall {
            id: "c".into(),
            name: "t".into(),
            arguments: json!({}),
            thought_signatures: vec!["signed".into()],
        };
        let thinking = |calls| Said::Assistant { text: "x".into(), calls, thought: "hm".into() };
        let result =
            || Said::Tool { call_id: "c".into(), name: "t".into(), text: "r".into(), images: vec![] };
        let said = |all: Vec<Said>| -> Vec<bool> {
            let all = messages(all, AdapterKind::Anthropic);
            all.iter().map(|message| message.content.contains_reasoning_content()).collect()
        };
        let first = || vec![Said::user("do it"), thinking(vec![call()]), result()];
        assert_eq!(said(first()), [false, true, false]);
        let later = [first(), vec![thinking(vec![]), Said::user("more")]].concat();
        assert_eq!(said(later), [false; 5]);
    }
}
