//! What one acceptor holds of one entry.

use rkyv::{Archive, Deserialize, Serialize};

use crate::vocabulary::{AcceptorId, Ballot, ValueId};

/// The acceptor's record of one entry, without the value's bytes ("`EntryRecord`" in Certain).
///
/// Valid when: prepared ≤ promised; accepted ≤ promised unless chosen; accepted present exactly
/// when `value_id` is; chosen only with a `value_id`. A record only grows: see
/// [`EntryRecord::is_newer_than`].
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EntryRecord {
    /// Highest ballot this acceptor prepared itself.
    pub prepared: Ballot,
    /// Highest ballot this acceptor promised. Losing it would let it accept below a promise.
    pub promised: Ballot,
    /// Ballot at which it accepted `value_id`. Losing it would let a chosen value be replaced.
    pub accepted: Ballot,
    /// The accepted value's name.
    pub value_id: Option<ValueId>,
    /// Whether this acceptor knows the value to be chosen.
    pub chosen: bool,
}

/// Which rule of [`EntryRecord`] a record from the wire or disk breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRecord {
    /// A proposer promises its own ballot when it prepares it.
    #[error("prepared ballot is above the promised one")]
    PreparedAbovePromised,
    /// Only a chosen record may have accepted above its promise.
    #[error("accepted ballot is above the promised one, and the record is not chosen")]
    AcceptedAbovePromised,
    /// An accepted ballot carries a value, and a value an accepted ballot.
    #[error("an accepted ballot and a value id must come together")]
    AcceptedWithoutValue,
    /// A chosen record names what was chosen.
    #[error("a chosen record must name its value")]
    ChosenWithoutValue,
    /// The acceptor of a ballot or value id is outside the replica set.
    #[error("acceptor {acceptor} is not in a replica set of {replicas}")]
    ForeignAcceptor {
        /// The acceptor named.
        acceptor: u8,
        /// Size of the replica set.
        replicas: u8,
    },
}

impl EntryRecord {
    /// Checks the record's own rules.
    ///
    /// # Errors
    ///
    /// Names the first rule that is broken.
    pub fn validate(&self) -> Result<(), InvalidRecord> {
        if self.prepared > self.promised {
            return Err(InvalidRecord::PreparedAbovePromised);
        }
        if self.accepted > self.promised && !self.chosen {
            return Err(InvalidRecord::AcceptedAbovePromised);
        }
        if self.chosen && self.value_id.is_none() {
            return Err(InvalidRecord::ChosenWithoutValue);
        }
        if self.accepted.is_none() != self.value_id.is_none() {
            return Err(InvalidRecord::AcceptedWithoutValue);
        }
        Ok(())
    }

    /// Checks the record's own rules, and that every acceptor it names is below `replicas`.
    ///
    /// # Errors
    ///
    /// Names the first rule that is broken.
    pub fn validate_for(&self, replicas: u8) -> Result<(), InvalidRecord> {
        self.validate()?;
        let named = [
            self.prepared.acceptor,
            self.promised.acceptor,
            self.accepted.acceptor,
            self.value_id.map_or(AcceptorId(0), |id| id.originator),
        ];
        for acceptor in named {
            if acceptor.0 >= replicas {
                return Err(InvalidRecord::ForeignAcceptor { acceptor: acceptor.0, replicas });
            }
        }
        Ok(())
    }

    /// Whether this record says more than `old` did ("`IsRecordNewer`" in Certain).
    #[must_use]
    pub fn is_newer_than(&self, old: &Self) -> bool {
        !old.chosen
            && (self.chosen
                || self.prepared > old.prepared
                || self.promised > old.promised
                || self.accepted > old.accepted)
    }

    /// Whether nothing was ever accepted here; a bare promise does not matter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.value_id.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::{EntryRecord, InvalidRecord};
    use crate::vocabulary::{AcceptorId, Ballot, BootEpoch, ValueId};

    fn ballot(round: u32) -> Ballot {
        Ballot { round, epoch: BootEpoch(1), acceptor: AcceptorId(0) }
    }

    fn value() -> Option<ValueId> {
        Some(ValueId { originator: AcceptorId(0), epoch: BootEpoch(1), counter: 1 })
    }

    #[test]
    fn each_rule_is_named_when_broken() {
        let good = EntryRecord {
            prepared: ballot(1),
            promised: ballot(2),
            accepted: ballot(1),
            value_id: value(),
            chosen: false,
        };
        assert_eq!(good.validate(), Ok(()));
        let cases = [
            (EntryRecord { prepared: ballot(3), ..good }, InvalidRecord::PreparedAbovePromised),
            (EntryRecord { accepted: ballot(3), ..good }, InvalidRecord::AcceptedAbovePromised),
            (EntryRecord { value_id: None, ..good }, InvalidRecord::AcceptedWithoutValue),
            (EntryRecord { accepted: Ballot::NONE, ..good }, InvalidRecord::AcceptedWithoutValue),
            (
                EntryRecord { chosen: true, value_id: None, accepted: Ballot::NONE, ..good },
                InvalidRecord::ChosenWithoutValue,
            ),
        ];
        for (record, rule) in cases {
            assert_eq!(record.validate(), Err(rule));
        }
        let foreign = EntryRecord {
            promised: Ballot { round: 9, epoch: BootEpoch(1), acceptor: AcceptorId(3) },
            ..good
        };
        assert_eq!(
            foreign.validate_for(3),
            Err(InvalidRecord::ForeignAcceptor { acceptor: 3, replicas: 3 })
        );
    }

    #[test]
    fn a_chosen_record_may_have_accepted_above_its_promise() {
        let record = EntryRecord {
            prepared: Ballot::NONE,
            promised: Ballot::NONE,
            accepted: ballot(4),
            value_id: value(),
            chosen: true,
        };
        assert_eq!(record.validate(), Ok(()));
    }
}
