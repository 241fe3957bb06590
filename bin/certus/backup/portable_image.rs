//! An entity's image for another cluster.
//!
//! Boot epochs begin anew there, so whatever names something by node and boot epoch would come to
//! name something else:
//!
//! - The name of the value chosen last says who proposed it in which boot, and gives that node
//!   leave to propose the next entry without asking the others.
//! - The request ids that nodes gave to commands they forwarded would be given again, and the
//!   commands they are given to would be taken for applied.
//!
//! Both are left out. Entry, chain, keys, versions and the ids of clients stay as they are.

use engine::entity_state;
use engine::state_machine::strings::Strings;
use plog::log_record::LogRecord;

/// See the module page. With it, how many keys the entity has. An image that is portable stays as
/// it is.
///
/// # Errors
///
/// What is wrong with the record, in words.
pub fn portable_image(record: &LogRecord) -> Result<(LogRecord, u32), String> {
    let entity = record.entity();
    let LogRecord::Image { applied, chain, state, .. } = record else {
        return Err(format!("entity {:016x}: a record that is no image", entity.0));
    };
    let (state, keys) = entity_state::for_another_cluster::<Strings>(state, *applied)
        .map_err(|error| format!("entity {:016x}: {error}", entity.0))?;
    let (applied, chain, state) = (*applied, *chain, state.into());
    Ok((LogRecord::Image { entity, applied, chain, last_value_id: None, state }, keys))
}

#[cfg(test)]
mod tests {
    use engine::entity_state;
    use engine::request_ids::RequestIds;
    use engine::state_machine::strings::Strings;
    use plog::entry_record::EntryRecord;
    use plog::log_record::{LogRecord, LoggedValue};
    use plog::vocabulary::{AcceptorId, BootEpoch, EntityId, Entry, ValueId};

    use super::portable_image;

    #[test]
    fn what_is_named_by_boot_epochs_is_left_out_and_all_else_stays() {
        let mut ids = RequestIds::default();
        assert!(ids.remember(b"\xff\x00\x01", b":1", 9) && ids.remember(b"pay-17", b":2", 9));
        let id = ValueId { originator: AcceptorId(1), epoch: BootEpoch(1), counter: 3 };
        let image = |ids: &RequestIds, last_value_id| LogRecord::Image {
            entity: EntityId(5),
            applied: Entry::ZERO,
            chain: 77,
            last_value_id,
            state: entity_state::encode(ids, &Strings::default()).into(),
        };
        let (portable, keys) = portable_image(&image(&ids, Some(id))).unwrap();
        let mut kept = RequestIds::default();
        assert!(kept.remember(b"pay-17", b":2", 9));
        assert_eq!((&portable, keys), (&image(&kept, None), 0));
        assert_eq!(portable_image(&portable).unwrap().0, portable);
    }

    #[test]
    fn what_is_no_image_is_refused_with_its_entity() {
        let state = b"noise".as_slice().into();
        let (entity, applied) = (EntityId(0xE1), Entry(1));
        let noise = LogRecord::Image { entity, applied, chain: 0, last_value_id: None, state };
        let (record, value) = (EntryRecord::default(), LoggedValue::None);
        let vote = LogRecord::Entry { entity, entry: applied, record, value };
        for record in [noise, vote] {
            assert!(portable_image(&record).unwrap_err().contains("00000000000000e1"));
        }
    }
}
