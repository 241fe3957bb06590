//! What happens to nodes and links in a run, decided before it begins.
//!
//! Because the schedule is a list, a failing run can be tried with fewer of its items: see
//! [`crate::minimise`].

use crate::random::Random;

/// How often each kind of thing happens, in times per ten seconds of the world's time.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// A node dies, and comes back.
    pub crashes: u32,
    /// A node dies in the middle of what it sends, and comes back.
    pub crashes_between_outputs: u32,
    /// All nodes die together, and come back.
    pub all_crash: u32,
    /// One direction between two nodes lets nothing through for a while.
    pub cuts: u32,
    /// A node is cut off from all others for a while.
    pub isolations: u32,
    /// A connection breaks.
    pub link_breaks: u32,
    /// A node stands still for a while.
    pub freezes: u32,
    /// A clock jumps.
    pub clock_jumps: u32,
    /// A disk has no room for a while.
    pub full_disks: u32,
    /// A bit flips at rest.
    pub rot: u32,
    /// A block is written over another.
    pub misdirections: u32,
    /// A node dies and comes back with empty disks, unless too many others lost something.
    pub wipes: u32,
    /// An operator wants a node to join, to leave, or to replace another.
    pub member_changes: u32,
    /// A follower dies, and comes back; one time in four with empty disks.
    pub follower_crashes: u32,
    /// A follower and a replica hear nothing of each other for a while.
    pub follower_cuts: u32,
}

impl Rates {
    /// Nothing happens.
    pub const NONE: Self = Self {
        crashes: 0,
        crashes_between_outputs: 0,
        all_crash: 0,
        cuts: 0,
        isolations: 0,
        link_breaks: 0,
        freezes: 0,
        clock_jumps: 0,
        full_disks: 0,
        rot: 0,
        misdirections: 0,
        wipes: 0,
        member_changes: 0,
        follower_crashes: 0,
        follower_cuts: 0,
    };

    /// Every rate with what it is a rate of.
    fn each(&self) -> [(u32, Kind); 15] {
        [
            (self.crashes, Kind::Crash),
            (self.crashes_between_outputs, Kind::CrashBetweenOutputs),
            (self.all_crash, Kind::AllCrash),
            (self.cuts, Kind::Cut),
            (self.isolations, Kind::Isolate),
            (self.link_breaks, Kind::BreakLink),
            (self.freezes, Kind::Freeze),
            (self.clock_jumps, Kind::JumpClock),
            (self.full_disks, Kind::FillDisk),
            (self.rot, Kind::Rot),
            (self.misdirections, Kind::Misdirect),
            (self.wipes, Kind::Wipe),
            (self.member_changes, Kind::ChangeMembers),
            (self.follower_crashes, Kind::FollowerCrash),
            (self.follower_cuts, Kind::FollowerCut),
        ]
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "named as the rates are")]
pub enum Kind {
    Crash,
    CrashBetweenOutputs,
    AllCrash,
    Cut,
    Isolate,
    BreakLink,
    Freeze,
    JumpClock,
    FillDisk,
    Rot,
    Misdirect,
    Wipe,
    ChangeMembers,
    FollowerCrash,
    FollowerCut,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Item {
    /// When, in microseconds of the world's time.
    pub at: u64,
    /// What.
    pub kind: Kind,
    /// To which node.
    pub node: u8,
    /// The other node, of a cut or a broken link.
    pub other: u8,
    /// How long it lasts, in microseconds: of a crash the time until the start.
    pub duration_us: u64,
}

/// How much faster things happen than [`Rates`] says: a run lasts less than a second.
const SPEED: u64 = 10;

/// The schedule of a run of `duration_us` from `begin_us`. Damage hits nodes of `victims` only.
#[must_use]
pub fn generate(
    seed: u64,
    rates: &Rates,
    nodes: u8,
    victims: &[u8],
    begin_us: u64,
    duration_us: u64,
) -> Vec<Item> {
    let mut items = Vec::new();
    for (rate, kind) in rates.each() {
        if rate == 0 {
            continue;
        }
        // A stream for each kind: the other kinds stay as they are when one is left out.
        let mut random = Random::stream(seed, &format!("schedule {kind:?}"));
        let gap = 10_000_000 / SPEED / u64::from(rate);
        let mut at = begin_us + random.below(2 * gap);
        while at < begin_us + duration_us {
            let harms = matches!(kind, Kind::Rot | Kind::Misdirect);
            let node = if harms {
                victims[random.index(victims.len())]
            } else {
                u8::try_from(random.below(u64::from(nodes))).expect("below the nodes")
            };
            let step = 1 + u8::try_from(random.below(u64::from(nodes) - 1)).expect("few nodes");
            let longest = match kind {
                Kind::Freeze => 60_000,
                Kind::JumpClock => 2_000_000,
                Kind::AllCrash => 20_000,
                _ => 150_000,
            };
            let duration_us = 1 + random.below(longest);
            items.push(Item { at, kind, node, other: (node + step) % nodes, duration_us });
            at += 1 + random.below(2 * gap);
        }
    }
    items.sort_by_key(|item| (item.at, item.kind, item.node));
    items
}

#[cfg(test)]
mod tests {
    use super::{Kind, Rates, generate};

    #[test]
    fn leaving_one_kind_out_leaves_the_others_as_they_are() {
        let rates = Rates { crashes: 30, cuts: 30, rot: 10, ..Rates::NONE };
        let with = generate(7, &rates, 3, &[2], 0, 5_000_000);
        let without = generate(7, &Rates { cuts: 0, ..rates }, 3, &[2], 0, 5_000_000);
        assert!(with.iter().any(|item| item.kind == Kind::Cut));
        let kept: Vec<_> = with.iter().filter(|item| item.kind != Kind::Cut).copied().collect();
        assert_eq!(kept, without);
        assert!(with.iter().all(|item| item.kind != Kind::Rot || item.node == 2));
        assert!(with.iter().all(|item| item.other != item.node));
    }
}
