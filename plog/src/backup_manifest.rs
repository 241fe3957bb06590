//! The manifest of a backup: what the parts beside it are, and that they are all there.
//!
//! A backup holds the image of every entity of a node, over all its cores, in files laid out like
//! the [parts of a checkpoint](crate::checkpoint), as if of a node with one core. The manifest is
//! written when all of them are durable, so a backup without one was interrupted. It names the
//! checksum of each part; its own checksum, the backup's *number*, therefore stands for every byte.
//!
//! A cluster made from a backup has a cluster id with that number in it. What was not made from the
//! same backup is another cluster then, and nodes of two clusters refuse each other:
//!
//! ```text
//! 0x5265_nnnnnnnn_cccc     Re, the backup's number, and a choice for each cluster made from it
//! ```

use std::fmt;
use std::ops::RangeInclusive;

use crate::checkpoint::{CheckpointId, PartId};
use crate::identity::LogIdentity;
use crate::little_endian::{Reader, Writer};
use crate::vocabulary::Lsn;

const MAGIC: [u8; 8] = *b"CertBkup";

/// The version written, and the newest that is read.
pub const FORMAT_VERSION: u32 = 1;

const FIXED: usize = 112;
const CORE_SIZE: usize = 40;
const PART_SIZE: usize = 16;
const CHECKSUM_SIZE: usize = 4;

/// Largest manifest that is read: of as many cores and parts as there can be, and more.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// Cores that a manifest can name.
const CORES_MAX: usize = 1 << 10;

/// Parts that a manifest can name: they are numbered by 16 bits.
pub const PARTS_MAX: usize = 1 << 16;

const _: () = assert!(
    FIXED + CORES_MAX * CORE_SIZE + PARTS_MAX * PART_SIZE + CHECKSUM_SIZE <= MANIFEST_BYTES_MAX
);

/// The first 16 bits of the id of a cluster that was made from a backup: `Re` in ASCII.
const RESTORED_PREFIX: u64 = 0x5265;

/// What tells a backup from every other one: the checksum of its manifest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackupNumber(pub u32);

impl BackupNumber {
    /// The backup that the cluster of this id was made from; `None` for any other cluster.
    #[must_use]
    pub fn of_cluster(cluster_id: u64) -> Option<Self> {
        let number = u32::try_from(cluster_id >> 16 & 0xffff_ffff).expect("32 bits");
        (cluster_id >> 48 == RESTORED_PREFIX).then_some(Self(number))
    }

    /// The ids that a cluster made from this backup may have.
    #[must_use]
    pub fn cluster_ids(self) -> RangeInclusive<u64> {
        let first = RESTORED_PREFIX << 48 | u64::from(self.0) << 16;
        first..=first | 0xffff
    }
}

impl fmt::Display for BackupNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:08x}", self.0)
    }
}

/// What came from one core of the node.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BackedUpCore {
    /// Entities in the backup.
    pub entities: u64,
    /// Their keys.
    pub keys: u64,
    /// The checkpoint that was read, 0 for none.
    pub checkpoint: u64,
    /// The last record of the log that was read.
    pub last: Lsn,
    /// Entries that the log holds and nothing says are chosen: they are left out.
    pub held_back: u64,
}

/// One file of the backup.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BackedUpPart {
    /// Its size in bytes.
    pub bytes: u64,
    /// Checksum of all of them.
    pub checksum: u32,
}

/// See the module page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    /// The cluster that it was taken from.
    pub cluster: u64,
    /// The node that it was taken from.
    pub node: u8,
    /// Size of that cluster's replica set.
    pub replicas: u8,
    /// That life of the node.
    pub incarnation: u128,
    /// Random; in every file of the backup, so that files of two backups are not mixed.
    pub backup: u128,
    /// When reading began, in microseconds since 1970 by the clock of the machine.
    pub began_us: u64,
    /// When the last part was durable.
    pub ended_us: u64,
    /// One for each core of the node.
    pub cores: Vec<BackedUpCore>,
    /// One for each file.
    pub parts: Vec<BackedUpPart>,
}

/// Why bytes are not a manifest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// Written by a newer program.
    #[error(
        "it was written by a newer Certus: format version {found}, this one reads up to \
         {FORMAT_VERSION}; use the newer program"
    )]
    Newer {
        /// In the manifest.
        found: u32,
    },
    /// Anything else.
    #[error("it is damaged ({what})")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
}

impl Manifest {
    /// What the files of the backup are part of, in the place of a core's log.
    #[must_use]
    pub fn identity(&self) -> LogIdentity {
        let (cluster, node, incarnation) = (self.cluster, self.node, self.backup);
        LogIdentity { cluster, node, incarnation, core: 0, core_count: 1 }
    }

    /// File `number` of the backup, from 0.
    #[must_use]
    pub fn part(number: u16) -> PartId {
        CheckpointId::FIRST.part(number)
    }

    /// Entities in the backup.
    #[must_use]
    pub fn entities(&self) -> u64 {
        self.cores.iter().map(|core| core.entities).sum()
    }

    /// Keys in the backup.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.cores.iter().map(|core| core.keys).sum()
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Its bytes, and the backup's number.
    ///
    /// # Panics
    ///
    /// When there are more cores or parts than a manifest can name.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, BackupNumber) {
        assert!(self.cores.len() <= CORES_MAX && self.parts.len() <= PARTS_MAX);
        let length = FIXED + self.cores.len() * CORE_SIZE + self.parts.len() * PART_SIZE;
        let mut bytes = vec![0; length + CHECKSUM_SIZE];
        let count = |count: usize| u32::try_from(count).expect("bounded above");
        let mut writer = Writer::new(&mut bytes);
        writer.bytes(&MAGIC);
        writer.u32(FORMAT_VERSION);
        writer.u32(count(length + CHECKSUM_SIZE));
        writer.u64(self.cluster);
        writer.bytes(&[self.node, self.replicas, 0, 0]);
        writer.u32(count(self.cores.len()));
        writer.u32(count(self.parts.len()));
        writer.u32(0);
        writer.bytes(&self.incarnation.to_le_bytes());
        writer.bytes(&self.backup.to_le_bytes());
        writer.u64(self.began_us);
        writer.u64(self.ended_us);
        writer.u64(self.entities());
        writer.u64(self.keys());
        writer.u64(self.bytes());
        for core in &self.cores {
            writer.u64(core.entities);
            writer.u64(core.keys);
            writer.u64(core.checkpoint);
            writer.u64(core.last.0);
            writer.u64(core.held_back);
        }
        for part in &self.parts {
            writer.u64(part.bytes);
            writer.u32(part.checksum);
            writer.u32(0);
        }
        let number = crc32fast::hash(&bytes[..length]);
        bytes[length..].copy_from_slice(&number.to_le_bytes());
        (bytes, BackupNumber(number))
    }

    /// The manifest of these bytes, and the backup's number.
    ///
    /// # Errors
    ///
    /// When they are not one, or a newer program's.
    pub fn decode(bytes: &[u8]) -> Result<(Self, BackupNumber), ManifestError> {
        let damaged = |what| ManifestError::Damaged { what };
        if bytes.len() < FIXED + CHECKSUM_SIZE || bytes[..MAGIC.len()] != MAGIC {
            return Err(damaged("it is not a manifest"));
        }
        let (said, checksum) = bytes.split_at(bytes.len() - CHECKSUM_SIZE);
        let number = crc32fast::hash(said);
        if checksum != number.to_le_bytes() {
            return Err(damaged("its checksum is wrong"));
        }
        let mut reader = Reader::new(said);
        reader.bytes(MAGIC.len());
        let version = reader.u32();
        if version > FORMAT_VERSION {
            return Err(ManifestError::Newer { found: version });
        }
        let length = reader.u32();
        let cluster = reader.u64();
        let (node, replicas) = (reader.u8(), reader.u8());
        reader.zeros::<2>();
        let count = |count: u32| usize::try_from(count).expect("32 bits fit a usize");
        let (cores, parts) = (count(reader.u32()), count(reader.u32()));
        reader.zeros::<4>();
        let (incarnation, backup) =
            (u128::from_le_bytes(reader.take()), u128::from_le_bytes(reader.take()));
        let (began_us, ended_us) = (reader.u64(), reader.u64());
        let sums = [reader.u64(), reader.u64(), reader.u64()];
        let rows = cores.checked_mul(CORE_SIZE).zip(parts.checked_mul(PART_SIZE));
        let rows = rows.and_then(|(cores, parts)| cores.checked_add(parts));
        let is_bounded = cores <= CORES_MAX && (1..=PARTS_MAX).contains(&parts);
        let is_whole = count(length) == bytes.len() && rows == Some(reader.rest().len());
        if version == 0 || !is_bounded || !is_whole {
            return Err(damaged("its lengths do not fit each other"));
        }
        let cores = (0..cores)
            .map(|_| BackedUpCore {
                entities: reader.u64(),
                keys: reader.u64(),
                checkpoint: reader.u64(),
                last: Lsn(reader.u64()),
                held_back: reader.u64(),
            })
            .collect();
        let parts = (0..parts)
            .map(|_| {
                let part = BackedUpPart { bytes: reader.u64(), checksum: reader.u32() };
                reader.zeros::<4>();
                part
            })
            .collect();
        let manifest =
            Self { cluster, node, replicas, incarnation, backup, began_us, ended_us, cores, parts };
        if !reader.reserved_clean() || manifest.checked_sums() != Some(sums) {
            return Err(damaged("its sums or reserved bytes are wrong"));
        }
        Ok((manifest, BackupNumber(number)))
    }

    /// Entities, keys and bytes, of rows that may say anything; `None` of those whose sums no
    /// number holds.
    fn checked_sums(&self) -> Option<[u64; 3]> {
        let mut sums = [0_u64; 3];
        for core in &self.cores {
            sums[0] = sums[0].checked_add(core.entities)?;
            sums[1] = sums[1].checked_add(core.keys)?;
        }
        for part in &self.parts {
            sums[2] = sums[2].checked_add(part.bytes)?;
        }
        Some(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::{BackedUpCore, BackedUpPart, BackupNumber, Manifest, ManifestError};
    use crate::vocabulary::Lsn;

    fn manifest() -> Manifest {
        let core =
            BackedUpCore { entities: 7, keys: 9, checkpoint: 2, last: Lsn(1 << 40), held_back: 1 };
        let part = BackedUpPart { bytes: 12_288, checksum: 0xdead_beef };
        Manifest {
            cluster: 0xc1,
            node: 2,
            replicas: 3,
            incarnation: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
            backup: 99,
            began_us: 5,
            ended_us: 6,
            cores: vec![core, BackedUpCore::default()],
            parts: vec![part, part, BackedUpPart { bytes: 4096, checksum: 1 }],
        }
    }

    #[test]
    fn a_manifest_survives_its_bytes_and_its_checksum_is_the_backups_number() {
        let (bytes, number) = manifest().encode();
        assert_eq!(Manifest::decode(&bytes), Ok((manifest(), number)));
        let other = Manifest { backup: 100, ..manifest() };
        assert_ne!(other.encode().1, number, "two backups of the same have two numbers");
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let (bytes, _) = manifest().encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(Manifest::decode(&changed).is_err(), "byte {at} bit {bit}");
            }
            assert!(Manifest::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(Manifest::decode(&longer).is_err());
    }

    #[test]
    fn what_no_program_writes_is_refused_although_its_checksum_is_right() {
        let resealed = |change: &dyn Fn(&mut [u8])| {
            let (mut bytes, _) = manifest().encode();
            let end = bytes.len() - 4;
            change(&mut bytes[..end]);
            let checksum = crc32fast::hash(&bytes[..end]);
            bytes[end..].copy_from_slice(&checksum.to_le_bytes());
            Manifest::decode(&bytes)
        };
        assert!(resealed(&|_| {}).is_ok());
        assert_eq!(resealed(&|bytes| bytes[8] = 2), Err(ManifestError::Newer { found: 2 }));
        // Version, length, reserved, cores, parts, reserved, a sum, a row's reserved.
        for at in [8, 12, 26, 28, 32, 36, 88, 112 + 80 + 12] {
            let change = |bytes: &mut [u8]| bytes[at] ^= if at == 8 { 1 } else { 0x40 };
            assert!(resealed(&change).is_err(), "byte {at}");
        }
    }

    #[test]
    fn rows_whose_sum_no_number_holds_are_refused() {
        let (mut bytes, _) = manifest().encode();
        let end = bytes.len() - 4;
        // The sum of all cores, and what the two of them say.
        for at in [88, 112, 152] {
            bytes[at..at + 8].fill(0xff);
        }
        let checksum = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_le_bytes());
        let what = "its sums or reserved bytes are wrong";
        assert_eq!(Manifest::decode(&bytes), Err(ManifestError::Damaged { what }));
    }

    #[test]
    fn a_restored_clusters_id_names_its_backup_and_no_other_id_does() {
        let number = BackupNumber(0x1234_5678);
        let ids = number.cluster_ids();
        assert_eq!((*ids.start(), *ids.end()), (0x5265_1234_5678_0000, 0x5265_1234_5678_ffff));
        assert_eq!(BackupNumber::of_cluster(0x5265_1234_5678_0007), Some(number));
        assert_eq!(BackupNumber::of_cluster(0x5264_1234_5678_0007), None);
        assert_eq!(BackupNumber::of_cluster(0xc1), None);
    }
}
