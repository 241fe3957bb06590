//! By which configuration a core goes, and what it does when that changes.
//!
//! Everything that leaves together begins with the configuration in which it is said. Who hears of
//! a later one adopts it before anything else; what was said in an earlier one is not heard, but
//! answered with the later. So all that is ever counted was said in one version. See
//! `docs/PROTOCOL.md`, "Membership".

use std::collections::BTreeMap;

use net::peer::message::{MembershipMessage, PeerMessage};
use plog::configuration::{Change, Configuration};
use plog::planted;

use crate::context::{Event, Gated};
use crate::membership::{DECIDING_CORE, MembershipRefused, MembershipStatus, MembershipVotes};
use crate::shard::loading::Parked;
use crate::shard::{PeerCore, Shard};
use crate::state_machine::StateMachine;
use crate::time::Time;

/// What a core knows of the others' configurations.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    /// The version in which each core of the peers spoke last; at most one for each of their cores.
    said: BTreeMap<PeerCore, u32>,
    /// The other configuration of the same version that a core of a peer named, if it did.
    unlike: BTreeMap<PeerCore, Configuration>,
    /// When those that spoke in another one than the present are told it again.
    tell_at: Option<Time>,
}

impl<M: StateMachine> Shard<M> {
    /// What this node knew durably of its membership when it started. Call before anything else.
    pub fn know_membership(&mut self, configuration: Configuration, votes: MembershipVotes) {
        if planted!("configuration-not-durable") {
            return;
        }
        assert!(self.context.config.changes_membership, "else there is one configuration");
        self.context.configuration = configuration;
        if self.context.config.core == DECIDING_CORE {
            self.membership.recover(votes);
        }
        self.begin_settling();
    }

    /// By which configuration the core goes.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        self.context.configuration
    }

    /// What every frame to a peer has to begin with; `None` where the membership never changes.
    #[must_use]
    pub fn configuration_notice(&self) -> Option<Configuration> {
        self.context.config.changes_membership.then_some(self.context.configuration)
    }

    /// What core 0 promised and accepted of the next configuration: for checkers.
    #[must_use]
    pub fn membership_votes(&self) -> MembershipVotes {
        self.membership.votes()
    }

    /// Has a change of the membership decided; for an operator, on core 0. What it will make of the
    /// present configuration: that it did shows in [`Shard::configuration`], and when it was given
    /// up, or another change came first, the change has to be asked for again.
    ///
    /// # Errors
    ///
    /// Why it was not begun, and what to do.
    ///
    /// # Panics
    ///
    /// On another core.
    pub fn change_membership(
        &mut self,
        now: Time,
        change: Change,
    ) -> Result<Configuration, MembershipRefused> {
        assert_eq!(self.context.config.core, DECIDING_CORE, "one core of each node decides");
        self.context.now = now;
        let (wanted, chosen) = self.membership.propose(&mut self.context, change)?;
        self.adopt_chosen(chosen);
        Ok(wanted)
    }

    /// Another core of this node goes by this configuration, which is durable.
    pub fn handle_configuration(&mut self, now: Time, configuration: Configuration) {
        self.context.now = now;
        self.adopt_chosen(Some(configuration));
    }

    /// All cores of this node settled a version; for core 0.
    pub fn handle_node_settled(&mut self, now: Time, version: u32) {
        self.context.now = now;
        self.membership.note_settled(&self.context, self.context.me(), version);
    }

    /// How the membership stands, as far as this core knows; of core 0.
    #[must_use]
    pub fn membership_status(&self) -> MembershipStatus {
        self.membership.status(&self.context)
    }

    /// Asks all members what they settled; for an operator who waits, on core 0.
    pub fn ask_members(&mut self, now: Time) {
        self.context.now = now;
        self.membership.ask_members(&mut self.context);
    }

    /// Whether a message is to be heard: said by a member to a member, in the present version. A
    /// later one is adopted first; who spoke in an earlier one is told.
    pub(super) fn hears(&mut self, from: PeerCore, message: &PeerMessage) -> bool {
        if !self.context.config.changes_membership {
            return !matches!(message, PeerMessage::Configuration(_) | PeerMessage::Membership(_));
        }
        match message {
            PeerMessage::Configuration(configuration) => {
                let present = self.context.configuration;
                if configuration.version == present.version
                    && *configuration != present
                    && *configuration != Configuration::UNKNOWN
                    && present != Configuration::UNKNOWN
                {
                    // One of the two was founded by others: nothing that it says counts here.
                    self.versions.said.remove(&from);
                    self.context.counters.configurations_unlike += 1;
                    let (member, theirs) = (from.acceptor, *configuration);
                    if self.versions.unlike.insert(from, theirs) != Some(theirs) {
                        let event = Event::ConfigurationDiffers { member, theirs };
                        self.context.events.push_back(event);
                    }
                    return false;
                }
                self.versions.said.insert(from, configuration.version);
                self.adopt_chosen(Some(*configuration));
                if self.context.configuration.is_news_to(configuration) {
                    self.context.send_to_core(from, PeerMessage::Heartbeat);
                }
                false
            }
            PeerMessage::Generations(_) => true,
            PeerMessage::Membership(_) => self.context.config.core == DECIDING_CORE,
            _ => {
                let is_between_members = self.is_between_members(from);
                let said = self.versions.said.get(&from).copied();
                let is_heard = is_between_members
                    && (said == Some(self.context.configuration.version)
                        || planted!("earlier-version-counted"));
                self.context.counters.messages_unheard += u64::from(!is_heard);
                is_heard
            }
        }
    }

    /// Whether this core and a peer's have anything to tell each other but their versions.
    /// A follower hears members, and asks them.
    pub(super) fn is_between_members(&self, peer: PeerCore) -> bool {
        let members = self.context.configuration.members();
        let takes_part = |node| members.contains(node) || !self.context.is_replica(node);
        takes_part(self.context.me()) && takes_part(peer.acceptor)
    }

    /// A message about the next configuration.
    pub(super) fn handle_membership(&mut self, from: PeerCore, message: &MembershipMessage) {
        let context = &mut self.context;
        let chosen = self.membership.handle_message(context, from.acceptor, message);
        self.adopt_chosen(chosen);
    }

    /// A link came up: each side hears the other's version, so that a quiet node hears of a change.
    pub(super) fn greet(&mut self, peer: PeerCore) {
        if self.context.config.changes_membership {
            self.versions.said.remove(&peer);
            self.context.send_to_core(peer, PeerMessage::Heartbeat);
            self.plan_to_tell();
        }
    }

    /// Goes by a configuration from now on, if it is a later one. It is known to be chosen.
    fn adopt_chosen(&mut self, chosen: Option<Configuration>) {
        let is_news = |chosen: &Configuration| chosen.is_news_to(&self.context.configuration);
        let Some(configuration) = chosen.filter(is_news) else { return };
        let known = self.sweeps.peers().filter(|peer| self.is_between_members(*peer));
        let known: Vec<PeerCore> = known.collect();
        self.context.configuration = configuration;
        self.context.counters.configurations_adopted += 1;
        self.forget_what_was_said();
        self.context.events.push_back(Event::Configuration(configuration));
        self.membership.adopted(&self.context);
        self.begin_settling();
        let peers: Vec<PeerCore> = self.sweeps.peers().collect();
        for peer in peers {
            self.context.send_to_core(peer, PeerMessage::Heartbeat);
            if let Some(core_count) = self.sweeps.core_count(peer.acceptor)
                && !known.contains(&peer)
            {
                self.meet_with(peer, core_count);
            }
        }
        self.plan_to_tell();
        self.continue_rejoining();
        self.follow_a_voter();
    }

    /// Nothing that was said in an earlier version counts in a later one, and nothing that was to
    /// be said in it leaves any more.
    fn forget_what_was_said(&mut self) {
        if planted!("earlier-version-counted") {
            return;
        }
        for entity in self.entities.iter_mut() {
            entity.forget_all_peers(&self.context);
        }
        self.context.messages.clear();
        self.context.gate.retain(|gated| matches!(gated, Gated::OwnVote(..)));
        // What a follower is told is chosen, in whatever version; and it is not told again.
        let is_follower = self.context.config.is_follower();
        let mut dropped = 0;
        for loading in self.loading.values_mut() {
            let before = loading.parked.len();
            loading.parked.retain(|parked| match parked {
                Parked::Message(..) | Parked::CatchUp(..) => is_follower,
                Parked::Request(..) | Parked::Behind(..) | Parked::OtherChain(..) => true,
            });
            dropped += before - loading.parked.len();
        }
        self.parked -= dropped;
        self.unlike.clear();
        self.forget_all_rejoin_sweeps();
    }

    /// Plans to tell the version to those who speak in another.
    fn plan_to_tell(&mut self) {
        let every = self.context.config.sweep_every_us;
        let at = self.context.now.after_us(every);
        self.versions.tell_at.get_or_insert(at);
    }

    pub(super) fn next_membership_due(&self) -> Option<Time> {
        self.membership.next_due().into_iter().chain(self.versions.tell_at).min()
    }

    /// What membership waits for.
    pub(super) fn continue_membership(&mut self) {
        if !self.context.config.changes_membership {
            return;
        }
        if self.membership.next_due().is_some_and(|due| due <= self.context.now) {
            let chosen = self.membership.handle_tick(&mut self.context);
            self.adopt_chosen(chosen);
        }
        if self.versions.tell_at.is_some_and(|at| at <= self.context.now) {
            self.versions.tell_at = None;
            let version = self.context.configuration.version;
            let said = &self.versions.said;
            let others = self.sweeps.peers().filter(|peer| said.get(peer) != Some(&version));
            let others: Vec<PeerCore> = others.collect();
            for peer in &others {
                self.context.send_to_core(*peer, PeerMessage::Heartbeat);
            }
            if !others.is_empty() {
                self.plan_to_tell();
            }
        }
    }
}
