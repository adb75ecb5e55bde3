//! Recorded frames, and how inputs are damaged. Shared with the tests of the gateway itself.

use serde_json::Value;

const RECORDED: &str = include_str!("../../data/handshake.jsonl");

/// A small generator (xorshift64*); which one does not matter, only that it is the same each time.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }
}

/// The first messages of clients in the recordings.
pub fn seeds() -> Vec<String> {
    let said = |step: &Value| match (step.get("frame"), step.get("text")) {
        (Some(frame), _) => Some(frame.to_string()),
        (None, text) => Some(text?.as_str()?.to_owned()),
    };
    let first_words = |line: &str| {
        let recording: Value = serde_json::from_str(line).unwrap();
        let steps: Vec<Value> = recording["steps"].as_array().unwrap().clone();
        let frames: Vec<Value> = steps.into_iter().filter(|step| said(step).is_some()).collect();
        // What follows a connection's first message is no greeting, and would only thin these out.
        let greets = |(at, step): &(usize, Value)| *at == 0 || step["frame"]["method"] == "connect";
        frames.into_iter().enumerate().filter(greets).filter_map(|(_, step)| said(&step)).collect::<Vec<_>>()
    };
    let mut seeds: Vec<String> = RECORDED.lines().flat_map(first_words).collect();
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}

const ODD: [&str; 16] = [
    "null",
    "true",
    "-1",
    "1e999",
    "18446744073709551616",
    "0.5",
    "\"\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "{}",
    "[]",
    "[[[[",
    "{\"\":0}",
    "\"worker\"",
    "\u{feff}",
    "\"\u{10ffff}\"",
];

/// Changes an input as text: flips, cuts, doubles and splices bytes, and puts in words.
pub fn torn(dice: &mut Dice, seed: &str, other: &str, words: &[&str]) -> Vec<u8> {
    let mut bytes = seed.as_bytes().to_vec();
    for _ in 0..=dice.roll(4) {
        let (at, length) = (dice.roll(bytes.len() + 1), dice.roll(24));
        let end = (at + length).min(bytes.len());
        match dice.roll(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.truncate(at),
            3 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
            4 => {
                let word = dice.roll(ODD.len() + words.len());
                let word = ODD.get(word).unwrap_or_else(|| &words[word - ODD.len()]);
                bytes.splice(at..end, word.bytes()).for_each(drop);
            }
            5 => {
                let from = dice.roll(other.len());
                bytes.splice(at..end, other.bytes().skip(from).take(length)).for_each(drop);
            }
            _ => bytes.splice(at..at, vec![b"[{\" \\"[dice.roll(5)]; dice.roll(300)]).for_each(drop),
        }
    }
    bytes
}

/// Changes an input as JSON: somewhere in it is something else.
pub fn bent(dice: &mut Dice, frame: &mut Value) {
    let odd = ODD[dice.roll(ODD.len())];
    let odd = serde_json::from_str(odd).unwrap_or_else(|_| odd.repeat(dice.roll(200)).into());
    match frame {
        Value::Object(map) if !map.is_empty() && dice.roll(8) > 0 => {
            let key = map.keys().nth(dice.roll(map.len())).unwrap().clone();
            match dice.roll(6) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(format!("{key}x"), odd)),
                _ => bent(dice, &mut map[&key]),
            }
        }
        Value::Array(list) if !list.is_empty() && dice.roll(4) > 0 => {
            let at = dice.roll(list.len());
            bent(dice, &mut list[at]);
        }
        other => *other = odd,
    }
}

/// One more damaged input, as text or as JSON.
pub fn damaged(dice: &mut Dice, seeds: &[String], words: &[&str]) -> Vec<u8> {
    let (seed, other) = (&seeds[dice.roll(seeds.len())], &seeds[dice.roll(seeds.len())]);
    match serde_json::from_str::<Value>(seed) {
        Ok(mut frame) if dice.roll(2) == 0 => {
            bent(dice, &mut frame);
            frame.to_string().into_bytes()
        }
        _ => torn(dice, seed, other, words),
    }
}
