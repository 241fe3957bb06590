//! A node that takes the place of a lost one makes itself known before it speaks of anything else.
//!
//! It cannot know which generations the lost one had. So it asks the others, one by one and again
//! and again, to know it as a generation beyond all it has heard of. It does so with a handshake:
//! whoever knows an earlier one makes that durable and welcomes it, and whoever knows this
//! generation or a later one of another data directory refuses, and says which. When f + 1 of the
//! *other* nodes have welcomed it in one generation, the node begins: two such sets have a node in
//! common, so no two data directories begin in one generation. See `docs/PROTOCOL.md`,
//! "Generations".
//!
//! Who welcomed it is not kept: after a crash all are asked again.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use net::peer::handshake::{
    DiallerFailure, DiallerStep, HANDSHAKE_SIZE, HandshakeDialler, LocalNode, PeerIdentity,
    Refusal, Role, Target,
};
use plog::vocabulary::{BootEpoch, Generation};

use crate::core_setup::PeerAddress;
use crate::node::data_directory::DirectoryIdentity;
use crate::node::fatal::{ExitStatus, Fatal};
use crate::node::log_line;
use crate::reactor::node_shared::NodeShared;
use crate::reactor::peers::acquaintances::Acquaintances;

/// How long a node that did not welcome this one rests before it is asked again.
const REST: Duration = Duration::from_millis(250);

/// How often it is said who is waited for.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How the asking stands: pure.
#[derive(Debug)]
struct Standing {
    replicas: u8,
    /// Asked for: beyond all that was heard of.
    generation: Generation,
    /// Who welcomed it in this generation, by node id.
    welcomed: Vec<bool>,
}

impl Standing {
    fn new(replicas: u8) -> Self {
        let generation = Generation(1);
        Self { replicas, generation, welcomed: vec![false; usize::from(replicas)] }
    }

    fn welcome(&mut self, node_id: u8) {
        self.welcomed[usize::from(node_id)] = true;
    }

    /// Somebody refused. Whether the next question is another one.
    fn refuse(&mut self, refusal: &Refusal) -> Result<bool, Fatal> {
        let wanted = match refusal {
            // Another data directory is of that generation.
            Refusal::Incarnation { generation, .. } => Generation(*generation).next(),
            // It was asked before a crash, for a later one.
            Refusal::BootEpoch { seen, .. } => Some(BootEpoch(*seen).generation()),
            _ => return Ok(false),
        };
        let wanted = wanted.filter(|wanted| *wanted <= Generation::LAST).ok_or_else(|| {
            let text = "the node was replaced as often as it can be: its data must be moved to a \
                        new cluster";
            Fatal::new(ExitStatus::DataDirectory, text)
        })?;
        if wanted <= self.generation {
            return Ok(false);
        }
        self.generation = wanted;
        // Those who welcomed the one before are asked again.
        self.welcomed.fill(false);
        Ok(true)
    }

    fn is_enough(&self) -> bool {
        let majority = usize::from(self.replicas) / 2 + 1;
        self.welcomed.iter().filter(|welcomed| **welcomed).count() >= majority
    }
}

/// Asks until enough of the other nodes know this one durably; in which generation. [`None`] when
/// the node was told to stop.
///
/// # Errors
///
/// When there is nobody to ask, or no generation left.
pub(super) fn register(
    identity: &DirectoryIdentity,
    role: Role,
    peers: &[PeerAddress],
    acquaintances: &Acquaintances,
    shared: &Arc<NodeShared>,
    patience: Duration,
) -> Result<Option<Generation>, Fatal> {
    if peers.is_empty() {
        let text = "--replace: a node alone has no others from which it could be rebuilt";
        return Err(Fatal::new(ExitStatus::Configuration, text));
    }
    let needed = usize::from(identity.replicas) / 2 + 1;
    if peers.len() < needed {
        let (slots, listed) = (identity.replicas, peers.len());
        let text = format!(
            "--replace: of {slots} replica slots {needed} other nodes have to know this one as a \
             new one, and the configuration lists {listed} others; list more that are up, or add a \
             node with an id that was never used, without --replace"
        );
        return Err(Fatal::new(ExitStatus::Configuration, text));
    }
    log_line::warn(
        "this node takes the place of one whose data is lost: it asks the others to know it as a \
         new one, and says nothing else before enough of them do",
        &[("node", &identity.node_id)],
    );
    let mut standing = Standing::new(identity.replicas);
    let mut said: Vec<String> = vec![String::new(); usize::from(identity.replicas)];
    let mut told = Instant::now();
    while !standing.is_enough() {
        for peer in peers {
            if shared.is_stopping() {
                return Ok(None);
            }
            let node_id = usize::from(peer.node_id);
            if standing.welcomed[node_id] {
                continue;
            }
            let answer = ask((identity, role), standing.generation, peer, acquaintances, patience);
            let reason = match answer {
                Ok(identity) => match acquaintances.remember(&identity) {
                    Ok(()) => {
                        standing.welcome(peer.node_id);
                        let generation = standing.generation.0;
                        log_line::info(
                            "a node knows this one as a new one",
                            &[("node", &peer.node_id), ("generation", &generation)],
                        );
                        continue;
                    }
                    Err(reason) => reason.to_string(),
                },
                Err(Failure::Handshake(DiallerFailure::RefusedByPeer(refusal))) => {
                    standing.refuse(&refusal)?;
                    refusal.to_string()
                }
                Err(failure) => failure.to_string(),
            };
            if said[node_id] != reason {
                log_line::info(
                    "a node does not know this one as a new one yet; it is asked again",
                    &[("node", &peer.node_id), ("reason", &reason)],
                );
                said[node_id] = reason;
            }
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let waits = peers.iter().filter(|peer| !standing.welcomed[usize::from(peer.node_id)]);
            let waits: Vec<u8> = waits.map(|peer| peer.node_id).collect();
            log_line::info(
                "still asking the others to know this node as a new one",
                &[("nodes", &format_args!("{waits:?}"))],
            );
        }
        if !standing.is_enough() {
            sleep(REST);
        }
    }
    Ok(Some(standing.generation))
}

/// Why a node did not welcome this one.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Connection(#[from] io::Error),
    #[error("{0}")]
    Handshake(DiallerFailure),
}

/// One handshake with core 0 of a node. Who is there, when it welcomed this one.
fn ask(
    (identity, role): (&DirectoryIdentity, Role),
    generation: Generation,
    peer: &PeerAddress,
    acquaintances: &Acquaintances,
    patience: Duration,
) -> Result<PeerIdentity, Failure> {
    let local = LocalNode {
        cluster_id: identity.cluster_id,
        node_id: identity.node_id,
        replicas: identity.replicas,
        incarnation: identity.incarnation,
        boot_epoch: generation.epoch_before().0 + 1,
        core_count: identity.core_count,
        core: 0,
        role,
    };
    let mut addresses = (peer.host.as_str(), peer.port).to_socket_addrs()?;
    let address = addresses.next().ok_or_else(|| io::Error::other("the host has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut dialler = HandshakeDialler::new(local, Target { node_id: peer.node_id, core: 0 });
    stream.write_all(&dialler.hello())?;
    let mut answer = [0; HANDSHAKE_SIZE];
    stream.read_exact(&mut answer)?;
    let step = dialler
        .handle_bytes(&answer, |node_id| acquaintances.remembered(node_id))
        .map_err(Failure::Handshake)?;
    match step {
        DiallerStep::Accepted { identity, .. } => Ok(identity),
        DiallerStep::Incomplete => unreachable!("all bytes of an answer were read"),
    }
}

#[cfg(test)]
mod tests {
    use net::peer::handshake::Refusal;
    use plog::vocabulary::Generation;

    use super::Standing;

    fn another(generation: u32) -> Refusal {
        Refusal::Incarnation { node_id: 0, remembered: 7, got: 8, generation }
    }

    #[test]
    fn enough_others_have_to_know_it_in_one_generation() {
        let mut standing = Standing::new(3);
        standing.welcome(1);
        assert!(!standing.is_enough(), "of three, both others");
        assert!(standing.refuse(&another(1)).unwrap());
        assert_eq!(standing.generation, Generation(2));
        standing.welcome(2);
        assert!(!standing.is_enough(), "the first knows it in an earlier one");
        assert!(!standing.refuse(&another(0)).unwrap(), "an answer to an earlier question");
        standing.welcome(1);
        assert!(standing.is_enough());
        let mut of_five = Standing::new(5);
        for (node_id, is_enough) in [(1, false), (2, false), (4, true)] {
            of_five.welcome(node_id);
            assert_eq!(of_five.is_enough(), is_enough);
        }
    }

    #[test]
    fn what_was_asked_for_before_a_crash_is_asked_for_again() {
        let mut standing = Standing::new(3);
        let seen = Refusal::BootEpoch { node_id: 0, seen: (3 << 20) + 1, got: (1 << 20) + 1 };
        assert!(standing.refuse(&seen).unwrap());
        assert_eq!(standing.generation, Generation(3));
        assert!(!standing.refuse(&Refusal::UnknownNode { node_id: 0 }).unwrap());
        assert!(standing.refuse(&another(Generation::LAST.0)).is_err(), "there is no later one");
    }
}
