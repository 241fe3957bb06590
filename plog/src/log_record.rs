//! The records of the log, and their bytes.
//!
//! A record is the smallest thing the log holds. Each stands on its own: it names its entity and
//! entry, carries its own checksum, and is parsed without its neighbours, so that one record can be
//! read back with one read.
//!
//! ```text
//! 0       4       8    9     10    12          16       24      32
//! | length | crc32 | kind | flags | 0 | byte count | entity | entry | fields | bytes | 0.. |
//! ```
//!
//! Every field is checked when parsed and every byte has one meaning: what is parsed encodes to the
//! same bytes again.

use std::rc::Rc;

use crate::entry_record::{EntryRecord, InvalidRecord};
use crate::little_endian::{Reader, Writer};
use crate::planted;
use crate::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, ValueId};

/// Bytes of the part that every kind of record begins with.
pub const RECORD_HEADER_SIZE: usize = 32;
/// A record's length is a multiple of this.
pub const RECORD_ALIGNMENT: usize = 8;

const ENTRY_FIELDS: usize = 56;
const VALUE_FIELDS: usize = 16;
const CHOSEN_FIELDS: usize = 32;
const IMAGE_FIELDS: usize = 24;

const KIND_ENTRY: u8 = 1;
const KIND_VALUE: u8 = 2;
const KIND_CHOSEN: u8 = 3;
const KIND_IMAGE: u8 = 4;

const FLAG_CHOSEN: u8 = 1;
const FLAG_VALUE_ID: u8 = 2;
const FLAG_INLINE: u8 = 4;
const FLAG_EARLIER: u8 = 8;

const NO_VALUE_ID: ValueId = ValueId { originator: AcceptorId(0), epoch: BootEpoch(0), counter: 0 };

/// Where the bytes of an entry record's value are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LoggedValue {
    /// The record names no value, or its bytes are not held.
    None,
    /// In the record itself.
    Inline(Rc<[u8]>),
    /// In an earlier [`LogRecord::Value`] or inline entry record of this entry with the same value
    /// id.
    Earlier,
}

/// One record of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogRecord {
    /// An acceptor's record of one entry.
    Entry {
        /// Whose entry.
        entity: EntityId,
        /// Which entry.
        entry: Entry,
        /// What the acceptor holds of it.
        record: EntryRecord,
        /// Where the value's bytes are. Only [`LoggedValue::None`] goes without a value id.
        value: LoggedValue,
    },
    /// A large value, stored once; entry and chosen records refer to it by its value id.
    Value {
        /// Whose entry.
        entity: EntityId,
        /// Which entry.
        entry: Entry,
        /// The value's name.
        value_id: ValueId,
        /// The value.
        bytes: Rc<[u8]>,
    },
    /// A compact mark: this entry's value is chosen.
    Chosen {
        /// Whose entry.
        entity: EntityId,
        /// Which entry.
        entry: Entry,
        /// The ballot at which it was chosen, never [`Ballot::NONE`].
        ballot: Ballot,
        /// What was chosen.
        value_id: ValueId,
        /// The entity's checksum chain at this entry.
        chain: u32,
    },
    /// A whole entity as of `applied`: everything needed to go on without the records before it.
    Image {
        /// Which entity.
        entity: EntityId,
        /// The last entry that is part of the state.
        applied: Entry,
        /// The entity's checksum chain at `applied`.
        chain: u32,
        /// The value chosen at `applied`; absent at [`Entry::ZERO`].
        last_value_id: Option<ValueId>,
        /// The state machine's state.
        state: Rc<[u8]>,
    },
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end before the record does.
    #[error("the record needs {needed} bytes, {got} are there")]
    Short {
        /// Bytes there.
        got: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// The length field cannot be a record's.
    #[error("{length} cannot be the length of a record")]
    Length {
        /// The field.
        length: u32,
    },
    /// The checksum does not match.
    #[error("record checksum is {found:#010x}, its bytes give {computed:#010x}")]
    Checksum {
        /// In the record.
        found: u32,
        /// Of its bytes.
        computed: u32,
    },
    /// No such kind.
    #[error("record kind {kind} is not known")]
    Kind {
        /// The field.
        kind: u8,
    },
    /// The flags do not go together, or are not of this kind.
    #[error("flags {flags:#04x} do not fit record kind {kind}")]
    Flags {
        /// The record's kind.
        kind: u8,
        /// The field.
        flags: u8,
    },
    /// The count of bytes does not agree with the record's length.
    #[error("{byte_count} bytes of value or state do not fit a record of {length}")]
    ByteCount {
        /// The field.
        byte_count: u32,
        /// The record's length.
        length: u32,
    },
    /// A reserved or padding byte is not zero.
    #[error("a reserved byte is not zero")]
    Reserved,
    /// A chosen mark names no ballot.
    #[error("a chosen mark must name the ballot at which the value was chosen")]
    ChosenWithoutBallot,
    /// The acceptor's record breaks one of its rules.
    #[error("acceptor's record: {0}")]
    Invalid(#[from] InvalidRecord),
}

/// Checks that `bytes` are one whole record, without parsing it; its checksum.
///
/// # Errors
///
/// When the length or the checksum is wrong.
pub fn verify_record(bytes: &[u8]) -> Result<u32, RecordError> {
    let short = RecordError::Short { got: bytes.len(), needed: RECORD_HEADER_SIZE };
    let header = bytes.get(..RECORD_HEADER_SIZE).ok_or(short)?;
    let mut reader = Reader::new(header);
    let (length, found) = (reader.u32(), reader.u32());
    if usize::try_from(length).is_ok_and(|length| length != bytes.len()) {
        return Err(RecordError::Length { length });
    }
    let computed = crc32fast::hash(&bytes[8..]);
    if computed != found && !planted!("record-checksum-unchecked") {
        return Err(RecordError::Checksum { found, computed });
    }
    Ok(found)
}

/// The checksum that an encoded record carries.
///
/// # Panics
///
/// When the bytes are shorter than a record's header.
#[must_use]
pub fn record_checksum(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes"))
}

/// The checksum chain in an encoded image that was verified.
///
/// # Panics
///
/// When the bytes are shorter than an image's fields.
#[must_use]
pub fn image_chain(bytes: &[u8]) -> u32 {
    let chain = &bytes[RECORD_HEADER_SIZE..RECORD_HEADER_SIZE + 4];
    u32::from_le_bytes(chain.try_into().expect("four bytes"))
}

impl LogRecord {
    /// The entity the record is of.
    #[must_use]
    pub fn entity(&self) -> EntityId {
        match self {
            Self::Entry { entity, .. }
            | Self::Value { entity, .. }
            | Self::Chosen { entity, .. }
            | Self::Image { entity, .. } => *entity,
        }
    }

    /// The entry the record is of; the applied entry of an image.
    #[must_use]
    pub fn entry(&self) -> Entry {
        match self {
            Self::Entry { entry, .. }
            | Self::Value { entry, .. }
            | Self::Chosen { entry, .. }
            | Self::Image { applied: entry, .. } => *entry,
        }
    }

    fn parts(&self) -> (u8, u8, usize, &[u8]) {
        match self {
            Self::Entry { record, value, .. } => {
                let mut flags = 0;
                if record.chosen {
                    flags |= FLAG_CHOSEN;
                }
                if record.value_id.is_some() {
                    flags |= FLAG_VALUE_ID;
                }
                let bytes: &[u8] = match value {
                    LoggedValue::None => &[],
                    LoggedValue::Inline(bytes) => {
                        flags |= FLAG_INLINE;
                        bytes
                    }
                    LoggedValue::Earlier => {
                        flags |= FLAG_EARLIER;
                        &[]
                    }
                };
                (KIND_ENTRY, flags, ENTRY_FIELDS, bytes)
            }
            Self::Value { bytes, .. } => (KIND_VALUE, 0, VALUE_FIELDS, bytes),
            Self::Chosen { .. } => (KIND_CHOSEN, 0, CHOSEN_FIELDS, &[]),
            Self::Image { last_value_id, state, .. } => {
                let flags = if last_value_id.is_some() { FLAG_VALUE_ID } else { 0 };
                (KIND_IMAGE, flags, IMAGE_FIELDS, state)
            }
        }
    }

    /// Bytes the record takes in the log, padding included.
    #[must_use]
    pub fn encoded_length(&self) -> usize {
        let (_, _, fields, bytes) = self.parts();
        (RECORD_HEADER_SIZE + fields + bytes.len()).next_multiple_of(RECORD_ALIGNMENT)
    }

    /// Writes the record into `out`, which is exactly [`LogRecord::encoded_length`] long.
    ///
    /// # Panics
    ///
    /// When `out` has another length, or the record would be refused by [`LogRecord::decode`]: an
    /// acceptor's record that breaks its rules must not become durable.
    pub fn encode_into(&self, out: &mut [u8]) {
        let (kind, flags, fields, bytes) = self.parts();
        let byte_count = u32::try_from(bytes.len()).expect("a value or state is below 4 GiB");
        let length = u32::try_from(out.len()).expect("a record is below 4 GiB");
        let used = RECORD_HEADER_SIZE + fields + bytes.len();
        assert!(used.next_multiple_of(RECORD_ALIGNMENT) == out.len(), "the caller sized the slice");
        let mut writer = Writer::new(&mut *out);
        writer.u32(length);
        writer.u32(0);
        writer.bytes(&[kind, flags, 0, 0]);
        writer.u32(byte_count);
        writer.u64(self.entity().0);
        writer.u64(self.entry().0);
        match self {
            Self::Entry { record, value, .. } => {
                assert!(record.validate().is_ok(), "{record:?} breaks its own rules");
                assert!(record.value_id.is_some() || *value == LoggedValue::None);
                writer.ballot(record.prepared);
                writer.ballot(record.promised);
                writer.ballot(record.accepted);
                writer.u32(0);
                writer.value_id(record.value_id.unwrap_or(NO_VALUE_ID));
            }
            Self::Value { value_id, .. } => writer.value_id(*value_id),
            Self::Chosen { ballot, value_id, chain, .. } => {
                assert!(!ballot.is_none(), "a value is chosen at a ballot");
                writer.ballot(*ballot);
                writer.u32(*chain);
                writer.value_id(*value_id);
            }
            Self::Image { chain, last_value_id, .. } => {
                writer.u32(*chain);
                writer.u32(0);
                writer.value_id(last_value_id.unwrap_or(NO_VALUE_ID));
            }
        }
        writer.bytes(bytes);
        writer.zeros_to_end();
        let crc = crc32fast::hash(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Appends the record's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.resize(begin + self.encoded_length(), 0);
        self.encode_into(&mut out[begin..]);
    }

    /// Parses the record at the beginning of `bytes`; also returns its length.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly what [`LogRecord::encode`] writes for some record.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), RecordError> {
        let short = |needed| RecordError::Short { got: bytes.len(), needed };
        if bytes.len() < RECORD_HEADER_SIZE {
            return Err(short(RECORD_HEADER_SIZE));
        }
        let mut reader = Reader::new(bytes);
        let (length_field, found) = (reader.u32(), reader.u32());
        let length = usize::try_from(length_field).expect("32 bits fit a usize");
        if length < RECORD_HEADER_SIZE || !length.is_multiple_of(RECORD_ALIGNMENT) {
            return Err(RecordError::Length { length: length_field });
        }
        let checked = bytes.get(8..length).ok_or_else(|| short(length))?;
        let computed = crc32fast::hash(checked);
        if computed != found && !planted!("record-checksum-unchecked") {
            return Err(RecordError::Checksum { found, computed });
        }
        Ok((Self::decode_checked(Reader::new(checked), length_field)?, length))
    }

    /// Parses bytes from the kind on, whose checksum is good.
    fn decode_checked(mut reader: Reader<'_>, length: u32) -> Result<Self, RecordError> {
        let (kind, flags) = (reader.u8(), reader.u8());
        reader.zeros::<2>();
        let byte_count = reader.u32();
        let (entity, entry) = (EntityId(reader.u64()), Entry(reader.u64()));
        let (fields, allowed) = match kind {
            KIND_ENTRY => (ENTRY_FIELDS, FLAG_CHOSEN | FLAG_VALUE_ID | FLAG_INLINE | FLAG_EARLIER),
            KIND_VALUE => (VALUE_FIELDS, 0),
            KIND_CHOSEN => (CHOSEN_FIELDS, 0),
            KIND_IMAGE => (IMAGE_FIELDS, FLAG_VALUE_ID),
            _ => return Err(RecordError::Kind { kind }),
        };
        let has_value_id = flags & FLAG_VALUE_ID != 0;
        let (inline, earlier) = (flags & FLAG_INLINE != 0, flags & FLAG_EARLIER != 0);
        if flags & !allowed != 0 || (inline && earlier) || ((inline || earlier) && !has_value_id) {
            return Err(RecordError::Flags { kind, flags });
        }
        let byte_length = usize::try_from(byte_count).expect("32 bits fit a usize");
        let used = RECORD_HEADER_SIZE + fields + byte_length;
        let has_bytes = inline || kind == KIND_VALUE || kind == KIND_IMAGE;
        let whole = usize::try_from(length).expect("32 bits fit a usize");
        if used.next_multiple_of(RECORD_ALIGNMENT) != whole || (byte_count != 0 && !has_bytes) {
            return Err(RecordError::ByteCount { byte_count, length });
        }
        let record = match kind {
            KIND_ENTRY => {
                let (prepared, promised, accepted) =
                    (reader.ballot(), reader.ballot(), reader.ballot());
                reader.zeros::<4>();
                let value_id = optional_value_id(&mut reader, has_value_id)?;
                let chosen = flags & FLAG_CHOSEN != 0;
                let record = EntryRecord { prepared, promised, accepted, value_id, chosen };
                record.validate()?;
                let value = if inline {
                    LoggedValue::Inline(reader.bytes(byte_length).into())
                } else if earlier {
                    LoggedValue::Earlier
                } else {
                    LoggedValue::None
                };
                Self::Entry { entity, entry, record, value }
            }
            KIND_VALUE => {
                let value_id = reader.value_id();
                Self::Value { entity, entry, value_id, bytes: reader.bytes(byte_length).into() }
            }
            KIND_CHOSEN => {
                let (ballot, chain, value_id) = (reader.ballot(), reader.u32(), reader.value_id());
                if ballot.is_none() {
                    return Err(RecordError::ChosenWithoutBallot);
                }
                Self::Chosen { entity, entry, ballot, value_id, chain }
            }
            _ => {
                let chain = reader.u32();
                reader.zeros::<4>();
                let last_value_id = optional_value_id(&mut reader, has_value_id)?;
                let state = reader.bytes(byte_length).into();
                Self::Image { entity, applied: entry, chain, last_value_id, state }
            }
        };
        if !reader.reserved_clean() || reader.rest().iter().any(|byte| *byte != 0) {
            return Err(RecordError::Reserved);
        }
        Ok(record)
    }
}

fn optional_value_id(
    reader: &mut Reader<'_>,
    present: bool,
) -> Result<Option<ValueId>, RecordError> {
    let id = reader.value_id();
    if present {
        Ok(Some(id))
    } else if id == NO_VALUE_ID {
        Ok(None)
    } else {
        Err(RecordError::Reserved)
    }
}
