//! A model that does what it is told in the text it is to answer, as the one of the recordings did:
//! `MOCK{n=tokens;d=delayMs;text=…;step=chars;err=status;hang=pre|mid;at=token;cut=token;reason=words;
//! tool=name:base64 of its arguments;pre=text before the call}`.
//!
//! It says `tok0 tok1 … ` (5 tokens unless told otherwise), a token each `d` ms; or `text`, `step` characters at a
//! time. Before that it thinks the words of `reason`, which stand with `_` between them. `err` fails at once, `cut` breaks off after that many pieces, `hang` never begins (`pre`) or stops at
//! piece `at` (`mid`). With a `tool` it says `pre` and calls it, and the text when it has answered. It read 100 tokens
//! and wrote as many as it sent pieces, at the prices of the recordings.

use base64::Engine;
use crabtree_actors::agents::{Chunk, Failure, Model, ModelInfo, Prompt, Said, ToolCall, Usage};
use crabtree_actors::settings::{Prices, Thinking};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The provider's models, as the recorded gateway had them.
pub fn models() -> Vec<Arc<dyn Model>> {
    let mocks = [
        ("mock", "mock-1"),
        ("mock", "mock-2"),
        ("mockhang", "mock-1"),
        ("mock401", "mock-1"),
        ("mock500", "mock-1"),
    ];
    mocks.map(|(provider, id)| Arc::new(Mock(provider, id)) as Arc<dyn Model>).into()
}

/// A model that keeps what it is told, and answers `heard`.
pub struct Ear(pub Arc<Mutex<Vec<Prompt>>>);

impl Model for Ear {
    fn provider(&self) -> &str {
        "test"
    }

    fn id(&self) -> &str {
        "ear"
    }

    fn answer(&self, prompt: Prompt) -> BoxStream<'static, Chunk> {
        self.0.lock().push(prompt);
        stream::iter([Chunk::Text("heard".into()), Chunk::End(Usage::free(1, 1))]).boxed()
    }
}

struct Mock(&'static str, &'static str);

impl Model for Mock {
    fn provider(&self) -> &str {
        self.0
    }

    fn id(&self) -> &str {
        self.1
    }

    fn info(&self) -> ModelInfo {
        let name = format!("Mock {}", self.1);
        ModelInfo {
            name,
            input: vec!["text".into(), "image".into()],
            reasoning: self.1 == "mock-2",
            local: true,
        }
    }

    fn answer(&self, prompt: Prompt) -> BoxStream<'static, Chunk> {
        let asked = prompt.conversation.iter().rfind(|said| matches!(said, Said::User { .. }));
        let told = directives(asked.map_or("", |said| said.text()));
        if let Some(tool) =
            told.get("tool").filter(|_| !matches!(prompt.conversation.last(), Some(Said::Tool { .. })))
        {
            let pre = told.get("pre").map(|text| Chunk::Text((*text).to_owned()));
            let call = Chunk::Call(called(tool, prompt.conversation.len()));
            return stream::iter(pre.into_iter().chain([call, Chunk::End(used(5))])).boxed();
        }
        let number = |name: &str| told.get(name).map(|value| value.parse::<usize>().unwrap());
        if let Some(status) = told.get("err") {
            let failure = Failure::of_status(status.parse().unwrap(), "mock error");
            return stream::iter([Chunk::Failed(failure)]).boxed();
        }
        let mut chunks: Vec<Chunk> = match told.get("text") {
            Some(text) => pieces(text, number("step").unwrap_or(text.len())).map(Chunk::Text).collect(),
            None => (0..number("n").unwrap_or(5)).map(|k| Chunk::Text(format!("tok{k} "))).collect(),
        };
        let output = chunks.len() as u64;
        if let Some(thought) = told.get("reason") {
            chunks.splice(..0, thought.split('_').map(|word| Chunk::Thought(format!("{word} "))));
        }
        let hang = told.get("hang").map(|at| if *at == "pre" { 0 } else { number("at").unwrap_or(1) });
        if let Some(at) = hang {
            chunks.truncate(at);
        } else if let Some(at) = number("cut") {
            chunks.truncate(at);
        } else {
            chunks.push(Chunk::End(used(output)));
        }
        let pause = Duration::from_millis(number("d").unwrap_or(10) as u64);
        let told = stream::iter(chunks).then(move |chunk| async move {
            if matches!(chunk, Chunk::Text(_)) {
                tokio::time::sleep(pause).await;
            }
            chunk
        });
        if hang.is_some() { told.chain(stream::pending()).boxed() } else { told.boxed() }
    }
}

fn used(output: u64) -> Usage {
    let prices = Prices { input: 1.0, output: 2.0, ..Prices::default() };
    Usage { input: 100, output, ..Usage::default() }.at(prices)
}

fn directives(asked: &str) -> HashMap<&str, &str> {
    let inside = asked.rsplit_once("MOCK{").and_then(|(_, rest)| rest.split_once('}')).map_or("", |(d, _)| d);
    inside.split(';').filter_map(|directive| directive.split_once('=')).collect()
}

fn called(tool: &str, number: usize) -> ToolCall {
    let (name, arguments) = tool.split_once(':').unwrap_or((tool, "e30="));
    let arguments = base64::engine::general_purpose::STANDARD.decode(arguments).unwrap();
    ToolCall {
        id: format!("call_{number}"),
        name: name.into(),
        arguments: serde_json::from_slice(&arguments).unwrap(),
        thought_signatures: vec![],
    }
}

fn pieces(text: &str, step: usize) -> impl Iterator<Item = String> {
    let chars: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = chars.chunks(step.max(1)).map(|piece| piece.iter().collect()).collect();
    pieces.into_iter()
}

#[tokio::test]
async fn it_does_as_it_is_told() {
    let said = async |text: &str, take: usize| {
        let conversation = vec![Said::user(text)];
        Mock("mock", "mock-1")
            .answer(Prompt { instructions: None, conversation, tools: vec![], thinking: Thinking::Off })
            .take(take)
            .collect::<Vec<Chunk>>()
            .await
    };
    let text = |text: &str| Chunk::Text(text.into());
    let end = |output| Chunk::End(used(output));
    let start = tokio::time::Instant::now();
    assert_eq!(said("a MOCK{n=2;d=50}", 9).await, [text("tok0 "), text("tok1 "), end(2)]);
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert_eq!(said("hello", 9).await.len(), 6);
    assert_eq!(said("MOCK{text=NO_REPLY;step=6}", 9).await, [text("NO_REP"), text("LY"), end(2)]);
    assert_eq!(said("MOCK{n=9;cut=1}", 9).await, [text("tok0 ")]);
    assert_eq!(said("MOCK{n=9;hang=mid;at=1}", 1).await, [text("tok0 ")]);
    assert!(matches!(&said("MOCK{err=500}", 9).await[..], [Chunk::Failed(why)] if why.text.contains("500")));
}
