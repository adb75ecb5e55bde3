use super::super::super::testing::envelope;
use super::super::{Heard, Kind};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_channel_that_waits_for_a_slow_command_is_not_stuck() {
    let (heard, mut ear) = mpsc::channel(1);
    let (last, began) = (Arc::new(AtomicI64::new(0)), tokio::time::Instant::now());
    let now = Arc::new(move || began.elapsed().as_millis() as i64);
    let link = Link::new(heard, last.clone(), now, None);
    let handed_in = tokio::spawn(async move { link.receive(envelope(Kind::Direct, "7")).await });
    let Some(Heard::Message(_, durable)) = ear.recv().await else { panic!() };
    tokio::time::sleep(Duration::from_secs(300)).await;
    let silent = began.elapsed().as_millis() as i64 - last.load(Relaxed);
    assert!(silent <= WAITS.as_millis() as i64, "{silent} ms");
    durable.send(()).unwrap();
    assert_eq!(handed_in.await.unwrap(), Ok(()));
}
