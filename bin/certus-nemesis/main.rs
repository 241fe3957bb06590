//! `certus-nemesis`: real nodes under random faults, with a load that checks every reply.
//!
//! The process that is started guards another one ([`guard`]) that does the work ([`run`]): it
//! starts a cluster whose every connection goes through a proxy ([`proxy`]), sets clients on it
//! ([`workload`]), plays a plan of faults ([`plan`], [`conductor`], [`fault`]), waits until all
//! replicas are equal ([`ending`]), and judges what clients were told ([`check`]).

mod arguments;
mod check;
mod clock;
mod cluster;
mod conductor;
mod configuration;
#[path = "../certus/console.rs"]
#[allow(dead_code, reason = "shared with `certus`, which uses more of it")]
mod console;
mod disk;
mod ending;
mod evidence;
mod failure;
mod fault;
mod guard;
mod history;
mod node;
mod plan;
#[path = "../certus/dev/port_blocks.rs"]
#[allow(dead_code, reason = "shared with `certus`, which uses more of it")]
mod port_blocks;
mod ports;
#[path = "../certus/dev/process.rs"]
#[allow(dead_code, reason = "shared with `certus`, which uses more of it")]
mod process;
mod proxy;
#[cfg(test)]
mod proxy_tests;
#[path = "../../tests/cluster/random.rs"]
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
mod random;
#[path = "../certus/resp_client.rs"]
#[allow(dead_code, reason = "shared with `certus`, which uses more of it")]
mod resp_client;
mod run;
mod scene;
mod workload;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;

use crate::arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |time| time.as_secs())
    });
    let ended = match &arguments.inner {
        Some(directory) => run::run(&arguments, directory, seed),
        None => guard::run(&arguments, seed),
    };
    match ended {
        Ok(status) => status.into(),
        Err(error) => {
            console::complain(error);
            2.into()
        }
    }
}
