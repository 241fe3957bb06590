//! Reading the part of a checkpoint on a simulated disk.

use plog::checkpoint::PartId;
use plog::checkpoint::seal::{PartError, Seal, TableReader};
use plog::checkpoint::table::Row;
use plog::identity::LogIdentity;

/// What a whole part holds.
#[derive(Debug)]
pub struct PartContent<'a> {
    /// Its header and frames.
    pub frames: &'a [u8],
    /// Its table.
    pub rows: Vec<Row>,
}

/// Reads the bytes of a file that should be `part` of the log of `identity`.
///
/// # Errors
///
/// When its seal or its table is not right. The frames are not looked at.
pub fn read_part<'a>(
    bytes: &'a [u8],
    identity: &LogIdentity,
    part: PartId,
) -> Result<PartContent<'a>, PartError> {
    let size = u64::try_from(bytes.len()).expect("a part is small");
    let seal_at = usize::try_from(Seal::offset_in(size)?).expect("it is within the bytes");
    let seal = Seal::parse(&bytes[seal_at..], identity, part, size)?;
    let (frames, table) = bytes.split_at(usize::try_from(seal.table_offset).expect("32 bits fit"));
    let mut rows = Vec::new();
    let mut reader = TableReader::new(seal);
    reader.feed(table, &mut |row| rows.push(row));
    reader.finish()?;
    Ok(PartContent { frames, rows })
}
