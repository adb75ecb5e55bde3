//! Floods from clients that never authenticate: sockets that are half open, slow or full of garbage. Each is closed,
//! and nothing is left of it. (Damaged frames: `hostile`.)

use crate::client::{Client, Intro, connect_params};
use crate::gateway::Process;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

#[path = "../fuzz/src/mutate.rs"]
pub mod mutate;

/// Sockets that never authenticate, in waves.
const WAVES: usize = 40;
const WAVE: usize = 250;
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A socket from the `nth` address of this machine; only Linux has more than one.
pub async fn tcp(to: SocketAddr, nth: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let _ = socket.bind((Ipv4Addr::new(127, 8, (nth / 250) as u8, (nth % 250) as u8 + 1), 0).into());
    socket.connect(to).await.unwrap()
}

/// What a process holds: file descriptors, and kilobytes of memory of its own; pages of its program come and go with what
/// else the machine does.
pub fn held(pid: u32) -> (usize, u64) {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    (files, memory.trim().trim_end_matches(" kB").parse().unwrap())
}

/// One client that never authenticates; it holds its socket for a while.
async fn loiter(to: SocketAddr, nth: usize) -> TcpStream {
    let mut stream = tcp(to, nth % 25).await;
    let mut answer = [0; 512];
    match nth % 5 {
        // Half open: nothing is ever said.
        0 => {}
        // Slow: the head never ends.
        1 => drop(stream.write_all(&UPGRADE.as_bytes()[..40]).await),
        // Garbage instead of HTTP.
        2 => drop(stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, b'\n', b'\r']).await),
        // A WebSocket that stays silent, or ends in the middle of a frame, or is garbage.
        kind => {
            let _ = stream.write_all(UPGRADE.as_bytes()).await;
            let _ = stream.read(&mut answer).await;
            let rest: &[u8] = if kind == 3 { &[] } else { &[0x81, 0xfe, 0x40, 0, 1, 2, 3, 4, b'{'] };
            let _ = stream.write_all(rest).await;
            if nth.is_multiple_of(7) {
                let _ = stream.write_all(&[0xff; 64]).await;
            }
        }
    }
    stream
}

/// Ten thousand sockets that never authenticate leave nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_loiterers_leave_files_and_memory_where_they_were() {
    if !cfg!(target_os = "linux") {
        return; // There is no /proc.
    }
    let state = tempfile::tempdir().unwrap();
    let gateway = Process::start(state.path()).await;
    let (pid, to) = (gateway.pid(), gateway.addr);
    let mut client = Client::admin(to).await;
    let wave = async |client: &mut Client| {
        let mut sockets = tokio::task::JoinSet::new();
        for nth in 0..WAVE {
            sockets.spawn(loiter(to, nth));
        }
        let sockets = sockets.join_all().await;
        // Who has authenticated is served all the same.
        client.call("health", json!({})).await;
        sockets
    };
    let (files, _) = held(pid);
    // The first wave pays for what is kept for the next one: threads, buffers, the allocator's arenas.
    drop(wave(&mut client).await);
    // Freed memory goes back to the system within seconds.
    let settled = async |memory: u64| {
        for _ in 0..200 {
            let now = held(pid);
            if now.0 <= files && now.1 < memory {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        held(pid)
    };
    let (_, memory) = settled(u64::MAX).await;
    let most = memory + 24 * 1024;
    for _ in 1..WAVES {
        drop(wave(&mut client).await);
    }
    let after = settled(most).await;
    assert!(after.0 <= files + 4, "{} files, {files} before", after.0);
    println!("{} kB, {memory} kB before", after.1);
    assert!(after.1 < most, "{} kB, {memory} kB before", after.1);
    // Those that never go are shown the door: 15 s for the head of a request, and for a handshake.
    let loiterers = wave(&mut client).await;
    let start = std::time::Instant::now();
    assert!(held(pid).0 > files + WAVE / 2);
    let after = settled(u64::MAX).await;
    assert!(after.0 <= files + 4, "{} files, {files} before", after.0);
    // Twice over, since other tests keep the machine busy.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    drop(loiterers);
    let (mut late, challenge) = Client::open(to).await;
    let answer: Value = late.response_to("connect", connect_params(&Intro::default(), &challenge)).await;
    assert_eq!(answer["ok"], true);
}
