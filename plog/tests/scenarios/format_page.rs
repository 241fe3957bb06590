//! The example on the format page is what the code writes.

use plog::backup_manifest::{BackedUpCore, BackedUpPart, Manifest};
use plog::block::{BLOCK_SIZE, is_zero};
use plog::checkpoint::CheckpointId;
use plog::checkpoint::writer::CheckpointWriter;
use plog::frame::FRAME_HEADER_SIZE;
use plog::identity::LogIdentity;
use plog::log::{Log, LogConfig, Urgency};
use plog::log_record::{LogRecord, LoggedValue};
use plog::segment::{SegmentId, SpareId};
use plog::vocabulary::Lsn;

use crate::disk::{accepted, bytes, chosen, entry, image, value};

const PAGE: &str = include_str!("../../../docs/FORMAT.md");

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("```text\n");
    for (number, line) in bytes.chunks(16).enumerate() {
        let digits: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{:04x}  {}\n", number * 16, digits.join(" ")));
    }
    text.push_str("```\n");
    text
}

fn on_the_page(what: &str, bytes: &[u8]) {
    let text = hex(bytes);
    assert!(PAGE.contains(&text), "docs/FORMAT.md should show as the {what}:\n{text}");
}

const IDENTITY: LogIdentity = LogIdentity {
    cluster: 0xc1,
    node: 2,
    incarnation: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
    core: 1,
    core_count: 4,
};

#[test]
fn the_checkpoint_on_the_format_page_is_what_is_written() {
    let (id, floor) = (CheckpointId(2), SegmentId(7));
    let mut writer = CheckpointWriter::new(IDENTITY, id, floor, Lsn(1200), 1 << 20);
    writer.push(&image(0xe1, 1, 3), 1);
    writer.finish();
    let mut file = Vec::new();
    while let Some(write) = writer.poll_write() {
        file.extend_from_slice(&write.buffer);
        writer.handle_written(write.buffer);
    }
    assert_eq!(file.len(), 4 * BLOCK_SIZE, "header, frame, table, seal");
    on_the_page("part's header", &file[..68]);
    on_the_page("part's frame header", &file[BLOCK_SIZE..BLOCK_SIZE + FRAME_HEADER_SIZE]);
    on_the_page("row", &file[2 * BLOCK_SIZE..2 * BLOCK_SIZE + 32]);
    on_the_page("seal", &file[3 * BLOCK_SIZE..3 * BLOCK_SIZE + 92]);
}

#[test]
fn the_manifest_on_the_format_page_is_what_is_written() {
    let core = BackedUpCore { entities: 2, keys: 3, checkpoint: 5, last: Lsn(1200), held_back: 1 };
    let manifest = Manifest {
        cluster: IDENTITY.cluster,
        node: IDENTITY.node,
        replicas: 3,
        incarnation: IDENTITY.incarnation,
        backup: 0xb1,
        began_us: 1_800_000_000_000_000,
        ended_us: 1_800_000_001_500_000,
        cores: vec![core],
        parts: vec![BackedUpPart { bytes: 16_384, checksum: 0x1234_5678 }],
    };
    let (bytes, number) = manifest.encode();
    on_the_page("manifest", &bytes);
    let (first, last) = number.cluster_ids().into_inner();
    let ids = format!("`{first:#x}` to `{last:#x}`");
    assert!(PAGE.contains(&ids), "docs/FORMAT.md should name the cluster ids {ids}");
}

#[test]
fn the_example_on_the_format_page_is_what_is_written() {
    let mut log = Log::new(LogConfig::for_identity(IDENTITY), None);
    log.handle_spare(SpareId(0));
    let records = [
        entry(0xe1, 1, accepted(1, 6), LoggedValue::Inline(b"hello".as_slice().into())),
        value(0xe1, 2, 7, bytes(0xaa, 9)),
        chosen(0xe1, 1, 1, 6),
        image(0xe1, 1, 3),
    ];
    for record in &records {
        log.append(record, Urgency::Now);
    }
    let write = log.poll_write().expect("urgent, and a spare is there");
    assert_eq!(write.buffer.len(), 2 * BLOCK_SIZE);
    let (header, frame) = write.buffer.split_at(BLOCK_SIZE);
    on_the_page("segment header", &header[..68]);
    assert!(is_zero(&header[68..]));
    on_the_page("frame header", &frame[..FRAME_HEADER_SIZE]);
    let mut position = FRAME_HEADER_SIZE;
    for (record, name) in records.iter().zip(["entry", "value", "chosen mark", "image"]) {
        let (parsed, length) = LogRecord::decode(&frame[position..]).expect("just encoded");
        assert_eq!(&parsed, record);
        on_the_page(name, &frame[position..position + length]);
        position += length;
    }
    assert!(is_zero(&frame[position..]));
    log.handle_written(write.buffer);
}
