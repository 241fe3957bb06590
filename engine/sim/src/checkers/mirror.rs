//! *mirror*: a checkpoint and the log behind it say all that a replica applied, and nothing else. A
//! replayer that is fed with them comes to the same entry, chain and encoded state as the replica,
//! of every entity; what was only accepted is no part of it.

use engine::shard::StringShard;
use engine::state_machine::mirror::Mirror;
use plog::index::EntityIndex;
use plog::vocabulary::{EntityId, Entry};

use crate::checkers::Violation;
use crate::checkers::agreement::Agreement;
use crate::mirroring::DiskReplayer;

/// Whether all that a mirror executed is the chosen history. How many entities there were.
pub(super) fn is_chosen(
    node: u8,
    replayer: &DiskReplayer,
    agreement: &Agreement,
) -> Result<u64, Violation> {
    let mut count = 0;
    for (entity, standing) in replayer.mirror().standings() {
        agreement.chain_is(node, entity, standing.entry, standing.chain)?;
        count += 1;
    }
    Ok(count)
}

/// Whether the mirror of a whole disk stands where the shard of that disk does, entity by entity.
pub(super) fn stands_with(
    node: u8,
    shard: &StringShard,
    replayer: &DiskReplayer,
) -> Result<u64, Violation> {
    let index = shard.log().index();
    let mut count = 0;
    for held in index.entities_after(None, usize::MAX) {
        let entity = held.entity;
        if replayer.leaves_out(entity) || shard.abstains(entity) {
            continue;
        }
        let wanted = index.get(entity).map_or(Entry::ZERO, EntityIndex::contiguous_chosen);
        let entry = replayer.mirror().stands_at(entity).entry;
        if entry != wanted {
            let what = format!(
                "the files of node {node} bring {entity:?} to {entry:?}, the node has {wanted:?}"
            );
            return Err(Violation::new("mirror", what));
        }
        count += 1 + same_state(node, shard, replayer, entity)?;
    }
    Ok(count)
}

/// Whether the mirror holds the same of an entity as the shard, if that has it in memory: 1 then.
pub(super) fn same_state(
    node: u8,
    shard: &StringShard,
    replayer: &DiskReplayer,
    entity: EntityId,
) -> Result<u64, Violation> {
    let Some((entry, chain)) = shard.applied(entity).filter(|(entry, _)| *entry > Entry::ZERO)
    else {
        return Ok(0);
    };
    let standing = replayer.mirror().stands_at(entity);
    let is_same = replayer.mirror().encoded(entity).as_deref() == shard.encoded(entity).as_deref();
    if (standing.entry, standing.chain) == (entry, chain) && is_same {
        return Ok(1);
    }
    let what = format!(
        "the files of node {node} bring {entity:?} to {standing:?}, the node is at {entry:?} with \
         chain {chain:#010x}; equal states: {is_same}"
    );
    Err(Violation::new("mirror", what))
}

#[cfg(test)]
mod tests {
    use engine::config::ShardConfig;
    use engine::shard::StringShard;
    use plog::entry_record::EntryRecord;
    use plog::identity::LogIdentity;
    use plog::location::Location;
    use plog::log_config::LogConfig;
    use plog::log_record::{LogRecord, LoggedValue};
    use plog::recovery::ScannedRecord;
    use plog::segment::SegmentId;
    use plog::vocabulary::{AcceptorId, BootEpoch, EntityId, Lsn};
    use plog::vocabulary::{Ballot, Entry, ValueId};

    use crate::mirroring::{DiskReplayer, new_replayer};

    const ENTITY: EntityId = EntityId(5);

    fn records() -> Vec<ScannedRecord> {
        let value_id = ValueId { originator: AcceptorId(0), epoch: BootEpoch(1), counter: 1 };
        let ballot = Ballot { round: 1, epoch: BootEpoch(1), acceptor: AcceptorId(0) };
        let record = EntryRecord {
            promised: ballot,
            accepted: ballot,
            value_id: Some(value_id),
            ..EntryRecord::default()
        };
        let (entity, entry) = (ENTITY, Entry(1));
        let value = LoggedValue::Inline(Vec::new().into());
        let chain = engine::chain::extend(0, &[]);
        let records = [
            LogRecord::Entry { entity, entry, record, value },
            LogRecord::Chosen { entity, entry, ballot, value_id, chain },
        ];
        let scanned = |(lsn, record)| ScannedRecord {
            lsn: Lsn(lsn),
            location: Location::new(SegmentId(1), 4096, 64, 0),
            record,
            after_damage: false,
        };
        (1..).zip(records).map(scanned).collect()
    }

    fn replayed(records: &[ScannedRecord]) -> DiskReplayer {
        let mut replayer = new_replayer(8);
        replayer.begin(None);
        replayer.finish_loading().unwrap();
        replayer.begin_segment(SegmentId(1)).unwrap();
        for record in records {
            replayer.handle_record(record).unwrap();
        }
        replayer
    }

    #[test]
    fn a_mirror_that_is_behind_or_ahead_of_its_node_is_seen() {
        let config = ShardConfig::new(AcceptorId(0), 3, BootEpoch(1));
        let identity = LogIdentity { cluster: 7, node: 0, incarnation: 1, core: 0, core_count: 1 };
        let mut shard = StringShard::new(config, LogConfig::for_identity(identity));
        for scanned in records() {
            shard.recover_record(scanned.lsn, scanned.location, &scanned.record);
        }
        shard.finish_recovery(None, None);
        assert_eq!(super::stands_with(0, &shard, &replayed(&records())).unwrap(), 2);
        let behind = replayed(&records()[..1]);
        assert!(super::stands_with(0, &shard, &behind).is_err());
        assert!(super::same_state(0, &shard, &behind, ENTITY).is_err());
        assert_eq!(super::same_state(0, &shard, &behind, EntityId(6)).unwrap(), 0);
    }

    #[test]
    fn a_mirror_that_executed_what_nobody_chose_is_seen() {
        let agreement = crate::checkers::agreement::Agreement::new(
            plog::configuration::Configuration::initial(3),
            &[1; 5],
        );
        assert!(super::is_chosen(0, &replayed(&records()), &agreement).is_err());
        assert_eq!(super::is_chosen(0, &replayed(&[]), &agreement).unwrap(), 0);
    }
}
