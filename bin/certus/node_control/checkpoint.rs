//! `certus checkpoint`: one now on every core, and waiting until it counts.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::arguments::Checkpoint;
use crate::console::{Console, complain};
use crate::exit_status::ExitStatus;
use crate::node_control::{Node, OrderError, cores, number};
use crate::resp_client::resolve;

/// How often a node is asked whether it is done.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Which checkpoint each core of a node will have, by core; `None` where none comes.
type Awaited = Vec<(u64, Option<u64>)>;

/// Tells each node, and waits for all of them.
pub fn checkpoint(arguments: &Checkpoint, console: &mut Console) -> ExitStatus {
    let begun = Instant::now();
    let mut status = ExitStatus::Ok;
    let mut waiting = Vec::new();
    for name in &arguments.nodes.addr {
        match order(name, arguments.nodes.timeout, console) {
            Ok(node) => waiting.push(node),
            Err(error) => {
                complain(error);
                status = ExitStatus::Failed;
            }
        }
    }
    if arguments.no_wait {
        return status;
    }
    for (mut node, boot, awaited) in waiting {
        let deadline = begun + arguments.wait;
        match wait(&mut node, boot, awaited, begun, deadline, console) {
            Ok(is_done) if is_done => {}
            Ok(_) => status = status.max(ExitStatus::Degraded),
            Err(error) => {
                complain(error);
                status = ExitStatus::Failed;
            }
        }
    }
    status
}

fn order(
    name: &str,
    timeout: Duration,
    console: &mut Console,
) -> Result<(Node, u64, Awaited), OrderError> {
    let address = resolve(name).map_err(OrderError::Address)?;
    let mut node = Node::connect(address, timeout)?;
    let document = node.ask(&["CERTUS", "CHECKPOINT"])?;
    let awaited = awaited(&document);
    for core in cores(&document) {
        let id = number(core, "/core");
        match core.get("checkpoint").and_then(Json::as_u64) {
            Some(number) => {
                console.line(format_args!("{address} core {id}: checkpoint {number} is asked for"));
            }
            None => {
                let reason = core.get("none").and_then(Json::as_str).unwrap_or("it does not say");
                console.line(format_args!("{address} core {id}: no checkpoint: {reason}"));
            }
        }
    }
    let boot = number(&document, "/boot_epoch");
    Ok((node, boot, awaited))
}

fn awaited(document: &Json) -> Awaited {
    let of_core =
        |core: &Json| (number(core, "/core"), core.get("checkpoint").and_then(Json::as_u64));
    cores(document).iter().map(of_core).collect()
}

/// Waits until all of a node's cores have what is awaited. Whether it came in time.
fn wait(
    node: &mut Node,
    boot: u64,
    mut awaited: Awaited,
    begun: Instant,
    deadline: Instant,
    console: &mut Console,
) -> Result<bool, OrderError> {
    let address = node.address;
    awaited.retain(|(_, checkpoint)| checkpoint.is_some());
    loop {
        let status = node.ask(&["CERTUS", "STATUS"])?;
        if number(&status, "/boot_epoch") != boot {
            return Err(OrderError::StartedAgain { address });
        }
        let took = begun.elapsed();
        for (core, bytes) in take_adopted(&mut awaited, &status) {
            console.line(format_args!(
                "{address} core {core}: done, {bytes} bytes, {:.3} s",
                took.as_secs_f64()
            ));
        }
        if awaited.is_empty() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            for (core, _) in &awaited {
                complain(format_args!(
                    "{address} core {core}: not done yet; it goes on by itself: see `certus \
                     status` and the node's log for what it waits for"
                ));
            }
            return Ok(false);
        }
        sleep(ASK_EVERY);
    }
}

/// The cores whose checkpoint counts now, with its bytes; they are awaited no longer.
fn take_adopted(awaited: &mut Awaited, status: &Json) -> Vec<(u64, u64)> {
    let mut done = Vec::new();
    awaited.retain(|(core, checkpoint)| {
        let said = cores(status).iter().find(|said| number(said, "/core") == *core);
        let Some(said) = said else { return true };
        let is_done =
            checkpoint.is_some_and(|awaited| number(said, "/shard/gauges/checkpoint") >= awaited);
        if is_done {
            done.push((*core, number(said, "/shard/gauges/checkpoint_size")));
        }
        !is_done
    });
    done
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{awaited, take_adopted};

    #[test]
    fn a_core_is_waited_for_until_its_own_checkpoint_or_a_later_one_counts() {
        let document = json!({ "boot_epoch": 3, "cores": [
            { "core": 0, "checkpoint": 5 },
            { "core": 1, "none": "this core has never written anything" },
            { "core": 2, "checkpoint": 2 },
        ] });
        let mut awaited = awaited(&document);
        assert_eq!(awaited, [(0, Some(5)), (1, None), (2, Some(2))]);
        let status = |first: u64, third: u64| {
            let core = |core: u64, number: u64| {
                json!({ "core": core, "shard": { "gauges":
                    { "checkpoint": number, "checkpoint_size": 100 * number } } })
            };
            json!({ "cores": [core(0, first), core(1, 9), core(2, third)] })
        };
        assert_eq!(take_adopted(&mut awaited, &status(4, 1)), []);
        assert_eq!(take_adopted(&mut awaited, &status(4, 3)), [(2, 300)]);
        assert_eq!(take_adopted(&mut awaited, &status(5, 3)), [(0, 500)]);
        assert_eq!(awaited, [(1, None)]);
    }
}
