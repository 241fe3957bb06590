//! `certus cleaner`: keeps old segments of the log on disk, lets them go again, or says how it is.

use serde_json::Value as Json;

use crate::arguments::{Cleaner, CleanerCommand};
use crate::console::{Console, complain};
use crate::exit_status::ExitStatus;
use crate::node_control::{Node, OrderError, cores, number};
use crate::resp_client::resolve;

/// Tells each node, and prints how its cores are then.
pub fn cleaner(arguments: &Cleaner, console: &mut Console) -> ExitStatus {
    let (word, nodes) = match &arguments.command {
        CleanerCommand::Pause(nodes) => ("PAUSE", nodes),
        CleanerCommand::Resume(nodes) => ("RESUME", nodes),
        CleanerCommand::Status(nodes) => ("STATUS", nodes),
    };
    let mut status = ExitStatus::Ok;
    for name in &nodes.addr {
        let told = resolve(name).map_err(OrderError::Address).and_then(|address| {
            let mut node = Node::connect(address, nodes.timeout)?;
            Ok((address, node.ask(&["CERTUS", "CLEANER", word])?))
        });
        match told {
            Ok((address, document)) => {
                for core in cores(&document) {
                    console.line(format_args!("{address} {}", line(core)));
                }
            }
            Err(error) => {
                complain(error);
                status = ExitStatus::Failed;
            }
        }
    }
    status
}

fn line(core: &Json) -> String {
    let is = |name: &str| core.get(name).and_then(Json::as_bool).unwrap_or(false);
    let state = match (is("abstains"), is("paused")) {
        (true, _) => "does nothing, since the core abstains",
        (false, true) => "paused until it is resumed or the node starts again",
        (false, false) => "runs",
    };
    let pressure = match (is("full"), is("near_limit")) {
        (true, _) => "; writes are refused for want of room",
        (false, true) => "; the log nears its limit",
        (false, false) => "",
    };
    format!(
        "core {}: {state}; {} of at most {} segments, {} to be freed, {} freed{pressure}",
        number(core, "/core"),
        number(core, "/segments"),
        number(core, "/segments_max"),
        number(core, "/segments_freeable"),
        number(core, "/segments_freed"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::line;

    #[test]
    fn a_line_says_first_whether_the_cleaner_runs_and_last_what_presses() {
        let core = |paused: bool, full: bool| {
            json!({
                "core": 1, "paused": paused, "segments": 5, "segments_max": 16,
                "segments_freeable": 2, "segments_freed": 7, "near_limit": full, "full": full,
                "abstains": false,
            })
        };
        assert_eq!(
            line(&core(false, false)),
            "core 1: runs; 5 of at most 16 segments, 2 to be freed, 7 freed"
        );
        let paused = line(&core(true, true));
        assert!(paused.starts_with("core 1: paused until it is resumed"), "{paused}");
        assert!(paused.ends_with("writes are refused for want of room"), "{paused}");
    }
}
