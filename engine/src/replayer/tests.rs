//! A replayer fed by hand, with a second machine: sums, kept in a checkpoint of their own.

use std::collections::BTreeMap;

use plog::assemble::LoadedImage;
use plog::checkpoint::CheckpointId;
use plog::checkpoint::pointer::Pointer;
use plog::checkpoint::table::Row;
use plog::entry_record::EntryRecord;
use plog::location::Location;
use plog::log_record::{LogRecord, LoggedValue};
use plog::recovery::ScannedRecord;
use plog::segment::SegmentId;
use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, Lsn, ValueId};

use super::{BeginAnew, ReplayError, Replayer, ReplayerConfig, Wants};
use crate::batch::BatchBuilder;
use crate::chain;
use crate::entity_state;
use crate::request_ids::RequestIds;
use crate::state_machine::InvalidState;
use crate::state_machine::mirror::{ChosenValue, Mirror, Standing};

/// Adds up what entries bring: a machine with another form of the data, and files of its own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Sums {
    entities: BTreeMap<EntityId, (Standing, i64)>,
}

impl Sums {
    fn total(&self) -> i64 {
        self.entities.values().map(|(_, sum)| sum).sum()
    }

    /// Its own checkpoint, with the segment to go on from.
    fn checkpoint(&self, segment: SegmentId) -> Vec<u8> {
        let mut bytes = segment.0.to_le_bytes().to_vec();
        for (entity, (standing, sum)) in &self.entities {
            bytes.extend(entity.0.to_le_bytes());
            bytes.extend(standing.entry.0.to_le_bytes());
            bytes.extend(u64::from(standing.chain).to_le_bytes());
            bytes.extend(sum.to_le_bytes());
        }
        bytes
    }

    fn from_checkpoint(bytes: &[u8]) -> (Self, SegmentId) {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let mut sums = Self::default();
        for at in (8..bytes.len()).step_by(32) {
            let chain = u32::try_from(number(at + 16)).unwrap();
            let standing = Standing { entry: Entry(number(at + 8)), chain };
            let sum = number(at + 24).cast_signed();
            sums.entities.insert(EntityId(number(at)), (standing, sum));
        }
        (sums, SegmentId(number(0)))
    }
}

fn number(bytes: &[u8]) -> Result<i64, InvalidState> {
    let invalid = InvalidState { what: "a sum", offset: 0, length: bytes.len() };
    Ok(i64::from_le_bytes(bytes.try_into().map_err(|_| invalid)?))
}

impl Mirror for Sums {
    fn stands_at(&self, entity: EntityId) -> Standing {
        self.entities.get(&entity).map(|(standing, _)| *standing).unwrap_or_default()
    }

    fn execute_for_checkpoint(&mut self, chosen: &ChosenValue<'_>) -> Result<(), InvalidState> {
        let added = number(chosen.batch.effects())?;
        let (standing, sum) = self.entities.entry(chosen.entity).or_default();
        *sum += added;
        *standing = chosen.standing;
        Ok(())
    }

    fn load_checkpoint(
        &mut self,
        entity: EntityId,
        image: &LoadedImage,
    ) -> Result<(), InvalidState> {
        let (_, state) = entity_state::split(&image.state)?;
        let standing = Standing { entry: image.applied, chain: image.chain };
        self.entities.insert(entity, (standing, number(state)?));
        Ok(())
    }

    fn agrees_with(&self, entity: EntityId, image: &LoadedImage) -> bool {
        let state = entity_state::split(&image.state).and_then(|(_, state)| number(state));
        self.entities.get(&entity).map(|(_, sum)| *sum) == state.ok()
    }

    fn memory_bytes(&self) -> usize {
        self.entities.len() * 64
    }
}

/// Writes records as a replica would, by hand.
#[derive(Clone, Debug, Default)]
struct Script {
    records: Vec<ScannedRecord>,
    segment: u64,
    /// Chains of the entities, and what their values add up to.
    chains: BTreeMap<EntityId, (Entry, u32, i64)>,
}

fn id(counter: u64) -> ValueId {
    ValueId { originator: AcceptorId(0), epoch: BootEpoch(1), counter }
}

fn ballot() -> Ballot {
    Ballot { round: 1, epoch: BootEpoch(1), acceptor: AcceptorId(0) }
}

fn value(added: i64) -> Vec<u8> {
    BatchBuilder::default().finish(|out| out.extend(added.to_le_bytes()))
}

const ONE: EntityId = EntityId(1);
const TWO: EntityId = EntityId(2);

impl Script {
    fn new() -> Self {
        Self { segment: 1, ..Self::default() }
    }

    fn push(&mut self, record: LogRecord) {
        let lsn = Lsn(self.records.len() as u64 + 1);
        let location = Location::new(SegmentId(self.segment), 4096, 64, 0);
        self.records.push(ScannedRecord { lsn, location, record, after_damage: false });
    }

    /// A vote for the value that adds so much, which names it.
    fn accept(&mut self, entity: EntityId, entry: u64, added: i64) {
        let record = EntryRecord {
            promised: ballot(),
            accepted: ballot(),
            value_id: Some(id(added.unsigned_abs())),
            ..EntryRecord::default()
        };
        let value = LoggedValue::Inline(value(added).into());
        self.push(LogRecord::Entry { entity, entry: Entry(entry), record, value });
    }

    /// The entry after the last is chosen, with that value.
    fn choose(&mut self, entity: EntityId, added: i64) {
        let (entry, chain, sum) = self.chains.entry(entity).or_default();
        *entry = entry.next();
        *chain = chain::extend(*chain, &value(added));
        *sum += added;
        let (entry, chain) = (*entry, *chain);
        let value_id = id(added.unsigned_abs());
        self.push(LogRecord::Chosen { entity, entry, ballot: ballot(), value_id, chain });
    }

    fn write(&mut self, entity: EntityId, added: i64) {
        let entry = self.chains.get(&entity).map_or(1, |(entry, ..)| entry.0 + 1);
        self.accept(entity, entry, added);
        self.choose(entity, added);
    }

    /// The image of an entity as of now.
    fn image(&self, entity: EntityId) -> LogRecord {
        let (applied, chain, sum) = self.chains[&entity];
        let mut state = vec![1];
        RequestIds::default().encode(&mut state);
        state.extend(sum.to_le_bytes());
        LogRecord::Image { entity, applied, chain, last_value_id: None, state: state.into() }
    }

    fn total(&self) -> i64 {
        self.chains.values().map(|(.., sum)| sum).sum()
    }
}

fn replayer() -> Replayer<Sums> {
    let mut replayer = Replayer::new(ReplayerConfig::default(), Sums::default());
    replayer.begin(None);
    replayer.finish_loading().unwrap();
    replayer
}

/// Feeds all records of the segments from the one that is wanted on.
fn feed(replayer: &mut Replayer<Sums>, records: &[ScannedRecord]) -> Result<(), ReplayError> {
    let Wants::Log { from, .. } = replayer.wants() else { panic!("it wants the log") };
    let mut begun = None;
    for record in records.iter().filter(|record| record.location.segment() >= from) {
        let segment = record.location.segment();
        if begun != Some(segment) {
            replayer.begin_segment(segment)?;
            begun = Some(segment);
        }
        replayer.handle_record(record)?;
    }
    Ok(())
}

fn checkpoint(floor: u64) -> Pointer {
    let (floor, settled) = (SegmentId(floor), Lsn(1));
    Pointer { checkpoint: CheckpointId(1), parts: 1, floor, settled, bytes: 8192 }
}

fn row(entity: EntityId, image: Option<&LogRecord>) -> Row {
    let location = Location::new(CheckpointId(1).part(0).file(), 4096, 64, 0);
    let applied = image.map_or(Entry::ZERO, LogRecord::entry);
    Row { entity, applied, image: image.map(|_| location), keys: 1 }
}

#[test]
fn what_is_chosen_is_executed_once_in_order_and_what_is_only_accepted_never() {
    let mut script = Script::new();
    script.write(ONE, 10);
    script.accept(ONE, 2, 999);
    script.accept(TWO, 1, 999);
    let mut replayer = replayer();
    feed(&mut replayer, &script.records).unwrap();
    assert_eq!(replayer.mirror().total(), 10, "two votes are held back");
    assert_eq!(replayer.stands_at().unwrap().held, 2);
    // Another value is chosen in place of one, and the segment is read again.
    script.accept(ONE, 2, 7);
    script.choose(ONE, 7);
    feed(&mut replayer, &script.records).unwrap();
    feed(&mut replayer, &script.records).unwrap();
    assert_eq!(replayer.mirror().total(), 17);
    assert_eq!(replayer.mirror().stands_at(ONE).entry, Entry(2));
    assert_eq!((replayer.counters().executed, replayer.counters().chains), (2, 2));
    assert_eq!(replayer.stands_at().unwrap().held, 1);
}

#[test]
fn an_entry_behind_a_hole_waits_for_the_one_before_it() {
    let mut script = Script::new();
    script.accept(ONE, 2, 5);
    let mut late = script.clone();
    // Entry 2 is known to be chosen before entry 1 is.
    let record = EntryRecord {
        promised: ballot(),
        accepted: ballot(),
        value_id: Some(id(5)),
        chosen: true,
        ..EntryRecord::default()
    };
    let entry = Entry(2);
    script.push(LogRecord::Entry { entity: ONE, entry, record, value: LoggedValue::Earlier });
    let mut replayer = replayer();
    feed(&mut replayer, &script.records).unwrap();
    assert_eq!(replayer.counters().executed, 0);
    late.records = script.records;
    late.accept(ONE, 1, 3);
    late.choose(ONE, 3);
    feed(&mut replayer, &late.records).unwrap();
    assert_eq!(replayer.mirror().stands_at(ONE).entry, Entry(2));
    // The mark of entry 2 comes after it was executed, and is compared all the same.
    let mut wrong = late.clone();
    late.choose(ONE, 5);
    feed(&mut replayer, &late.records).unwrap();
    assert_eq!((replayer.mirror().total(), replayer.counters().chains), (8, 2));
    wrong.chains.insert(ONE, (Entry(1), 77, 3));
    wrong.choose(ONE, 5);
    let mut other = self::replayer();
    let error = feed(&mut other, &wrong.records).unwrap_err();
    assert!(matches!(error, ReplayError::Diverged { entity: ONE, entry: Entry(2), .. }), "{error}");
}

#[test]
fn a_machine_goes_on_from_a_checkpoint_of_its_own_and_executes_nothing_twice() {
    let mut script = Script::new();
    for number in 1..=40 {
        script.segment = 1 + number / 10;
        let entity = if number % 3 == 0 { TWO } else { ONE };
        script.write(entity, i64::try_from(number).unwrap());
        if number == 12 {
            // Chosen much later: its vote is needed for as long.
            script.accept(EntityId(3), 1, 1000);
        }
    }
    script.choose(EntityId(3), 1000);
    let all = script.records;
    for cut in 0..all.len() {
        let mut first = replayer();
        feed(&mut first, &all[..cut]).unwrap();
        let at = first.stands_at().unwrap();
        let (sums, segment) = Sums::from_checkpoint(&first.mirror().checkpoint(at.segment));
        assert_eq!((&sums, segment), (first.mirror(), at.segment));
        let mut second = Replayer::from_own_checkpoint(ReplayerConfig::default(), sums, at.segment);
        // What is before that segment is gone.
        let left: Vec<_> =
            all.iter().filter(|record| record.location.segment() >= segment).cloned().collect();
        feed(&mut second, &left).unwrap();
        assert_eq!(second.mirror().total(), 1000 + 20 * 41, "cut at {cut}");
        let executed = first.counters().executed + second.counters().executed;
        assert_eq!(executed, 41, "cut at {cut}: each entry once");
    }
}

#[test]
fn a_segment_freed_before_it_was_read_is_noticed_and_a_checkpoint_brings_the_rest() {
    let mut script = Script::new();
    script.write(ONE, 1);
    script.write(TWO, 2);
    let early = script.records.len();
    script.segment = 2;
    script.write(ONE, 4);
    script.segment = 3;
    script.write(ONE, 8);
    let images = [script.image(ONE), script.image(TWO)];
    script.write(TWO, 16);
    let mut replayer = replayer();
    feed(&mut replayer, &script.records[..early]).unwrap();
    let left: Vec<_> = script.records[early + 2..].to_vec();
    let gap = BeginAnew::Gap { wanted: SegmentId(2), found: SegmentId(3) };
    assert_eq!(feed(&mut replayer, &left), Err(gap.into()));
    assert_eq!(replayer.wants(), Wants::Checkpoint);
    assert_eq!(replayer.stands_at(), None);
    replayer.begin(Some(&checkpoint(3)));
    for image in &images {
        replayer.load_row(&row(image.entity(), Some(image)));
        replayer.load_image(image).unwrap();
    }
    replayer.finish_loading().unwrap();
    assert_eq!(replayer.wants(), Wants::Log { from: SegmentId(3), after: Lsn::ZERO });
    assert_eq!(replayer.counters().loaded, 1, "of the other entity it has the same");
    assert_eq!(replayer.counters().compared, 1);
    feed(&mut replayer, &left).unwrap();
    assert_eq!(replayer.mirror().total(), script.total());
    // And when the segment it wants is gone with all before it.
    let lost = replayer.lost_segment(SegmentId(9));
    let gap = BeginAnew::Gap { wanted: SegmentId(3), found: SegmentId(9) };
    assert_eq!(lost, ReplayError::BeginAnew(gap));
    assert_eq!(replayer.counters().begun_anew, 2);
}

#[test]
fn a_checkpoint_with_an_image_too_few_and_a_record_behind_damage_are_no_beginning() {
    let mut script = Script::new();
    script.write(ONE, 1);
    let image = script.image(ONE);
    let mut replayer = Replayer::new(ReplayerConfig::default(), Sums::default());
    replayer.begin(Some(&checkpoint(1)));
    replayer.load_row(&row(ONE, Some(&image)));
    let missing = BeginAnew::Images { rows: 1, images: 0 };
    assert_eq!(replayer.finish_loading(), Err(missing.into()));
    replayer.begin(None);
    replayer.finish_loading().unwrap();
    script.records[1].after_damage = true;
    let damage = BeginAnew::Damage { lsn: Lsn(2) };
    assert_eq!(feed(&mut replayer, &script.records), Err(damage.into()));
    assert_eq!(replayer.mirror().total(), 0);
}

#[test]
fn a_history_or_an_image_other_than_the_mirrors_stops_it_with_entity_and_entry() {
    let mut script = Script::new();
    script.write(ONE, 1);
    script.write(ONE, 2);
    let diverged = |record: LogRecord| {
        let mut script = script.clone();
        script.push(record);
        let mut replayer = replayer();
        let error = feed(&mut replayer, &script.records).unwrap_err();
        assert_eq!((replayer.stopped(), replayer.wants()), (Some(error), Wants::Nothing));
        error.to_string()
    };
    let (entity, entry) = (ONE, Entry(2));
    let (ballot, value_id) = (ballot(), id(2));
    let mark = LogRecord::Chosen { entity, entry, ballot, value_id, chain: 5 };
    assert_eq!(
        diverged(mark),
        "entity 0000000000000001 entry 2: its checksum chain is another than the mirror's"
    );
    let mut other = script.clone();
    other.chains.get_mut(&ONE).unwrap().2 = 4;
    assert_eq!(
        diverged(other.image(ONE)),
        "entity 0000000000000001 entry 2: its image is another than the mirror's"
    );
    let accepted = Script { records: Vec::new(), ..script.clone() };
    let mut two = accepted;
    two.choose(TWO, 3);
    let LogRecord::Chosen { entity, entry, ballot, chain, .. } = two.records[0].record else {
        panic!("a mark")
    };
    let mut script = script.clone();
    script.push(two.records[0].record.clone());
    script.push(LogRecord::Chosen { entity, entry, ballot, chain, value_id: id(4) });
    let error = feed(&mut replayer(), &script.records).unwrap_err();
    assert!(error.to_string().ends_with("two values are said to be chosen"), "{error}");
}

#[test]
fn a_paused_replayer_wants_nothing_and_goes_on_where_it_was() {
    let mut script = Script::new();
    script.write(ONE, 1);
    let mut replayer = replayer();
    feed(&mut replayer, &script.records).unwrap();
    replayer.pause();
    assert_eq!(replayer.wants(), Wants::Nothing);
    let at = replayer.stands_at().unwrap();
    replayer.resume();
    assert_eq!(replayer.wants(), Wants::Log { from: SegmentId(1), after: at.last });
    script.write(ONE, 2);
    feed(&mut replayer, &script.records).unwrap();
    assert_eq!(replayer.mirror().total(), 3);
}

#[test]
fn what_is_held_back_and_what_the_mirror_takes_have_limits() {
    let mut script = Script::new();
    for entity in 1..=10 {
        script.accept(EntityId(entity), 1, 1);
    }
    let config = ReplayerConfig { held_bytes_max: 1200, ..ReplayerConfig::default() };
    let mut replayer = Replayer::new(config, Sums::default());
    replayer.begin(None);
    replayer.finish_loading().unwrap();
    let error = feed(&mut replayer, &script.records).unwrap_err();
    let ReplayError::BeginAnew(BeginAnew::HeldBack { bytes, max: 1200 }) = error else {
        panic!("{error}")
    };
    assert!(bytes > 1200);
    assert_eq!(replayer.wants(), Wants::Checkpoint);
    let mut script = Script::new();
    for entity in 1..=10 {
        script.write(EntityId(entity), 1);
    }
    let config = ReplayerConfig { mirror_bytes_max: 300, ..ReplayerConfig::default() };
    let mut replayer = Replayer::new(config, Sums::default());
    replayer.begin(None);
    replayer.finish_loading().unwrap();
    let full = ReplayError::Full { bytes: 320, max: 300 };
    assert_eq!(feed(&mut replayer, &script.records), Err(full));
    assert_eq!(replayer.stopped(), Some(full));
}

#[test]
fn it_stands_at_the_oldest_value_that_may_yet_be_chosen_until_a_copy_comes() {
    let mut script = Script::new();
    script.accept(ONE, 1, 1);
    script.segment = 2;
    script.write(TWO, 2);
    script.segment = 3;
    script.write(TWO, 3);
    let mut replayer = replayer();
    feed(&mut replayer, &script.records).unwrap();
    assert_eq!(replayer.stands_at().unwrap().segment, SegmentId(1));
    // As a checkpoint does, so that the segment can go.
    script.accept(ONE, 1, 1);
    feed(&mut replayer, &script.records).unwrap();
    assert_eq!(replayer.stands_at().unwrap().segment, SegmentId(3));
    script.segment = 4;
    script.choose(ONE, 1);
    feed(&mut replayer, &script.records).unwrap();
    let at = replayer.stands_at().unwrap();
    assert_eq!((at.segment, at.held), (SegmentId(4), 0));
    assert_eq!(replayer.mirror().total(), 6);
}

#[test]
fn an_entity_that_abstains_by_the_checkpoint_is_left_out() {
    let mut script = Script::new();
    script.write(ONE, 1);
    script.write(TWO, 2);
    let mut replayer = Replayer::new(ReplayerConfig::default(), Sums::default());
    replayer.begin(Some(&checkpoint(1)));
    replayer.load_row(&row(ONE, None));
    replayer.finish_loading().unwrap();
    feed(&mut replayer, &script.records).unwrap();
    assert_eq!(replayer.mirror().total(), 2);
    assert!(replayer.leaves_out(ONE) && !replayer.leaves_out(TWO));
    assert_eq!(replayer.stands_at().unwrap().left_out, 1);
}
