//! `crabtree chaos`: parts of a running gateway are made to fail by plan, with guard rails, while clients of its own watch
//! that nobody notices.
//!
//! | file | what |
//! |---|---|
//! | `plan` | the plans, and what a seed makes of one |
//! | `actors` | the tree as faults need it |
//! | `line` | a socket whose every frame is checked |
//! | `witness` | a client that only looks |
//! | `talk` | a client that talks in sessions of its own |
//! | `strike` | one fault, until the actor is as it was |
//! | `run` | one fault after the other |
//! | `report` | what came of it |

mod actors;
mod line;
mod plan;
mod report;
mod run;
mod strike;
mod talk;
mod witness;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, value_parser};
use crabtree_actors::settings::duration_ms;
use crabtree_protocol::Scope;
use serde_json::{Value, json};
use tokio::signal::{
    ctrl_c,
    unix::{SignalKind, signal},
};

use self::actors::Tree;
use self::line::Line;
use self::plan::{Due, PLANS, Plan, Schedule, Target};
use self::report::Report;
use self::run::Run;
use self::strike::Striker;
use super::client::Client;
use super::{Failure, Global, print_json, print_line, printable, table};

/// The most faults of one run, and the shortest and longest time that one may take.
const MOST: u32 = 1_000;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3_600);
/// How long a run takes at most, if nobody says.
const USUAL: Duration = Duration::from_secs(600);
/// What a shell expects of a command that was interrupted.
const INTERRUPTED: u8 = 130;

/// What to do.
#[derive(Subcommand)]
pub enum ChaosCommand {
    /// Name the plans, and what each of them does
    #[command(after_help = "Example:\n  crabtree chaos list")]
    List,
    /// Carry a plan out against the gateway that runs, and tell what came of it
    #[command(after_help = "Examples:\n  crabtree chaos run tour\n  \
        crabtree chaos run storm --seed 7 --for 2m --yes --json\n  \
        crabtree chaos run storm --only gateway/cron gateway/nodes --faults 6\n\n\
        The gateway has to allow it: crabtree config set gateway.chaos.enabled true\n\n\
        Only one actor fails at a time, and never so often that it would be parked. Clients of the command watch, and \
        talk with the built-in model in sessions of their own, which are deleted at the end; nobody else's session is \
        touched unless --only names it. It ends at once when something is not as it has to be, or at Ctrl-C.\n\n\
        Exit codes: 0 everything held, 1 something did not, 2 usage, 78 the gateway does not allow it, 130 Ctrl-C.")]
    Run(Wish),
}

/// How a plan is to be carried out.
#[derive(Args)]
pub struct Wish {
    /// Which; `crabtree chaos list` names them
    #[arg(value_parser = plan::named)]
    plan: &'static Plan,
    /// What decides whom, how and when: of the same tree the same seed makes the same faults [default: any]
    #[arg(long)]
    seed: Option<u32>,
    /// How many faults, at most 1000 [default: the plan's, or as many as fit into --for]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=i64::from(MOST)))]
    faults: Option<u32>,
    /// For how long at most, such as 90s or 10m; an hour at the longest [default: 10m]
    #[arg(long = "for", value_name = "DURATION", value_parser = limit)]
    limit: Option<Duration>,
    /// Only these actors, instead of those of the plan
    #[arg(long, value_name = "PATH", num_args = 1..)]
    only: Vec<String>,
    /// Only say which faults there would be
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

fn limit(text: &str) -> Result<Duration, String> {
    let ms = duration_ms(text).and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    ms.filter(|limit| (SHORTEST..=LONGEST).contains(limit))
        .ok_or_else(|| "it is no time between 1s and 1h, such as 90s or 10m".into())
}

pub(super) async fn run(global: &Global, command: ChaosCommand) -> Result<ExitCode, Failure> {
    match command {
        ChaosCommand::List => {
            list(global);
            Ok(ExitCode::SUCCESS)
        }
        ChaosCommand::Run(wish) if wish.dry_run => rehearse(global, &wish).await,
        ChaosCommand::Run(wish) => carry_out(global, &wish).await,
    }
}

fn list(global: &Global) {
    if global.json {
        let plans: Vec<Value> =
            PLANS.iter().map(|plan| json!({ "name": plan.name, "about": plan.about })).collect();
        return print_json(&json!({ "plans": plans }));
    }
    let rows: Vec<[String; 2]> = PLANS.iter().map(|plan| [plan.name.into(), plan.about.into()]).collect();
    print_line(&table::lines(&rows).join("\n"));
}

/// What is to be done, in this tree.
struct Order {
    seed: u64,
    count: usize,
    limit: Duration,
    targets: Vec<Target>,
}

impl Order {
    fn of(wish: &Wish, tree: &Tree) -> Result<Self, Failure> {
        let mut targets = match wish.only.as_slice() {
            [] => wish.plan.targets(tree),
            only => only.iter().map(|path| named(path, tree)).collect::<Result<_, _>>()?,
        };
        let parked = tree.parked();
        targets.retain(|target| !matches!(target, Target::At(path) if parked.contains(path)));
        if targets.is_empty() {
            return Err(Failure::failed("there is nobody who could be made to fail")
                .or_next("`crabtree tree` draws the actors; who is parked stays so"));
        }
        let count = match (wish.faults, wish.limit) {
            (Some(faults), _) => faults as usize,
            (None, Some(_)) => MOST as usize,
            (None, None) => wish.plan.count(&targets),
        };
        let (seed, limit) = (wish.seed.unwrap_or_else(rand::random).into(), wish.limit.unwrap_or(USUAL));
        Ok(Self { seed, count, limit, targets })
    }

    fn schedule(&self, wish: &Wish) -> Schedule {
        Schedule::new(wish.plan, self.targets.clone(), self.seed)
    }
}

/// An actor that was named.
fn named(path: &str, tree: &Tree) -> Result<Target, Failure> {
    let wrong =
        |why: &str| Failure::usage(format!("{path}: {why}")).or_next("`crabtree tree` draws the actors");
    match tree.actors.get(path) {
        None => Err(wrong("there is no such actor; paths begin with gateway/")),
        Some(_) if !path.contains('/') => Err(wrong("the root ends with the process")),
        Some(actor) if actor.left.is_none() => Err(wrong("nobody brings that actor back")),
        Some(_) => Ok(Target::At(path.into())),
    }
}

async fn rehearse(global: &Global, wish: &Wish) -> Result<ExitCode, Failure> {
    let mut client = global.connect(&[Scope::Read]).await?;
    let tree = Tree::of(&client.request("system.actors", json!({ "limit": MOST })).await?);
    let order = Order::of(wish, &tree)?;
    let due: Vec<Due> = order.schedule(wish).take(order.count).collect();
    if global.json {
        let fault = |due: &Due| {
            let pause = due.pause.as_millis() as u64;
            json!({ "target": due.target.to_string(), "fault": due.fault.name(), "pauseMs": pause })
        };
        let faults: Vec<Value> = due.iter().map(fault).collect();
        print_json(&json!({ "plan": wish.plan.name, "seed": order.seed, "faults": faults }));
    } else {
        let row = |(nth, due): (usize, &Due)| {
            [format!("{:>4}", nth + 1), due.target.to_string(), due.fault.name().to_owned()]
        };
        let rows: Vec<_> = due.iter().enumerate().map(row).collect();
        print_line(&printable(&table::lines(&rows).join("\n")));
        print_line(&format!("seed {}: nothing was done", order.seed));
    }
    Ok(ExitCode::SUCCESS)
}

async fn carry_out(global: &Global, wish: &Wish) -> Result<ExitCode, Failure> {
    let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !wish.yes && !asks {
        return Err(Failure::usage(
            "there is nobody to ask whether parts of the gateway may be made to fail",
        )
        .or_next("say --yes; with --dry-run nothing is done"));
    }
    let target = global.target()?;
    let client =
        allowed(Client::connect(&target, &[Scope::Read, Scope::Write, Scope::Admin], &[]).await?).await?;
    let mut striker = Striker::new(Line::new(client, "striker"));
    let tree = striker.tree().await?;
    let order = Order::of(wish, &tree)?;
    if !wish.yes && !agreed(&target.url, &order)? {
        return Err(Failure::failed("nothing was done"));
    }
    let schedule = order.schedule(wish);
    let report = Report { plan: wish.plan.name, seed: order.seed, ..Report::default() };
    let mut run = Run::begin(&target, striker, tree, report).await?;
    let quiet = global.json;
    let interrupted = tokio::select! {
        () = run.strike(schedule, order.count, order.limit, |nth, blow| {
            if !quiet {
                print_line(&blow.line(nth));
            }
        }) => false,
        () = told_to_stop() => true,
    };
    if interrupted {
        run.stopped("interrupted");
    }
    let report = tokio::select! {
        report = run.finish() => report,
        () = told_to_stop() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    match global.json {
        true => print_json(&report.json()),
        false => print_line(&report.text()),
    }
    Ok(match (report.ok(), interrupted) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::from(INTERRUPTED),
        (true, false) => ExitCode::SUCCESS,
    })
}

/// Ctrl-C, or the system wants it to end.
async fn told_to_stop() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return drop(ctrl_c().await) };
    tokio::select! {
        _ = ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// The same client, if it may have actors fail.
async fn allowed(mut client: Client) -> Result<Client, Failure> {
    // The root is never touched: who may ask for that is told so.
    let harmless = json!({ "path": "gateway", "fault": "slow", "ms": 0 });
    match client.request("system.chaos", harmless).await {
        Err(failure) if failure.is_unknown_method() => {
            Err(Failure::config("this gateway does not allow that its parts are made to fail")
                .or_next("crabtree config set gateway.chaos.enabled true"))
        }
        Err(failure) if failure.is_unauthorised() || failure.is_unreachable() => Err(failure),
        _ => Ok(client),
    }
}

/// Asks who sits at the terminal.
fn agreed(url: &str, order: &Order) -> Result<bool, Failure> {
    eprint!(
        "{} faults at most, one after the other, in the gateway at {}. Go on? [y/N] ",
        order.count,
        printable(url)
    );
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|error| Failure::failed(format!("the answer cannot be read: {error}")))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_bounds() {
        assert_eq!(limit("90s"), Ok(Duration::from_secs(90)));
        assert!(["0s", "999ms", "2h", "soon", "-5s"].into_iter().all(|text| limit(text).is_err()));
    }

    #[test]
    fn only_who_is_brought_back_may_be_named() {
        let row = |path: &str, left: Value| json!({"path": path, "state": "running", "restartsLeft": left});
        let mut root = row("gateway", Value::Null);
        root["children"] = json!([row("gateway/cron", json!(5)), row("gateway/connections/1", Value::Null)]);
        let tree = Tree::of(&json!({ "root": root }));
        assert_eq!(named("gateway/cron", &tree).ok(), Some(Target::At("gateway/cron".into())));
        for path in ["gateway", "gateway/connections/1", "gateway/none", "cron"] {
            assert!(named(path, &tree).is_err(), "{path}");
        }
    }
}
