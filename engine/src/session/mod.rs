//! One client's connection: what each command it sends asks for.
//!
//! A [`Session`] turns a request into an [`Action`] without waiting for anything: an answer, a
//! request for the shard that owns the keys' entity, or a question for all cores of the node. It
//! speaks as Redis does, to the letter where clients look at the letters.
//!
//! Driving it:
//! 1. Make one with [`Session::new`] when a client connects.
//! 2. Hand each parsed request to [`Session::handle`] and do what it says.
//! 3. Send the replies in the order of the requests, each encoded for the [`Session::protocol`]
//!    *right after* its request was handled: `HELLO` is answered in the protocol that it chooses,
//!    and what was asked before it in the one before.

use std::rc::Rc;

use net::resp::arguments::Arguments;
use net::resp::slot;
use net::resp::value::{Protocol, Value};
use plog::configuration::Change;
use plog::vocabulary::AcceptorId;

use crate::request::{Command, EntityRequest, Freshness};
use crate::session::command_table::{CommandSpecification, Route, SessionCommand};
use crate::session::hello::Hello;
use crate::session::node_info::REDIS_VERSION;
use crate::state_machine::strings::command_word::CommandWord;
use crate::state_machine::strings::integer;
use crate::state_machine::strings::operation::{Operation, arity_allows};

pub use crate::session::action::{Action, MemberOrder, NodeQuery, Order};
pub use crate::session::info::{render_dbsize, render_info};
pub use crate::session::node_facts::NodeFacts;
pub use crate::session::node_info::{NodeAddress, NodeInfo};
pub use crate::session::settings::{RATE_MAX, RateChanges};

mod action;
mod client_commands;
mod client_name;
mod cluster_map;
mod cluster_replies;
mod command_listing;
mod command_table;
#[cfg(test)]
mod example;
pub mod glob;
mod hello;
mod info;
mod node_facts;
mod node_info;
#[cfg(test)]
mod replies_test;
mod settings;
mod tail_commands;
mod wording;

use crate::session::client_name::ClientName;

/// The longest id of `CERTUS ONCE`, in bytes.
pub const REQUEST_ID_SIZE_MAX: usize = crate::batch::REQUEST_ID_SIZE_MAX;

use crate::batch::OWN_REQUEST_ID;

/// One client's connection.
#[derive(Clone, Debug)]
pub struct Session {
    /// Names the connection among all of the node's.
    id: u64,
    /// The client's address, for listings.
    remote_address: String,
    info: Rc<NodeInfo>,
    protocol: Protocol,
    /// Of this connection's reads.
    freshness: Freshness,
    name: ClientName,
    library_name: ClientName,
    library_version: ClientName,
}

impl Session {
    /// The session of a client that has just connected. `connection_id` is the one that the client
    /// sees, unique on the node.
    #[must_use]
    pub fn new(connection_id: u64, remote_address: String, info: Rc<NodeInfo>) -> Self {
        Self {
            id: connection_id,
            remote_address,
            info,
            protocol: Protocol::Resp2,
            freshness: Freshness::Linearizable,
            name: ClientName::default(),
            library_name: ClientName::default(),
            library_version: ClientName::default(),
        }
    }

    /// The protocol for the reply to the request handled last.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The connection's number.
    #[must_use]
    pub fn connection_id(&self) -> u64 {
        self.id
    }

    /// What a request asks for.
    pub fn handle(&mut self, arguments: Arguments) -> Action {
        let Some(name) = arguments.get(0) else {
            return Action::Reply(wording::unknown_command(&arguments));
        };
        // The commands that matter for speed are found by one comparison of numbers each.
        if let Some(operation) = Operation::of_word(CommandWord::of(name)) {
            return self.operate(operation, arguments, None);
        }
        let Some(mut specification) = command_table::find(name) else {
            return Action::Reply(wording::unknown_command(&arguments));
        };
        if !arity_allows(specification.arity, arguments.len()) {
            return Action::Reply(wording::wrong_arity(specification.name));
        }
        if let (Some(name), false) = (arguments.get(1), specification.subcommands.is_empty()) {
            let Some(subcommand) = specification.subcommand(name) else {
                return Action::Reply(wording::unknown_subcommand(specification.name, name));
            };
            if !arity_allows(subcommand.arity, arguments.len()) {
                return Action::Reply(wording::wrong_arity(subcommand.name));
            }
            specification = subcommand;
        }
        match specification.route {
            Route::Operation(operation) => self.operate(operation, arguments, None),
            Route::Session(command) => self.run(command, specification, &arguments),
        }
    }

    /// A command for the entity that all its keys are in.
    fn operate(
        &self,
        operation: Operation,
        arguments: Arguments,
        request_id: Option<Box<[u8]>>,
    ) -> Action {
        if !operation.takes(arguments.len()) {
            return Action::Reply(Value::Error(operation.wrong_arity()));
        }
        let mut keys = operation.keys(&arguments);
        let entity = slot::entity_of(keys.next().expect("the arity makes room for a key"));
        if keys.any(|key| slot::entity_of(key) != entity) {
            return Action::Reply(wording::cross_slot());
        }
        drop(keys);
        let freshness = if operation.is_write() { Freshness::Linearizable } else { self.freshness };
        let command = Command { arguments, request_id, freshness };
        Action::Entity { entity, request: EntityRequest::Command(command) }
    }

    fn run(
        &mut self,
        command: SessionCommand,
        specification: &CommandSpecification,
        arguments: &Arguments,
    ) -> Action {
        Action::Reply(match command {
            SessionCommand::Ping => match arguments.len() {
                1 => Value::simple("PONG"),
                2 => Value::bulk(arguments[1].to_vec()),
                _ => wording::wrong_arity(specification.name),
            },
            SessionCommand::Echo => Value::bulk(arguments[1].to_vec()),
            SessionCommand::Hello => self.hello(arguments),
            SessionCommand::Auth if arguments.len() > 3 => wording::syntax_error(),
            SessionCommand::Auth => wording::no_password(),
            SessionCommand::Quit => return Action::ReplyAndClose(Value::OK),
            SessionCommand::Reset => self.reset(),
            SessionCommand::Select => select(&arguments[1]),
            SessionCommand::ReadOnly => {
                self.freshness = Freshness::Local;
                Value::OK
            }
            SessionCommand::ReadWrite => {
                self.freshness = Freshness::Linearizable;
                Value::OK
            }
            SessionCommand::ClientGetName
            | SessionCommand::ClientId
            | SessionCommand::ClientInfo
            | SessionCommand::ClientList
            | SessionCommand::ClientSetInfo
            | SessionCommand::ClientSetName
            | SessionCommand::ClientToggle => self.run_client(command, specification, arguments),
            SessionCommand::ClusterInfo => cluster_replies::info(&self.info),
            SessionCommand::ClusterKeySlot => Value::Integer(i64::from(slot::slot(&arguments[2]))),
            SessionCommand::ClusterMyId => Value::bulk(self.info.own_endpoint_id()),
            SessionCommand::ClusterNodes => cluster_replies::nodes(&self.info),
            SessionCommand::ClusterShards => cluster_replies::shards(&self.info),
            SessionCommand::ClusterSlots => cluster_replies::slots(&self.info),
            SessionCommand::Command => command_listing::everything(),
            SessionCommand::CommandCount => command_listing::count(),
            SessionCommand::CommandDocs => command_listing::docs(arguments),
            SessionCommand::CommandInfo => command_listing::info(arguments),
            SessionCommand::CommandList => command_listing::list(arguments),
            SessionCommand::ConfigGet => settings::get(&self.info, arguments),
            SessionCommand::ConfigSet => return settings::set(&self.info, arguments),
            SessionCommand::DbSize => return Action::Node(NodeQuery::DbSize),
            SessionCommand::Info => return Action::Node(info_query(arguments)),
            SessionCommand::CertusStatus => return Action::Node(NodeQuery::Status),
            SessionCommand::CertusEntity => {
                let entity = slot::entity_of(&arguments[2]);
                return Action::Entity { entity, request: EntityRequest::Inspect };
            }
            SessionCommand::CertusCheckpoint => {
                return Action::Node(NodeQuery::Order(Order::Checkpoint));
            }
            SessionCommand::CertusCleaner => match cleaner_order(&arguments[2]) {
                Some(order) => return Action::Node(NodeQuery::Order(order)),
                None => wording::unknown_cleaner_order(&arguments[2]),
            },
            SessionCommand::CertusMember => match member_order(arguments) {
                Some(order) => return Action::Node(NodeQuery::Order(Order::Member(order))),
                None => wording::unknown_member_order(arguments),
            },
            SessionCommand::CertusOnce => return self.once(arguments),
            SessionCommand::CertusChanges => {
                return tail_commands::changes(arguments, self.info.core_count);
            }
            SessionCommand::CertusEntities => {
                return tail_commands::entities(arguments, self.info.core_count);
            }
            SessionCommand::CertusState => return tail_commands::state(arguments),
            SessionCommand::Help => command_listing::help(&arguments[0]),
            SessionCommand::Container => wording::wrong_arity(specification.name),
        })
    }

    fn hello(&mut self, arguments: &Arguments) -> Value {
        let hello = match Hello::parse(arguments) {
            Ok(hello) => hello,
            Err(error) => return error,
        };
        if let Some(protocol) = hello.protocol {
            self.protocol = protocol;
        }
        if let Some(name) = hello.name {
            self.name = name;
        }
        let protocol = match self.protocol {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        };
        let id = i64::try_from(self.id).unwrap_or(i64::MAX);
        let text = |text: &'static str| Value::bulk(text);
        Value::Map(vec![
            (text("server"), text("redis")),
            (text("version"), text(REDIS_VERSION)),
            (text("proto"), Value::Integer(protocol)),
            (text("id"), Value::Integer(id)),
            (text("mode"), text("cluster")),
            (text("role"), text(if self.info.is_follower() { "replica" } else { "master" })),
            (text("modules"), Value::Array(Vec::new())),
        ])
    }

    fn reset(&mut self) -> Value {
        self.protocol = Protocol::Resp2;
        self.freshness = Freshness::Linearizable;
        self.name = ClientName::default();
        Value::simple("RESET")
    }

    /// `CERTUS ONCE id command …`
    fn once(&self, arguments: &Arguments) -> Action {
        let id = &arguments[2];
        if id.is_empty() || id.len() > REQUEST_ID_SIZE_MAX {
            return Action::Reply(Value::error(format!(
                "ERR the request id of CERTUS ONCE has {} bytes: it must have 1 to {REQUEST_ID_SIZE_MAX}",
                id.len()
            )));
        }
        if id[0] == OWN_REQUEST_ID {
            return Action::Reply(Value::error(
                "ERR the request id of CERTUS ONCE begins with byte 255: it must begin with another",
            ));
        }
        let command: Arguments = arguments.iter_from(3).collect();
        match Operation::of(&command) {
            Some(operation) if operation.is_write() => {
                self.operate(operation, command, Some(id.into()))
            }
            None if command_table::find(&command[0]).is_none() => {
                Action::Reply(wording::unknown_command(&command))
            }
            Some(_) | None => Action::Reply(Value::error(format!(
                "ERR CERTUS ONCE is for commands that write keys: send '{}' without it",
                wording::quoted(&command[0], 128)
            ))),
        }
    }
}

fn select(index: &[u8]) -> Value {
    match integer::parse(index) {
        Some(0) => Value::OK,
        Some(_) => Value::error("ERR DB index is out of range"),
        None => wording::not_an_integer(),
    }
}

/// The last word of `CERTUS CLEANER`.
fn cleaner_order(word: &[u8]) -> Option<Order> {
    let orders = [
        ("pause", Order::PauseCleaner),
        ("resume", Order::ResumeCleaner),
        ("status", Order::ShowCleaner),
    ];
    let known = orders.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    known.map(|(_, order)| *order)
}

/// The words behind `CERTUS MEMBER`.
fn member_order(arguments: &Arguments) -> Option<MemberOrder> {
    let word = |name: &str| arguments[2].eq_ignore_ascii_case(name.as_bytes());
    if arguments.len() == 3 {
        return word("list").then_some(MemberOrder::List);
    }
    let node = integer::parse(&arguments[3]).and_then(|node| u8::try_from(node).ok());
    let node = AcceptorId(node.filter(|_| arguments.len() == 4)?);
    let changes = [
        ("add", Change::AddLearner(node)),
        ("promote", Change::Promote(node)),
        ("remove", Change::Remove(node)),
    ];
    changes.iter().find(|(name, _)| word(name)).map(|(_, change)| MemberOrder::Change(*change))
}

/// `INFO section …`; sections that are not known are left out, as Redis does.
fn info_query(arguments: &Arguments) -> NodeQuery {
    if arguments.len() == 1 {
        return NodeQuery::Info { sections: vec!["default".to_owned()] };
    }
    let known = info::SECTIONS.iter().chain(&info::ALL_SECTIONS);
    let wanted = known.filter(|section| {
        arguments.iter_from(1).any(|word| word.eq_ignore_ascii_case(section.as_bytes()))
    });
    NodeQuery::Info { sections: wanted.map(|section| (*section).to_owned()).collect() }
}
