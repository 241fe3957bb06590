//! The mixes: which faults come together, and what the clients do meanwhile.
//!
//! A mix is moderate when nearly all commands get through: one in which nothing finishes shows
//! nothing. The others are rougher than any machine room.

use engine::config::ShardConfig;
use engine::shard::{CatchUpRates, Rate};

use crate::faults::Faults;
use crate::schedule::Rates;
use crate::workload::Workload;
use crate::world::Transport;

/// See the module page.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Whether at least 90 % of the commands have to complete.
    pub moderate: bool,
    /// What goes wrong by itself.
    pub faults: Faults,
    /// What happens to nodes and links.
    pub rates: Rates,
    /// How frames travel.
    pub transport: Transport,
    /// The shards' configuration.
    pub configure: fn(&mut ShardConfig),
    /// What the clients do.
    pub workload: Workload,
    /// Bytes of a segment.
    pub segment_size: u32,
    /// Bytes at which a frame is closed; `None`: a quarter of a segment.
    pub frame_size_max: Option<u32>,
    /// Segments that a log may have.
    pub segments_max: usize,
    /// Whether new segments hold old frames.
    pub recycles: bool,
    /// How fast or slow a clock may be, in parts of a million.
    pub drift_ppm_max: u32,
    /// Whether a mirror follows the log of each core.
    pub mirrors: bool,
    /// Followers in each run; without, there is one in every thirteenth.
    pub followers: u8,
    /// Tails in each run, each of another node.
    pub tails: u8,
}

/// Times of a simulated cluster: short, so that runs are.
fn short_times(config: &mut ShardConfig) {
    config.sweep_every_us = 500_000;
    config.follow_every_us = 20_000;
    config.retry_us = 20_000;
    config.request_timeout_us = 1_000_000;
    config.lazy_flush_us = 20_000;
    config.checkpoint_log_bytes = 96 << 10;
    config.checkpoint_log_percent = 50;
    config.checkpoint_bytes_per_second = 10 << 20;
    config.checkpoint_part_bytes = 32 << 10;
    config.log_hold_bytes = 100 << 10;
    config.clean_bytes_per_second = 1 << 40;
    config.transfer_entities_min = 3;
    config.transfer_page_bytes = 400;
}

fn little_memory(config: &mut ShardConfig) {
    short_times(config);
    config.entities_in_memory_max = 2;
    config.image_every_entries = 4;
    config.hold_entries = 2;
    config.max_embedded_value = 16;
    config.catch_up_rates = CatchUpRates {
        all: Rate { entries: 30, bytes: 100 << 10 },
        peer: Rate { entries: 20, bytes: 0 },
    };
}

/// Pages of a few frames, of a log that is kept for a while.
fn little_pages(config: &mut ShardConfig) {
    always_cleaning(config);
    config.log_hold_bytes = 512 << 10;
    config.tail_read_bytes = 16 << 10;
}

fn no_lease(config: &mut ShardConfig) {
    short_times(config);
    config.duel_lease_us = 0;
    config.back_off_us = 300;
}

fn small_batches(config: &mut ShardConfig) {
    short_times(config);
    config.batch_commands_max = 2;
    config.image_every_entries = 6;
    config.hold_entries = 3;
    config.request_ids_max = 64;
}

fn short_locks(config: &mut ShardConfig) {
    always_cleaning(config);
    config.checkpoint_lock_us = 60_000;
    config.mirror_log_bytes = 200 << 10;
}

fn always_cleaning(config: &mut ShardConfig) {
    little_memory(config);
    config.checkpoint_log_bytes = 4 << 10;
    config.checkpoint_log_percent = 0;
    config.checkpoint_bytes_per_second = 100 << 20;
    config.checkpoint_part_bytes = 16 << 10;
    config.log_hold_bytes = 0;
}

/// Of large entities only one or two are kept in memory, or none.
fn values_on_disk(config: &mut ShardConfig) {
    short_times(config);
    config.max_embedded_value = 16;
    config.values_on_disk_above = 320;
    config.values_cache_bytes = 2 << 10;
    config.memory_bytes_max = 128 << 10;
}

fn little_of_everything(config: &mut ShardConfig) {
    little_memory(config);
    config.values_on_disk_above = 320;
}

impl Mix {
    /// Whether the membership changes.
    #[must_use]
    pub fn changes_membership(&self) -> bool {
        self.rates.member_changes > 0
    }
}

const PLAIN: Mix = Mix {
    name: "calm",
    about: "no faults at all",
    moderate: true,
    faults: Faults::NONE,
    rates: Rates::NONE,
    transport: Transport::Streams,
    configure: short_times,
    workload: Workload::ALL_KINDS,
    segment_size: 128 << 10,
    frame_size_max: None,
    segments_max: usize::MAX,
    recycles: false,
    drift_ppm_max: 0,
    mirrors: false,
    followers: 0,
    tails: 0,
};

const SLOW_DISKS: Faults = Faults { write_max_us: 3_000, read_max_us: 1_000, ..Faults::NONE };

/// All of them, in the order in which they are run.
pub const MIXES: &[Mix] = &[
    PLAIN,
    Mix {
        name: "datagrams",
        about: "frames lost, repeated, late and out of order",
        faults: Faults::ROUGH,
        transport: Transport::Datagrams,
        ..PLAIN
    },
    Mix {
        name: "streams",
        about: "connections that break in mid-frame, corrupted frames, one-way cuts, partitions",
        faults: Faults { loss: 5_000, corruption: 5_000, delay_max_us: 1_000, ..SLOW_DISKS },
        rates: Rates { cuts: 4, isolations: 2, link_breaks: 10, ..Rates::NONE },
        ..PLAIN
    },
    Mix {
        name: "crashes",
        about: "nodes die at any point, with torn writes, alone and all together",
        faults: Faults { delay_max_us: 500, ..SLOW_DISKS },
        rates: Rates { crashes: 8, crashes_between_outputs: 8, all_crash: 1, ..Rates::NONE },
        ..PLAIN
    },
    Mix {
        name: "rough",
        about: "crashes on a network that loses, repeats and reorders",
        moderate: false,
        faults: Faults::ROUGH,
        rates: Rates {
            crashes: 10,
            crashes_between_outputs: 10,
            all_crash: 2,
            cuts: 8,
            isolations: 4,
            ..Rates::NONE
        },
        transport: Transport::Datagrams,
        ..PLAIN
    },
    Mix {
        name: "eviction",
        about: "memory for two entities, so that each is read back at every touch",
        faults: Faults { loss: 20_000, duplication: 20_000, delay_max_us: 1_000, ..SLOW_DISKS },
        rates: Rates { crashes: 4, ..Rates::NONE },
        transport: Transport::Datagrams,
        configure: little_memory,
        workload: Workload { entities: 12, ..Workload::ALL_KINDS },
        ..PLAIN
    },
    Mix {
        name: "values",
        about: "little memory for large entities, and not much for all",
        faults: Faults { loss: 20_000, duplication: 20_000, delay_max_us: 1_000, ..SLOW_DISKS },
        rates: Rates { crashes: 6, crashes_between_outputs: 2, all_crash: 1, ..Rates::NONE },
        transport: Transport::Datagrams,
        configure: values_on_disk,
        workload: Workload { entities: 12, large_values: 200, ..Workload::ALL_KINDS },
        ..PLAIN
    },
    Mix {
        name: "duels",
        about: "one hot entity, every replica proposes, and nobody gives way",
        faults: Faults { delay_max_us: 800, loss: 10_000, ..SLOW_DISKS },
        rates: Rates { crashes: 3, cuts: 3, ..Rates::NONE },
        transport: Transport::Datagrams,
        configure: no_lease,
        workload: Workload { entities: 2, hot: 800, ..Workload::ALL_KINDS },
        ..PLAIN
    },
    Mix {
        name: "recycled",
        about: "small segments in files that hold old frames, large values, crashes",
        faults: SLOW_DISKS,
        rates: Rates { crashes: 8, crashes_between_outputs: 4, all_crash: 2, ..Rates::NONE },
        configure: small_batches,
        workload: Workload { large_values: 300, ..Workload::ALL_KINDS },
        segment_size: 64 << 10,
        recycles: true,
        ..PLAIN
    },
    Mix {
        name: "cleaning",
        about: "a checkpoint always under way, no log kept, little memory, crashes",
        faults: Faults { loss: 20_000, duplication: 20_000, delay_max_us: 1_000, ..SLOW_DISKS },
        rates: Rates { crashes: 10, crashes_between_outputs: 4, all_crash: 2, ..Rates::NONE },
        transport: Transport::Datagrams,
        configure: always_cleaning,
        workload: Workload { entities: 12, large_values: 100, ..Workload::ALL_KINDS },
        segment_size: 64 << 10,
        segments_max: 6,
        recycles: true,
        ..PLAIN
    },
    Mix {
        name: "clocks",
        about: "nodes that freeze, clocks that drift and jump",
        faults: Faults { delay_max_us: 500, ..SLOW_DISKS },
        rates: Rates { freezes: 8, clock_jumps: 8, crashes: 2, ..Rates::NONE },
        drift_ppm_max: 100_000,
        ..PLAIN
    },
    Mix {
        name: "disks",
        about: "writes that fail, of checkpoints, too, and disks that fill up",
        faults: Faults { write_error: 1_500, file_error: 10_000, ..SLOW_DISKS },
        rates: Rates { full_disks: 4, crashes: 2, ..Rates::NONE },
        workload: Workload { large_values: 100, ..Workload::ALL_KINDS },
        segment_size: 64 << 10,
        ..PLAIN
    },
    Mix {
        name: "damage",
        about: "bits rot, blocks go astray and reads fail, on a minority of the nodes",
        faults: Faults { read_error: 10_000, ..SLOW_DISKS },
        rates: Rates { rot: 4, misdirections: 4, crashes: 8, ..Rates::NONE },
        configure: little_memory,
        workload: Workload { entities: 8, ..Workload::ALL_KINDS },
        ..PLAIN
    },
    Mix {
        name: "wipes",
        about: "nodes lose their disks, one after the other, and crash while they rejoin",
        faults: SLOW_DISKS,
        rates: Rates { wipes: 8, crashes: 8, crashes_between_outputs: 3, ..Rates::NONE },
        ..PLAIN
    },
    Mix {
        name: "replaced",
        about: "nodes lose their disks on a rough network, cut off from some of the others",
        moderate: false,
        faults: Faults { loss: 20_000, straggler: 20_000, delay_max_us: 2_000, ..SLOW_DISKS },
        rates: Rates { wipes: 12, crashes: 6, cuts: 8, isolations: 10, ..Rates::NONE },
        transport: Transport::Datagrams,
        configure: no_lease,
        workload: Workload { entities: 3, ..Workload::ALL_KINDS },
        ..PLAIN
    },
    Mix {
        name: "everything",
        about: "some of all of it",
        moderate: false,
        faults: Faults {
            loss: 20_000,
            duplication: 20_000,
            corruption: 2_000,
            delay_max_us: 2_000,
            straggler: 10_000,
            write_max_us: 3_000,
            read_max_us: 1_000,
            write_error: 300,
            file_error: 300,
            read_error: 1_000,
        },
        rates: Rates {
            crashes: 5,
            crashes_between_outputs: 5,
            all_crash: 1,
            cuts: 4,
            isolations: 2,
            link_breaks: 4,
            freezes: 3,
            clock_jumps: 3,
            full_disks: 1,
            rot: 1,
            misdirections: 1,
            wipes: 3,
            member_changes: 0,
            follower_crashes: 3,
            follower_cuts: 3,
        },
        transport: Transport::Datagrams,
        configure: little_of_everything,
        workload: Workload { entities: 8, large_values: 50, ..Workload::ALL_KINDS },
        segment_size: 64 << 10,
        frame_size_max: None,
        segments_max: usize::MAX,
        recycles: true,
        drift_ppm_max: 50_000,
        mirrors: false,
        followers: 0,
        tails: 0,
    },
    Mix {
        name: "mirrors",
        about: "a mirror follows each log, lags, pauses and locks checkpoints; no log kept, crashes",
        faults: Faults { loss: 10_000, delay_max_us: 1_000, ..SLOW_DISKS },
        rates: Rates { crashes: 6, crashes_between_outputs: 2, all_crash: 1, ..Rates::NONE },
        transport: Transport::Datagrams,
        configure: short_locks,
        workload: Workload { entities: 12, large_values: 100, ..Workload::ALL_KINDS },
        segment_size: 64 << 10,
        segments_max: 10,
        recycles: true,
        mirrors: true,
        ..PLAIN
    },
    Mix {
        name: "members",
        about: "nodes join, leave and replace each other, on a rough network, with crashes",
        moderate: false,
        faults: Faults { loss: 20_000, straggler: 10_000, delay_max_us: 1_000, ..SLOW_DISKS },
        rates: Rates {
            member_changes: 60,
            crashes: 8,
            crashes_between_outputs: 6,
            all_crash: 1,
            cuts: 8,
            isolations: 6,
            ..Rates::NONE
        },
        transport: Transport::Datagrams,
        configure: short_times,
        ..PLAIN
    },
    Mix {
        name: "replacing",
        about: "the same on connections with little memory, and nodes lose their disks, too",
        moderate: false,
        faults: Faults { loss: 3_000, corruption: 2_000, delay_max_us: 1_000, ..SLOW_DISKS },
        rates: Rates {
            member_changes: 50,
            wipes: 12,
            crashes: 6,
            crashes_between_outputs: 3,
            cuts: 4,
            isolations: 3,
            link_breaks: 6,
            freezes: 3,
            ..Rates::NONE
        },
        configure: little_memory,
        workload: Workload { entities: 8, ..Workload::ALL_KINDS },
        ..PLAIN
    },
    Mix {
        name: "followers",
        about: "two followers; they die, are cut off, lose their disks, and so do replicas; little memory",
        faults: Faults { loss: 3_000, delay_max_us: 1_000, ..SLOW_DISKS },
        rates: Rates {
            crashes: 6,
            crashes_between_outputs: 2,
            all_crash: 1,
            isolations: 2,
            link_breaks: 4,
            wipes: 2,
            follower_crashes: 8,
            follower_cuts: 10,
            ..Rates::NONE
        },
        configure: little_memory,
        workload: Workload { entities: 12, large_values: 50, ..Workload::ALL_KINDS },
        followers: 2,
        ..PLAIN
    },
    Mix {
        name: "followed",
        about: "a follower on a network that loses, repeats and reorders",
        moderate: false,
        faults: Faults::ROUGH,
        rates: Rates { crashes: 6, cuts: 4, follower_crashes: 4, follower_cuts: 4, ..Rates::NONE },
        transport: Transport::Datagrams,
        followers: 1,
        ..PLAIN
    },
    Mix {
        name: "tailed",
        about: "three tails that die and go on; a follower; little log kept, crashes, lost disks",
        faults: Faults { loss: 5_000, delay_max_us: 1_000, ..SLOW_DISKS },
        rates: Rates {
            crashes: 8,
            crashes_between_outputs: 3,
            all_crash: 1,
            isolations: 2,
            wipes: 1,
            follower_crashes: 4,
            follower_cuts: 6,
            ..Rates::NONE
        },
        configure: little_pages,
        workload: Workload { entities: 10, large_values: 60, ..Workload::ALL_KINDS },
        segment_size: 64 << 10,
        frame_size_max: Some(4 << 10),
        recycles: true,
        followers: 1,
        tails: 3,
        ..PLAIN
    },
];

/// The mix of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Mix> {
    MIXES.iter().find(|mix| mix.name == name)
}
