//! One open entry on this node: the own record, the peers' as last seen, and the candidate values.

use std::rc::Rc;

use plog::entry_record::EntryRecord;
use plog::log_record::{LogRecord, LoggedValue};
use plog::memory::{block_bytes, shared_bytes};
use plog::planted;
use plog::vocabulary::{AcceptorId, Ballot, EntityId, Entry, Lsn, ValueId};

use crate::context::{Context, REPLICAS_MAX};

/// See the module page.
///
/// Invariants: `durable` never says more than `local`; each value id named by `local` or a view
/// has its bytes in `values`.
#[derive(Debug, Default)]
pub(crate) struct EntrySlot {
    /// This node's record. Changes at once; is revealed only when durable.
    local: EntryRecord,
    /// This node's record as of some LSN that is durable.
    durable: EntryRecord,
    /// The newest log record of `local`.
    lsn: Lsn,
    /// `local` changed since that record.
    unlogged: bool,
    /// Each peer's record as last seen. The own position is unused.
    views: [EntryRecord; REPLICAS_MAX],
    /// Candidate values; a handful at most.
    values: Vec<(ValueId, Rc<[u8]>)>,
    /// The value whose bytes the log holds for this entry.
    logged_value: Option<ValueId>,
    /// Peers for which an answer waits until `lsn` is durable, one bit each.
    answers_waiting: u8,
    /// Peers that were sent `sent_value`'s bytes, one bit each.
    sent_to: u8,
    sent_value: Option<ValueId>,
}

impl EntrySlot {
    /// Makes the slot as good as new, but keeps its memory.
    pub(crate) fn clear(&mut self) {
        let mut values = std::mem::take(&mut self.values);
        values.clear();
        *self = Self { values, ..Self::default() };
    }

    /// Memory of the slot and its values, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let table = block_bytes(self.values.capacity() * size_of::<(ValueId, Rc<[u8]>)>());
        let values = self.values.iter().map(|(_, value)| shared_bytes(value.len()));
        block_bytes(size_of::<Self>()) + table + values.sum::<usize>()
    }

    pub(crate) fn local(&self) -> &EntryRecord {
        &self.local
    }

    pub(crate) fn lsn(&self) -> Lsn {
        self.lsn
    }

    pub(crate) fn view(&self, peer: AcceptorId) -> &EntryRecord {
        &self.views[peer.index()]
    }

    /// The own record as far as the disk holds it: what may be shown to peers, and counted.
    pub(crate) fn durable(&self, durable: Lsn) -> &EntryRecord {
        let is_durable = self.lsn <= durable && !self.unlogged;
        if is_durable || planted!("own-vote-early") { &self.local } else { &self.durable }
    }

    /// Whether no record of this entry, own or seen, carries a value.
    pub(crate) fn is_empty(&self) -> bool {
        self.local.is_empty() && self.views.iter().all(EntryRecord::is_empty)
    }

    pub(crate) fn value(&self, id: ValueId) -> Option<&Rc<[u8]>> {
        self.values.iter().find(|(known, _)| *known == id).map(|(_, bytes)| bytes)
    }

    pub(crate) fn add_value(&mut self, id: ValueId, bytes: Rc<[u8]>) {
        if self.value(id).is_none() {
            if self.values.len() > REPLICAS_MAX + 2 {
                self.drop_unnamed_values();
            }
            self.values.push((id, bytes));
        }
    }

    fn drop_unnamed_values(&mut self) {
        let own = [self.local.value_id, self.durable.value_id, self.sent_value];
        let views = self.views;
        self.values.retain(|(id, _)| {
            own.contains(&Some(*id)) || views.iter().any(|view| view.value_id == Some(*id))
        });
    }

    /// Highest ballot seen anywhere in this entry.
    pub(crate) fn highest_ballot(&self) -> Ballot {
        let all = self.views.iter().chain([&self.local]);
        all.map(|record| record.promised.max(record.accepted)).max().unwrap_or_default()
    }

    /// The value accepted at the highest ballot among all records known, own included.
    pub(crate) fn highest_accepted(&self) -> Option<(Ballot, ValueId)> {
        let all = self.views.iter().chain([&self.local]);
        let accepted = all.filter_map(|record| record.value_id.map(|id| (record.accepted, id)));
        if planted!("rescue-of-the-lowest") { accepted.min() } else { accepted.max() }
    }

    /// Folds a peer's record into the view of that peer. The view only grows. Whether it did.
    pub(crate) fn fold_view(&mut self, peer: AcceptorId, record: &EntryRecord) -> bool {
        let view = &mut self.views[peer.index()];
        if !record.is_newer_than(view) {
            return false;
        }
        view.prepared = view.prepared.max(record.prepared);
        view.promised = view.promised.max(record.promised);
        if record.chosen || record.accepted > view.accepted {
            view.accepted = record.accepted;
            view.value_id = record.value_id;
        }
        view.chosen |= record.chosen;
        true
    }

    /// Forgets what was seen of a peer, and what it was sent: it lost what it held.
    pub(crate) fn forget_peer(&mut self, peer: AcceptorId) {
        self.views[peer.index()] = EntryRecord::default();
        self.sent_to &= !(1 << peer.0);
        self.answers_waiting &= !(1 << peer.0);
    }

    /// Promises `ballot` if it is the highest yet. Whether the record changed.
    pub(crate) fn promise(&mut self, ballot: Ballot, durable: Lsn) -> bool {
        if self.local.chosen || ballot <= self.local.promised {
            return false;
        }
        self.settle(durable);
        self.local.promised = ballot;
        true
    }

    /// Promises and prepares `ballot` as its owner.
    pub(crate) fn prepare(&mut self, ballot: Ballot, durable: Lsn) {
        assert!(ballot > self.local.promised, "a proposer prepares above everything it promised");
        assert!(!self.local.chosen, "a chosen entry is not proposed again");
        self.settle(durable);
        self.local.promised = ballot;
        self.local.prepared = ballot;
    }

    /// Accepts a value if the promise allows it and it is newer than what was accepted. Equality
    /// with the promise counts. Whether the record changed.
    pub(crate) fn accept(&mut self, ballot: Ballot, id: ValueId, durable: Lsn) -> bool {
        let local = &self.local;
        let is_promised_away = ballot < local.promised && !planted!("accept-below-promise");
        if local.chosen || is_promised_away || ballot <= local.accepted {
            return false;
        }
        assert!(self.value(id).is_some(), "a value is accepted with its bytes");
        self.settle(durable);
        self.local.promised = self.local.promised.max(ballot);
        self.local.accepted = ballot;
        self.local.value_id = Some(id);
        true
    }

    /// Marks the value as chosen at `ballot`. Whether the record changed.
    pub(crate) fn choose(&mut self, ballot: Ballot, id: ValueId, durable: Lsn) -> bool {
        if self.local.chosen {
            assert_eq!(self.local.value_id, Some(id), "agreement: two values chosen in one entry");
            return false;
        }
        assert!(self.value(id).is_some(), "a value is chosen with its bytes");
        assert!(!ballot.is_none());
        self.settle(durable);
        self.local.accepted = ballot;
        self.local.value_id = Some(id);
        self.local.chosen = true;
        true
    }

    /// Before a change: keeps what the disk is known to hold.
    fn settle(&mut self, durable: Lsn) {
        if self.lsn <= durable && !self.unlogged {
            self.durable = self.local;
        }
        self.unlogged = true;
    }

    /// Who, counting only what is durable, accepted at a ballot that a majority shares.
    pub(crate) fn majority_accepted(&self, context: &Context) -> Option<(Ballot, ValueId)> {
        let votes = || self.counted(context);
        votes().filter(|record| !record.is_empty()).find_map(|candidate| {
            let ballot = candidate.accepted;
            let id = candidate.value_id?;
            let count = votes().filter(|record| {
                record.accepted == ballot
                    || planted!("chosen-on-unequal-ballots") && record.value_id == Some(id)
            });
            let count = count.count();
            (count >= context.majority()).then_some((ballot, id))
        })
    }

    /// How many acceptors durably promised exactly `ballot`.
    pub(crate) fn promises(&self, ballot: Ballot, context: &Context) -> usize {
        self.counted(context).filter(|record| record.promised == ballot).count()
    }

    /// The records that count: of the voters, the own one as far as it is durable.
    fn counted(&self, context: &Context) -> impl Iterator<Item = &EntryRecord> + use<'_> {
        let own = self.durable(context.log.durable());
        let (me, voters) = (context.me(), context.configuration.voters);
        let views = (0..).map(AcceptorId).zip(&self.views).filter(move |(peer, _)| {
            // The own position among the views is unused.
            *peer != me && voters.contains(*peer)
        });
        views.map(|(_, view)| view).chain(voters.contains(me).then_some(own))
    }

    /// A peer's promise that is above `ballot`, if there is one.
    pub(crate) fn promised_above(&self, ballot: Ballot) -> bool {
        self.highest_ballot() > ballot
    }

    /// Logs the own record. The value's bytes are logged once per value.
    pub(crate) fn log(
        &mut self,
        context: &mut Context,
        entity: EntityId,
        entry: Entry,
        lazily: bool,
    ) -> Lsn {
        assert_eq!(self.local.validate(), Ok(()));
        let value = match self.local.value_id {
            None => LoggedValue::None,
            Some(id) if self.logged_value == Some(id) => LoggedValue::Earlier,
            Some(id) => {
                self.logged_value = Some(id);
                self.log_value(context, entity, entry, id)
            }
        };
        let record = LogRecord::Entry { entity, entry, record: self.local, value };
        self.unlogged = false;
        self.answers_waiting = 0;
        self.lsn = if lazily { context.append_lazily(&record) } else { context.append(&record) };
        self.lsn
    }

    /// Logs the own record once more, with its value's bytes; `None` when there is none. Only where
    /// it is found changes by this: what waits for the record waits for the earlier copy.
    pub(crate) fn log_copy(
        &self,
        context: &mut Context,
        entity: EntityId,
        entry: Entry,
    ) -> Option<Lsn> {
        if self.local == EntryRecord::default() {
            return None;
        }
        let value = match self.local.value_id {
            None => LoggedValue::None,
            Some(id) => self.log_value(context, entity, entry, id),
        };
        let record = LogRecord::Entry { entity, entry, record: self.local, value };
        Some(context.append_lazily(&record))
    }

    /// Where the entry's record that comes next has its value's bytes: in itself, or in a record
    /// that is appended here.
    fn log_value(
        &self,
        context: &mut Context,
        entity: EntityId,
        entry: Entry,
        value_id: ValueId,
    ) -> LoggedValue {
        let bytes = Rc::clone(self.value(value_id).expect("the own value has its bytes"));
        if bytes.len() <= context.config.max_embedded_value {
            return LoggedValue::Inline(bytes);
        }
        let record = LogRecord::Value { entity, entry, value_id, bytes };
        if !planted!("large-value-not-logged") {
            context.append_lazily(&record);
        }
        LoggedValue::Earlier
    }

    /// Whether the log holds the bytes of `id` for this entry.
    pub(crate) fn is_logged(&self, id: ValueId) -> bool {
        self.logged_value == Some(id)
    }

    /// Whether `peer` is to be answered with the own record: not when an answer that shows it waits
    /// for the disk already, however often the peer asks.
    pub(crate) fn expect_answer(&mut self, peer: AcceptorId, durable: Lsn) -> bool {
        let bit = 1 << peer.0;
        if self.lsn <= durable {
            return true;
        }
        let waits = self.answers_waiting & bit != 0;
        self.answers_waiting |= bit;
        !waits
    }

    /// Notes that `peer` was sent the bytes of `id`.
    pub(crate) fn note_sent(&mut self, peer: AcceptorId, id: ValueId) {
        if self.sent_value != Some(id) {
            self.sent_value = Some(id);
            self.sent_to = 0;
        }
        self.sent_to |= 1 << peer.0;
    }

    /// Whether `peer` is known to hold `id`, or was sent it and so most likely does.
    pub(crate) fn was_sent(&self, peer: AcceptorId, id: ValueId) -> bool {
        self.view(peer).value_id == Some(id)
            || (self.sent_value == Some(id) && self.sent_to & (1 << peer.0) != 0)
    }

    /// Puts back a record read from the log. What was chosen by an earlier one stays chosen.
    pub(crate) fn restore_record(&mut self, record: EntryRecord) {
        if self.local.chosen && !record.chosen {
            self.local.prepared = record.prepared;
            self.local.promised = record.promised;
        } else {
            self.local = record;
        }
        self.durable = self.local;
    }

    /// Puts back a value read from the log.
    pub(crate) fn restore_value(&mut self, id: ValueId, bytes: Rc<[u8]>) {
        self.add_value(id, bytes);
        self.logged_value = Some(id);
    }

    /// Puts back a chosen mark read from the log. False when the value's bytes are missing.
    pub(crate) fn restore_chosen(&mut self, ballot: Ballot, id: ValueId) -> bool {
        if self.value(id).is_none() {
            return false;
        }
        self.local.accepted = ballot;
        self.local.value_id = Some(id);
        self.local.chosen = true;
        self.durable = self.local;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use plog::entry_record::EntryRecord;
    use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, Lsn, ValueId};

    use super::EntrySlot;

    fn ballot(round: u32, acceptor: u8) -> Ballot {
        Ballot { round, epoch: BootEpoch(1), acceptor: AcceptorId(acceptor) }
    }

    fn id(counter: u64) -> ValueId {
        ValueId { originator: AcceptorId(0), epoch: BootEpoch(1), counter }
    }

    #[test]
    fn accept_is_allowed_when_the_ballot_equals_the_promise_and_not_below() {
        let mut slot = EntrySlot::default();
        slot.add_value(id(1), Rc::from(&b"v"[..]));
        assert!(slot.promise(ballot(2, 1), Lsn::ZERO));
        assert!(!slot.accept(ballot(1, 0), id(1), Lsn::ZERO), "below the promise");
        assert!(slot.accept(ballot(2, 1), id(1), Lsn::ZERO), "equality counts");
        assert!(!slot.promise(ballot(2, 0), Lsn::ZERO), "a promise never goes down");
    }

    #[test]
    fn what_was_not_logged_is_never_shown() {
        let mut slot = EntrySlot::default();
        slot.add_value(id(1), Rc::from(&b"v"[..]));
        slot.prepare(ballot(0, 1), Lsn::ZERO);
        assert!(slot.accept(ballot(0, 1), id(1), Lsn::ZERO));
        assert_eq!(*slot.durable(Lsn(9)), EntryRecord::default());
    }

    #[test]
    fn a_peer_that_asks_again_and_again_waits_for_one_answer() {
        let mut slot = EntrySlot { lsn: Lsn(5), ..EntrySlot::default() };
        assert!(slot.expect_answer(AcceptorId(1), Lsn(4)));
        assert!(!slot.expect_answer(AcceptorId(1), Lsn(4)), "it waits already");
        assert!(slot.expect_answer(AcceptorId(2), Lsn(4)), "another peer");
        assert!(slot.expect_answer(AcceptorId(1), Lsn(5)), "durable now: answered at once");
    }

    #[test]
    fn a_view_never_goes_down() {
        let mut slot = EntrySlot::default();
        let newer = EntryRecord { promised: ballot(5, 2), ..EntryRecord::default() };
        let older = EntryRecord { promised: ballot(4, 2), ..EntryRecord::default() };
        assert!(slot.fold_view(AcceptorId(2), &newer));
        assert!(!slot.fold_view(AcceptorId(2), &older));
        assert_eq!(slot.view(AcceptorId(2)).promised, ballot(5, 2));
    }
}
