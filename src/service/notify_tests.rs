use super::*;
use crabtree_actors::tree::{Behavior, Chaos, ChildSpec, Clock, Ctx, Fault, Restart, Slot, grow, shutdown};

/// A root, and a child that watches over all, as far as its name says.
struct Bare;

impl Behavior for Bare {
    type Msg = ();
    type Args = bool;
    const KIND: &'static str = "bare";

    fn start(ctx: &mut Ctx<()>, is_root: bool) -> Result<Self, Fault> {
        if is_root {
            ctx.spawn(spec("health", false)).map_err(Fault::new)?;
        }
        Ok(Self)
    }

    fn handle(&mut self, _: &mut Ctx<()>, (): ()) -> Result<(), Fault> {
        Ok(())
    }
}

fn spec(name: &str, is_root: bool) -> ChildSpec {
    ChildSpec::new::<Bare>(name, Restart::Permanent, is_root, &Slot::default())
}

async fn planted() -> Arc<Node> {
    let root = grow(spec("gateway", true), Clock::system(), Arc::new(|_| {}));
    let up = |node: &Arc<Node>| node.state().0 == NodeState::Running;
    while !(up(&root) && root.child("health").as_ref().is_some_and(up)) {
        tokio::task::yield_now().await;
    }
    root
}

/// A hung core must not be said to live: systemd has it started anew then.
///
/// accepts: K8
#[tokio::test(start_paused = true)]
async fn a_tree_whose_root_or_watcher_hangs_shows_no_sign_of_life() {
    for path in ["gateway", "gateway/health"] {
        let root = planted().await;
        assert!(is_alive(&root));
        let hanging = root.find(path).unwrap();
        assert!(hanging.inject(Chaos::Hang));
        sleep(hanging.busy_bound()).await;
        assert!(is_alive(&root), "{path} has still time to be replaced");
        sleep(hanging.busy_bound() * HANGS_AT).await;
        assert!(!is_alive(&root), "{path} hangs");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tree_that_has_ended_shows_no_sign_of_life() {
    let root = planted().await;
    shutdown(&root).await;
    assert!(!is_alive(&root));
}
