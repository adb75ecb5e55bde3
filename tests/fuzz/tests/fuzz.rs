//! Each target, with a bounded number of inputs.

use crabtree_fuzz::{config, connect, cron, driver, frame, markdown, run, session_key};

/// accepts: B6, B10
#[test]
fn fuzz_frame() {
    run(&frame::TARGET);
}

/// accepts: B6, B10
#[test]
fn fuzz_connect() {
    run(&connect::TARGET);
}

#[test]
fn fuzz_config() {
    run(&config::TARGET);
}

#[test]
fn fuzz_session_key() {
    run(&session_key::TARGET);
}

#[test]
fn fuzz_cron() {
    run(&cron::TARGET);
}

#[test]
fn fuzz_driver() {
    run(&driver::TARGET);
}

#[test]
fn fuzz_markdown() {
    run(&markdown::TARGET);
}
