//! `certus`: the operator's command line.
//!
//! `certus dev` runs a whole cluster on this machine ([`dev`]), `certus status` asks a cluster how
//! it is ([`status`]), and `certus plog` reads the files of a node, running or not
//! ([`node_files`]). `certus checkpoint`, `certus cleaner` and `certus member` tell running nodes
//! what to do ([`node_control`]). `certus backup` and `certus restore` take all that a node has
//! applied out of its files, and put it into a new cluster ([`backup`]). `certus tail` prints what
//! changes ([`tail`]). Everything else it knows of a running node it learns as any client does,
//! over RESP ([`resp_client`]).

mod arguments;
mod backup;
mod console;
mod dev;
mod exit_status;
mod json_bytes;
mod node_control;
mod node_files;
mod progress;
mod resp_client;
#[cfg(test)]
mod resp_client_test;
mod status;
mod tail;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Backup, BackupCommand, Command, DevCommand, PlogCommand};
use crate::console::Console;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut console = Console::default();
    let status = match &arguments.command {
        Command::Dev(dev) => match &dev.command {
            Some(DevCommand::Stop(stop)) => dev::stop(stop, &mut console),
            None => dev::run(&dev.start, &mut console),
        },
        Command::Status(status) => status::run(status, &mut console),
        Command::Checkpoint(checkpoint) => node_control::checkpoint(checkpoint, &mut console),
        Command::Tail(arguments) => tail::run(arguments, &mut console),
        Command::Cleaner(cleaner) => node_control::cleaner(cleaner, &mut console),
        Command::Member(member) => node_control::member(member, &mut console),
        Command::Backup(Backup { command: Some(BackupCommand::Verify(verify)), .. }) => {
            backup::verify(verify, &mut console)
        }
        Command::Backup(Backup { take, .. }) => match take {
            Some(take) => backup::take(take, &mut console),
            None => unreachable!("without a command its arguments are required"),
        },
        Command::Restore(restore) => backup::restore(restore, &mut console),
        Command::Plog(PlogCommand::Verify(verify)) => node_files::verify(verify, &mut console),
        Command::Plog(PlogCommand::Dump(dump)) => node_files::dump(dump, &mut console),
        Command::Plog(PlogCommand::History(history)) => node_files::history(history, &mut console),
        Command::Plog(PlogCommand::Mirror(mirror)) => node_files::mirror(mirror, &mut console),
        Command::Plog(PlogCommand::Stats(stats)) => node_files::stats(stats, &mut console),
    };
    status.into()
}
