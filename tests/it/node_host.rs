//! Our own node host, as a process beside a gateway: `crabtree node run`.

mod life;
mod machine;
mod work;

use machine::Machine;
