//! Manifests of backups: what is taken has one encoding, and sums that hold.

use std::ops::Range;

use plog::backup_manifest::{BackedUpCore, BackedUpPart, BackupNumber, Manifest, ManifestError};
use plog::vocabulary::Lsn;

use crate::fuzzing::allocation::peak;
use crate::fuzzing::{Format, Plan, Random, Tally, fails, fuzz};

struct Manifests;

/// Version, length, counts, sums, the first rows.
const FIELDS: [Range<usize>; 12] = [
    8..12,
    12..16,
    24..25,
    26..28,
    28..32,
    32..36,
    36..40,
    88..96,
    96..104,
    104..112,
    112..120,
    120..128,
];

impl Format for Manifests {
    fn fields(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        FIELDS.into_iter().filter(|field| field.end <= bytes.len()).collect()
    }

    /// The length, too, as often as not: else no input that became longer or shorter gets past it.
    fn repair(&self, bytes: &mut [u8]) {
        if let Some(end) = bytes.len().checked_sub(4)
            && end >= 16
        {
            if bytes[end] & 1 == 0 {
                let length = u32::try_from(bytes.len()).expect("an input is small");
                bytes[12..16].copy_from_slice(&length.to_le_bytes());
            }
            let checksum = crc32fast::hash(&bytes[..end]);
            bytes[end..].copy_from_slice(&checksum.to_le_bytes());
        }
    }
}

fn made(random: &mut Random) -> Vec<u8> {
    // As large as there can be without a sum that no number holds.
    let mut number = || random.next() >> 8;
    let mut manifest = Manifest {
        cluster: number(),
        node: 1,
        replicas: 3,
        incarnation: number().into(),
        backup: number().into(),
        began_us: number(),
        ended_us: number(),
        cores: Vec::new(),
        parts: Vec::new(),
    };
    for _ in 0..number() % 5 {
        let (entities, keys, checkpoint) = (number(), number(), number());
        let (last, held_back) = (Lsn(number()), number());
        manifest.cores.push(BackedUpCore { entities, keys, checkpoint, last, held_back });
    }
    for _ in 0..1 + number() % 9 {
        let checksum = u32::try_from(number() & 0xffff_ffff).expect("32 bits");
        manifest.parts.push(BackedUpPart { bytes: number(), checksum });
    }
    manifest.encode().0
}

type Decode = fn(&[u8]) -> Result<(Manifest, BackupNumber), ManifestError>;

fn check(decode: Decode, plan: &Plan, tally: &mut Tally) {
    let samples: Vec<Vec<u8>> = (0..12).map(|seed| made(&mut Random(seed))).collect();
    let bytes = plan.input(&Manifests, &samples, made);
    let (decoded, held) = peak(|| decode(&bytes));
    assert!(held <= bytes.len() + 64, "{held} bytes were held for {} bytes", bytes.len());
    match decoded {
        Ok((manifest, number)) => {
            assert_eq!(manifest.encode(), (bytes.clone(), number), "{manifest:?}");
            assert!(!manifest.parts.is_empty());
            for cut in &plan.cuts {
                assert!(decode(&bytes[..usize::from(*cut) % bytes.len()]).is_err());
            }
            tally.count(&"Good");
        }
        Err(ManifestError::Damaged { what }) => tally.count(&what.replace(' ', "")),
        Err(error @ ManifestError::Newer { .. }) => tally.count(&error),
    }
}

#[test]
fn fuzz_backup_manifest() {
    fuzz!(20_000, |plan, tally| check(Manifest::decode, plan, tally), |tally| {
        tally.expect(500, &["Good", "itisnotamanifest", "itschecksumiswrong"]);
        tally.expect(100, &["itslengthsdonotfiteachother", "itssumsorreservedbytesarewrong"]);
        tally.expect(20, &["Newer"]);
    });
}

#[test]
fn a_manifest_decoder_that_is_wrong_is_found() {
    let fails = |decode: Decode| fails(2000, |plan, tally| check(decode, plan, tally));
    assert!(!fails(Manifest::decode));
    // Believes whatever stands in the place of the checksum.
    assert!(fails(|bytes| {
        let mut repaired = bytes.to_vec();
        if let Some(end) = bytes.len().checked_sub(4) {
            let checksum = crc32fast::hash(&bytes[..end]);
            repaired[end..].copy_from_slice(&checksum.to_le_bytes());
        }
        Manifest::decode(&repaired)
    }));
    // Makes room for what a count announces.
    assert!(fails(|bytes| {
        let announced = bytes.get(32..36).and_then(|field| field.first_chunk());
        let announced = announced.map_or(0, |field| u32::from_le_bytes(*field));
        let announced = usize::try_from(announced).expect("fits").min(1 << 30);
        drop(std::hint::black_box(Vec::<u8>::with_capacity(announced)));
        Manifest::decode(bytes)
    }));
}
