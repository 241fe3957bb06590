//! Memory and queues: everything that waits in a shard stays within its limit.

use engine::config::ShardConfig;
use engine::status::Glance;

use crate::checkers::{Boot, Violation};

/// Timers that may be armed for each entity in memory: what is superseded stays until it is due.
const TIMERS_PER_ENTITY: u64 = 64;

/// Messages and votes that may wait for the disk, for each entity in memory and command.
const GATED_PER_ENTITY: u64 = 32;

/// The largest of each queue that was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Commands held by a shard.
    pub commands_held: u64,
    /// Messages waiting for a disk.
    pub gated: u64,
    /// Messages and commands waiting for an entity to be read.
    pub parked: u64,
    /// Entities in a shard's memory.
    pub entities: u64,
    /// Timers armed.
    pub timers: u64,
}

impl Bounds {
    /// What is accounted must be what is there.
    pub(super) fn memory(
        &self,
        boot: Boot,
        (accounted, counted): (usize, usize),
    ) -> Result<(), Violation> {
        if accounted == counted {
            return Ok(());
        }
        let what = format!("{boot:?}: {accounted} bytes of memory accounted, {counted} counted");
        Err(Violation::new("bounded", what))
    }

    pub(super) fn shard(
        &mut self,
        boot: Boot,
        glance: &Glance,
        config: &ShardConfig,
    ) -> Result<(), Violation> {
        let as_u64 = |limit: usize| u64::try_from(limit).unwrap_or(u64::MAX);
        let entities_max = as_u64(config.entities_in_memory_max).saturating_mul(2) + 1;
        let commands_max = as_u64(config.waiting_commands_max);
        let in_use = glance.entities_in_memory + glance.loading + glance.commands_held + 1;
        for (what, value, limit, largest) in [
            ("commands held", glance.commands_held, commands_max, &mut self.commands_held),
            ("gated", glance.gated, in_use * GATED_PER_ENTITY, &mut self.gated),
            (
                "parked",
                glance.parked,
                as_u64(config.parked_messages_max) + commands_max,
                &mut self.parked,
            ),
            // Those that catch up come on top of those in use.
            ("entities", glance.entities_in_memory, entities_max + 64, &mut self.entities),
            ("timers", glance.timers, in_use * TIMERS_PER_ENTITY, &mut self.timers),
        ] {
            *largest = value.max(*largest);
            if value > limit {
                let what = format!("{boot:?}: {value} {what}, at most {limit}");
                return Err(Violation::new("bounded", what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use engine::config::ShardConfig;
    use engine::status::Glance;
    use plog::vocabulary::{AcceptorId, BootEpoch};

    use super::Bounds;
    use crate::checkers::Boot;

    #[test]
    fn a_queue_beyond_its_limit_is_seen_and_the_largest_is_remembered() {
        let mut bounds = Bounds::default();
        let boot = Boot { node: 0, core: 0, start: 1 };
        let mut config = ShardConfig::new(AcceptorId(0), 3, BootEpoch(1));
        config.waiting_commands_max = 10;
        let held = |commands_held| Glance { commands_held, ..Glance::default() };
        bounds.shard(boot, &held(10), &config).unwrap();
        bounds.shard(boot, &held(3), &config).unwrap();
        assert_eq!(bounds.commands_held, 10);
        assert!(bounds.shard(boot, &held(11), &config).is_err());
        bounds.memory(boot, (10, 10)).unwrap();
        assert!(bounds.memory(boot, (11, 10)).is_err());
        let gated = Glance { gated: 33, ..Glance::default() };
        assert!(bounds.shard(boot, &gated, &config).is_err());
    }
}
