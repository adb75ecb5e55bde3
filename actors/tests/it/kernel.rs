//! The kernel's promise on three toy actors: whatever dies, no socket but its own closes.

use crate::toy::{Client, Toy};
use crabtree_actors::tree::*;
use std::time::Duration;

async fn all_answer(clients: &mut [(u16, Client)], after: &str) {
    for (port, client) in clients {
        let line = format!("{port} {after}");
        let answer = client.echo(&line).await.unwrap_or_else(|| panic!("socket {port} closed after {after}"));
        assert!(answer.ends_with(&format!(":{line}")), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panic_kill_and_hang_of_every_node_leave_fifty_sockets_open() {
    let toy = Toy::start();
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(Client::connect(toy.addr).await);
    }
    all_answer(&mut clients, "start").await;
    for name in ["worker", "connections", "listener"] {
        let path = format!("root/{name}");
        let mut restarts = 0;
        for blow in ["panic", "kill", "hang", "stuck", "restart", "spin"] {
            let node = toy.until(&path, NodeState::Running, restarts).await;
            let generation = node.generation();
            match blow {
                "panic" => assert!(node.inject(Chaos::Panic)),
                "kill" => assert!(node.kill()),
                "restart" => assert!(node.command(Order::Restart)),
                "spin" => {
                    assert!(node.inject(Chaos::Spin(Duration::from_millis(1500))));
                    assert!(node.command(Order::Restart));
                }
                _ => {
                    assert!(node.inject(Chaos::Hang));
                    while node.gauge().busy_ms().is_none() {
                        tokio::task::yield_now().await;
                    }
                    if blow == "hang" {
                        assert!(node.command(Order::Restart));
                    } else {
                        assert!(node.report_stuck(generation, 5_000));
                    }
                }
            }
            restarts += 1;
            toy.until(&path, NodeState::Running, restarts).await;
            all_answer(&mut clients, &format!("{blow} of {name}")).await;
            clients.push(Client::connect(toy.addr).await);
        }
        let node = toy.root.find(&path).unwrap();
        assert_eq!(node.restarts(), 6);
        assert_eq!(node.last_exit().unwrap().kind, ExitKind::Killed);
    }
    all_answer(&mut clients, "everything").await;
    assert_eq!(toy.root.find("root/connections").unwrap().child_count(), clients.len());

    // A connection's own end closes its socket and no other.
    let (port, mut victim) = clients.pop().unwrap();
    let node = toy.root.find(&format!("root/connections/{port}")).unwrap();
    assert!(node.inject(Chaos::Panic));
    while toy.root.find(&format!("root/connections/{port}")).is_some() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(victim.echo("gone").await, None);
    all_answer(&mut clients, "one less").await;

    let reasons: Vec<_> = toy.log.lock().iter().filter_map(|c| c.last_exit.clone()).collect();
    assert!(reasons.iter().any(|e| e.kind == ExitKind::Panic && e.reason == "injected panic"));
    assert!(reasons.iter().any(|e| e.reason.starts_with("stuck for 5000 ms")));
    assert!(reasons.iter().any(|e| e.reason == "restart requested"));

    tokio::time::timeout(Duration::from_secs(5), shutdown(&toy.root)).await.unwrap();
    assert_eq!(clients[0].1.echo("down").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sixth_crash_parks_with_the_cause_and_resume_revives() {
    let toy = Toy::start();
    let (_, mut client) = Client::connect(toy.addr).await;
    for n in 0..5 {
        toy.until("root/worker", NodeState::Running, n).await.inject(Chaos::Panic);
    }
    toy.until("root/worker", NodeState::Running, 5).await.inject(Chaos::Panic);
    let parked = toy.until("root/worker", NodeState::Parked, 5).await;
    assert_eq!(parked.last_exit().unwrap().reason, "injected panic");
    assert!(!parked.inject(Chaos::Panic), "nobody is there");
    assert!(parked.command(Order::Restart));
    toy.until("root/worker", NodeState::Running, 6).await;
    assert_eq!(client.echo("back").await.unwrap(), "1:back");
    assert!(parked.command(Order::Park));
    toy.until("root/worker", NodeState::Parked, 6).await;
    shutdown(&toy.root).await;
}
