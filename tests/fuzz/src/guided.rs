//! The target named by `CRABTREE_FUZZ_TARGET`, for libFuzzer; its corpus begins with the target's seeds.
#![no_main]

use crabtree_fuzz::{TARGETS, Target};
use std::path::Path;
use std::sync::OnceLock;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn begin() {
    let name = std::env::var("CRABTREE_FUZZ_TARGET").unwrap_or_default();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let target = TARGETS.into_iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("set CRABTREE_FUZZ_TARGET to one of {}", names.join(", ")));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    std::fs::create_dir_all(&corpus).expect("the corpus has a folder");
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(corpus.join(format!("seed-{number}")), seed).expect("the corpus can be written");
    }
    TARGET.get_or_init(|| target);
}

libfuzzer_sys::fuzz_target!(init: begin(), |input: &[u8]| {
    let target = TARGET.get().expect("libFuzzer begins with `begin`");
    (target.read)(input);
});
