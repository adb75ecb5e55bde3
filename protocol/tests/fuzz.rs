//! Whatever arrives before authentication is read without a panic, and gets an answer or a close: the recorded
//! frames, mutated from a seed, the same ones each time.

#![allow(clippy::unwrap_used, reason = "a test")]

use crabtree_protocol::frame::{Close, encode_ok, encode_refusal};
use crabtree_protocol::proof::{normalized, verify_device};
use crabtree_protocol::{ConnectParams, FrameError, RequestFrame};
use mutate::{Dice, damaged, seeds};
use serde_json::Value;

mod mutate;

const INPUTS: usize = 40_000;

/// What a connection does with a first message; the number tells how far it came.
fn first_message(bytes: &[u8]) -> usize {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let worker = ConnectParams::claims_worker(text);
    let frame = match RequestFrame::parse(text) {
        Ok(frame) => frame,
        Err(error) => {
            assert!(matches!(error.close_before_handshake(), Close { code: 1000 | 1008, .. }));
            assert_eq!(error.refusal().is_none(), error == FrameError::NotJson);
            if let (FrameError::Invalid { id, .. }, Some(refusal)) = (&error, error.refusal()) {
                assert!(refusal.message.starts_with("invalid request frame: "), "{refusal}");
                assert_json(&encode_refusal(id, &refusal));
            }
            return 0;
        }
    };
    assert_json(&encode_ok(frame.id, b"null"));
    let _ = frame.id_text();
    match ConnectParams::parse(frame.params) {
        Err(refusal) => {
            let answer = refusal.refusal.unwrap();
            assert!(answer.message.starts_with("invalid connect params: "), "{answer}");
            assert_eq!((refusal.close.code, refusal.close.reason.len() <= 120), (1008, true));
            assert_json(&encode_refusal(frame.id, &answer));
            1
        }
        Ok(params) => {
            assert_eq!(worker && frame.method == "connect", params.is_worker() && frame.method == "connect");
            let _ = (params.check(), params.copilot_lacks_caps(), normalized(&params.client.platform));
            let refusal = params.device.as_ref().map(|proof| verify_device(proof, &params, "nonce", 1));
            assert!(refusal.is_none_or(|verdict| verdict.is_err()), "nothing here is signed");
            2
        }
    }
}

fn assert_json(frame: &[u8]) {
    assert!(serde_json::from_slice::<Value>(frame).is_ok(), "{}", String::from_utf8_lossy(frame));
}

/// accepts: B6, B10
#[test]
fn mutated_frames_are_read_without_a_panic_and_answered_or_closed() {
    let (seeds, mut dice, mut depths) = (seeds(), Dice(0x00c0_ffee), [0_usize; 3]);
    assert!(seeds.len() > 100);
    for _ in 0..INPUTS {
        depths[first_message(&damaged(&mut dice, &seeds))] += 1;
    }
    // The mutations reach every part of the reader, not only its front door.
    assert!(depths.iter().all(|reached| *reached > INPUTS / 100), "{depths:?}");
}
