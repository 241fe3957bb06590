//! The files of a stopped node are damaged: it starts and says so, abstains, and its clients are
//! served through the others; or it finds the last write cut off; or, with a foreign file, it
//! refuses. It never answers wrong, and never ends by itself.
//!
//! What `certus plog verify` says of the damaged files decides what the node has to do.
//! `DAMAGE_CASES` says how many cases there are, `DAMAGE_SEED` which. Half of them are of a node
//! whose log is all it has, half of one with checkpoints, whose parts and facts are damaged, too.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use net::resp::value::Value;

use cluster::random::Random;
use cluster::resp_client::RespClient;
use cluster::{Cluster, certus, refused_start, text};

/// The node whose files are damaged.
const VICTIM: usize = 2;
/// One of each kind.
const CASES: usize = LOG_KINDS.len() + CHECKPOINT_KINDS.len();
const PAGE: u64 = 4096;
/// Of large values, so that the log has several segments.
const LARGE_VALUES: usize = 400;
const LARGE_SIZE: usize = 64 << 10;
const KEYS: usize = 12;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Flip,
    Cut,
    ZeroedPage,
    SwappedPages,
    StalePage,
    MissingSegment,
    EmptiedCore,
    ForeignFile,
    PartFlip,
    PartCut,
    PartZeroedPage,
    MissingPart,
    PointerGone,
    PointerDamaged,
    OneCopy,
}

const LOG_KINDS: [Kind; 8] = [
    Kind::Flip,
    Kind::Cut,
    Kind::ZeroedPage,
    Kind::SwappedPages,
    Kind::StalePage,
    Kind::MissingSegment,
    Kind::EmptiedCore,
    Kind::ForeignFile,
];

/// A foreign segment before the checkpoint's floor is removed unread, so that it is no case here.
const CHECKPOINT_KINDS: [Kind; 14] = [
    Kind::Flip,
    Kind::Cut,
    Kind::ZeroedPage,
    Kind::SwappedPages,
    Kind::StalePage,
    Kind::MissingSegment,
    Kind::EmptiedCore,
    Kind::PartFlip,
    Kind::PartCut,
    Kind::PartZeroedPage,
    Kind::MissingPart,
    Kind::PointerGone,
    Kind::PointerDamaged,
    Kind::OneCopy,
];

impl Kind {
    /// Whether `certus plog verify` alone decides what the node does: images that are damaged make
    /// their entities abstain, and one copy of a fact is enough.
    fn is_decided_by_verify(self) -> bool {
        !matches!(self, Self::PartFlip | Self::PartZeroedPage | Self::OneCopy)
    }
}

/// Facts of which one copy is damaged.
const FACTS: [&str; 4] = ["identity", "boot", "peers/node-0", "core-0/checkpoint"];

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn core_directory(cluster: &Cluster, node: usize) -> PathBuf {
    cluster.nodes[node].data_directory.join("core-0")
}

/// The files of a core's directory whose names are of a kind, in order.
fn files(directory: &Path, is_meant: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut meant: Vec<PathBuf> =
        files.filter(|path| is_meant(path.file_name().unwrap().to_str().unwrap())).collect();
    meant.sort();
    meant
}

/// The segment files of a log, oldest first.
fn segments(directory: &Path) -> Vec<PathBuf> {
    files(directory, |name| name.ends_with(".plog") && !name.starts_with("spare-"))
}

/// The parts of the checkpoint that counts. Until the next start, others may be there.
fn parts(directory: &Path) -> Vec<PathBuf> {
    let mut parts = files(directory, |name| name.ends_with(".ckpt"));
    let number = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap()[..12].to_owned();
    if let Some(newest) = parts.last().map(number) {
        parts.retain(|part| number(part) == newest);
    }
    parts
}

fn copy_directory(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn bytes_of(paths: &[PathBuf]) -> Vec<(PathBuf, u32)> {
    let checksum = |path: &PathBuf| crc32fast::hash(&fs::read(path).unwrap());
    paths.iter().map(|path| (path.clone(), checksum(path))).collect()
}

fn read_page(path: &Path, page: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(PAGE).unwrap()];
    File::open(path).unwrap().read_exact_at(&mut bytes, page * PAGE).unwrap();
    bytes
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

/// A cluster with data, and what its clients must read.
struct Scene {
    cluster: Cluster,
    random: Random,
    expected: BTreeMap<String, String>,
    /// Of these, some are looked at each time.
    expected_large: BTreeMap<String, String>,
    count: i64,
    /// An earlier state of the victim's log.
    early: PathBuf,
    /// Its log as it was stopped: while it abstains it promises nothing, so this stays true.
    whole: PathBuf,
    has_checkpoints: bool,
    /// The victim takes part with images that cannot be read: it cannot be made whole again, since
    /// it has promised something since.
    is_spoiled: bool,
    cases: BTreeMap<String, usize>,
}

impl Scene {
    fn new(seed: u64, has_checkpoints: bool) -> Self {
        let (name, checkpoint, hold) = if has_checkpoints {
            ("damage-checkpoints", "log.checkpoint_log_bytes=8388608", "log.hold_bytes=33554432")
        } else {
            ("damage", "log.checkpoint_log_bytes=536870912", "log.hold_bytes=0")
        };
        let cluster = Cluster::start_with(name, &["--set", checkpoint, "--set", hold]);
        let [early, whole] = ["early", "whole"].map(|name| cluster.directory.join(name));
        let mut scene = Self {
            cluster,
            random: Random::new(seed),
            expected: BTreeMap::new(),
            expected_large: BTreeMap::new(),
            count: 0,
            early,
            whole,
            has_checkpoints,
            is_spoiled: false,
            cases: BTreeMap::new(),
        };
        let mut client = scene.cluster.client(0);
        for round in 0..LARGE_VALUES {
            if round == LARGE_VALUES / 2 {
                // The node runs: what it frees meanwhile is not kept.
                fs::create_dir_all(&scene.early).unwrap();
                for segment in segments(&core_directory(&scene.cluster, VICTIM)) {
                    fs::copy(&segment, scene.early.join(segment.file_name().unwrap())).ok();
                }
            }
            let key = format!("large{}", round % 40);
            // All pages differ, so that one in the place of another is noticed.
            let words = (0..LARGE_SIZE / 16).map(|_| format!("{:016x}", scene.random.next()));
            let value: String = words.collect();
            set(&mut client, &key, &value);
            scene.expected_large.insert(key, value);
        }
        for key in 0..KEYS {
            scene.write(&mut client, key);
        }
        scene
    }

    fn write(&mut self, client: &mut RespClient, key: usize) {
        let (key, value) = (format!("key{key}"), format!("value{}", self.random.next()));
        set(client, &key, &value);
        self.expected.insert(key, value);
    }

    /// Damages a file in some way, `None` when there was nothing to damage.
    fn damage(&mut self, kind: Kind) -> Option<String> {
        let directory = core_directory(&self.cluster, VICTIM);
        let is_of_part = matches!(
            kind,
            Kind::PartFlip | Kind::PartCut | Kind::PartZeroedPage | Kind::MissingPart
        );
        let files = if is_of_part { parts(&directory) } else { segments(&directory) };
        // A start removes what the checkpoint has superseded.
        let wanted = if self.has_checkpoints { 1 } else { 3 };
        assert!(files.len() >= wanted, "{kind:?}: there are files to damage: {files:?}");
        let file = files[self.random.below(files.len())].clone();
        let pages = fs::metadata(&file).unwrap().len() / PAGE;
        let page = |random: &mut Random| {
            u64::try_from(random.below(usize::try_from(pages).unwrap())).unwrap()
        };
        let (first, second) = (page(&mut self.random), page(&mut self.random));
        let within = u64::try_from(self.random.below(usize::try_from(PAGE).unwrap())).unwrap();
        let mut what = format!("{kind:?} of {} at page {first}", file.display());
        match kind {
            Kind::Flip | Kind::PartFlip => {
                let mut bytes = read_page(&file, first);
                let place = usize::try_from(within).unwrap();
                bytes[place] ^= 1 << self.random.below(8);
                write_at(&file, first * PAGE, &bytes);
                what += &format!(" byte {within}");
            }
            Kind::Cut | Kind::PartCut => {
                let file = OpenOptions::new().write(true).open(&file).unwrap();
                file.set_len(first * PAGE + within).unwrap();
            }
            Kind::ZeroedPage | Kind::PartZeroedPage => write_at(&file, first * PAGE, &[0; 4096]),
            Kind::SwappedPages => {
                let [one, other] = [first, second].map(|page| read_page(&file, page));
                write_at(&file, second * PAGE, &one);
                write_at(&file, first * PAGE, &other);
                what += &format!(" with {second}");
            }
            Kind::StalePage => {
                // The newest segment of that time was not full.
                let early = segments(&self.early).pop()?;
                let file = directory.join(early.file_name()?);
                if !file.exists() {
                    return None; // it was freed
                }
                let is_stale = |page: &u64| read_page(&early, *page) != read_page(&file, *page);
                let stale: Vec<u64> = (0..pages).filter(is_stale).collect();
                let page = *stale.get(self.random.below(stale.len().max(1)))?;
                write_at(&file, page * PAGE, &read_page(&early, page));
                what = format!("{kind:?} of {} at page {page}", file.display());
            }
            Kind::MissingSegment => {
                fs::remove_file(&file).unwrap();
                what = format!("{kind:?}: {}", file.display());
            }
            Kind::EmptiedCore => {
                for file in self::files(&directory, |_| true) {
                    fs::remove_file(file).unwrap();
                }
                what = format!("{kind:?}: {}", directory.display());
            }
            Kind::MissingPart => {
                fs::remove_file(&file).unwrap();
                what = format!("{kind:?}: {}", file.display());
            }
            Kind::PointerGone | Kind::PointerDamaged => {
                for name in ["checkpoint", "checkpoint.copy"] {
                    let path = directory.join(name);
                    match kind {
                        Kind::PointerGone => fs::remove_file(path).unwrap(),
                        _ => self.flip_somewhere(&path),
                    }
                }
                what = format!("{kind:?}");
            }
            Kind::OneCopy => {
                let fact = FACTS[self.random.below(FACTS.len())];
                let copy = ["", ".copy"][self.random.below(2)];
                let data = &self.cluster.nodes[VICTIM].data_directory;
                let path = data.join(format!("{fact}{copy}"));
                self.flip_somewhere(&path);
                what = format!("{kind:?}: {fact}{copy}");
            }
            Kind::ForeignFile => {
                let name = file.file_name().unwrap();
                let foreign = core_directory(&self.cluster, 0).join(name);
                if !foreign.exists() {
                    return None;
                }
                fs::copy(foreign, &file).unwrap();
            }
        }
        Some(what)
    }

    fn flip_somewhere(&mut self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        let place = self.random.below(bytes.len());
        bytes[place] ^= 1 << self.random.below(8);
        fs::write(path, bytes).unwrap();
    }

    /// One case: from a node that was stopped to one that is stopped again, its log whole.
    fn case(&mut self, kind: Kind) {
        if self.has_checkpoints && self.random.below(2) == 0 {
            // The log behind it is short then.
            let address = self.cluster.nodes[VICTIM].client.to_string();
            let done = certus(&["checkpoint", "--addr", &address]);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        self.cluster.kill(VICTIM);
        let directory = core_directory(&self.cluster, VICTIM);
        copy_directory(&directory, &self.whole);
        let Some(what) = self.damage(kind) else {
            self.restart_whole();
            return;
        };
        let data = self.cluster.nodes[VICTIM].data_directory.display().to_string();
        let verified = certus(&["plog", "verify", &data]);
        let verdict = verified.status.code().unwrap();
        let said_by_verify = String::from_utf8_lossy(&verified.stdout).into_owned();
        let outcome = if kind == Kind::ForeignFile {
            let (status, said) = refused_start(&self.cluster.nodes[VICTIM].config_file);
            assert_eq!(status, 4, "{what}: {said}");
            assert!(said.contains("is not this log's"), "{what}: {said}");
            "refused"
        } else {
            self.start_and_ask(kind, &what, verdict, &said_by_verify)
        };
        println!("{outcome}: {what}");
        *self.cases.entry(format!("{kind:?} {outcome}")).or_default() += 1;
        if outcome.starts_with("took part") {
            return; // it runs on with what it promised since
        }
        self.restart_whole();
    }

    /// Puts the whole log back. What abstained meanwhile has promised nothing, so that is no older
    /// copy; its note goes with the rest of the directory.
    fn restart_whole(&mut self) {
        copy_directory(&self.whole, &core_directory(&self.cluster, VICTIM));
        self.cluster.restart(VICTIM);
        self.cluster.wait_until_ready(VICTIM);
    }

    fn start_and_ask(
        &mut self,
        kind: Kind,
        what: &str,
        verdict: i32,
        verified: &str,
    ) -> &'static str {
        let directory = core_directory(&self.cluster, VICTIM);
        let log_and_parts =
            || bytes_of(&[segments(&directory), files(&directory, is_part)].concat());
        let before = log_and_parts();
        let log_file = self.cluster.nodes[VICTIM].log_file.clone();
        let said_before = fs::read(&log_file).unwrap().len();
        self.cluster.restart(VICTIM);
        self.cluster.wait_until_ready(VICTIM);
        self.ask(what);
        let said = fs::read(&log_file).unwrap();
        let said = String::from_utf8_lossy(&said[said_before..]).into_owned();
        let abstains = said.contains("this core abstains: it votes for nothing");
        if kind.is_decided_by_verify() {
            assert_eq!(abstains, verdict == 1, "{what}: verify said {verdict}, {verified}\n{said}");
        } else {
            assert!(!abstains || verdict == 1, "{what}: verify said {verdict}, {verified}\n{said}");
        }
        if kind == Kind::OneCopy {
            assert!(!abstains && verdict == 1, "{what}: verify said {verdict}, {verified}\n{said}");
            let data = self.cluster.nodes[VICTIM].data_directory.display().to_string();
            let again = certus(&["plog", "verify", &data]);
            assert!(again.status.success(), "{what}: {}", String::from_utf8_lossy(&again.stdout));
            return "took part";
        }
        if !abstains && verdict == 1 {
            self.is_spoiled = true;
            return "took part without some images";
        }
        if !abstains {
            let is_torn = said.contains("the last write before the stop was cut off");
            let is_said = verified.contains("torn tail: ");
            assert_eq!(is_torn, is_said, "{what}: verify said {verdict}, {verified}\n{said}");
            return "took part";
        }
        let words: &[&str] = if said.contains("the log is damaged") {
            &["file=", "offset=", "reason=", "good_frames_go_on_in="]
        } else if said.contains("the checkpoint is damaged") {
            &["reason="]
        } else if said.contains("the log ends before a segment") {
            &["reached=", "segments="]
        } else {
            // A checkpoint says that there was more of it.
            &["the log ends before the record", "last_record=", "reached=", "checkpoint="]
        };
        for word in words {
            assert!(said.contains(word), "{what}: {word}: {said}");
        }
        self.check_abstention(what);
        // Whatever is done to the log, the next start abstains, too.
        self.cluster.kill(VICTIM);
        let after = log_and_parts();
        // What a checkpoint has superseded goes before the log is read.
        let is_kept = if self.has_checkpoints {
            let kept = after.iter().all(|file| before.contains(file));
            kept && after.is_empty() == before.is_empty()
        } else {
            after == before
        };
        assert!(is_kept, "{what}: a damaged log is never written: {before:?} {after:?}");
        for file in files(&self.whole, |_| true) {
            fs::copy(&file, directory.join(file.file_name().unwrap())).unwrap();
        }
        self.cluster.restart(VICTIM);
        self.cluster.wait_until_ready(VICTIM);
        self.ask(what);
        self.check_abstention(what);
        self.cluster.kill(VICTIM);
        "abstained"
    }

    /// Whether the victim says what it does, and did not take part.
    fn check_abstention(&mut self, what: &str) {
        let mut client = self.cluster.client(VICTIM);
        let status = text(&client.ask(&["CERTUS", "STATUS"]).unwrap());
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let core = &status["cores"][0];
        let reason = core["abstains"].as_str().unwrap_or_default();
        let names_a_file = [".plog at byte ", ".ckpt at byte "].iter().any(|n| reason.contains(n));
        assert!(names_a_file, "{what}: {status}");
        let shard = &core["shard"];
        assert_eq!(shard["gauges"]["abstaining_cores"], 1, "{what}: {status}");
        assert_eq!(shard["gauges"]["lsn_appended"], shard["gauges"]["lsn_durable"]);
        assert!(shard["counters"]["relayed"].as_u64().unwrap() > 0, "{what}: {status}");
        for counter in ["pre_authorised", "prepares", "read_checks", "catch_ups", "local_reads"] {
            assert_eq!(shard["counters"][counter], 0, "{what}: {counter}: {status}");
        }
        let entity = format!("{:?}", client.ask(&["CERTUS", "ENTITY", "key1"]).unwrap());
        assert!(entity.contains("abstains"), "{what}: {entity}");
        for name in ["abstains", "abstains.copy"] {
            assert!(core_directory(&self.cluster, VICTIM).join(name).exists(), "{what}: {name}");
        }
    }

    /// Everything is answered right at the victim.
    fn ask(&mut self, what: &str) {
        self.cluster.nodes[VICTIM].check_running();
        let mut client = self.cluster.client(VICTIM);
        let mut other = self.cluster.client(0);
        for (key, value) in &self.expected {
            let read = client.ask(&["GET", key]).unwrap();
            assert_eq!(text(&read), *value, "{what}: {key}");
        }
        for _ in 0..3 {
            let key = format!("large{}", self.random.below(40));
            let read = text(&client.ask(&["GET", &key]).unwrap());
            assert!(read == self.expected_large[&key], "{what}: {key}: {read:.60}");
        }
        for writer in [&mut client, &mut other] {
            let key = self.random.below(KEYS);
            self.write(writer, key);
        }
        for (key, value) in &self.expected {
            let reads = [&mut client, &mut other].map(|reader| reader.ask(&["GET", key]).unwrap());
            assert!(reads.iter().all(|read| text(read) == *value), "{what}: {key}: {reads:?}");
        }
        self.count += 1;
        let id = format!("count-{}", self.count);
        for _ in 0..2 {
            let counted = client.ask(&["CERTUS", "ONCE", &id, "INCR", "count"]).unwrap();
            assert_eq!(counted, Value::Integer(self.count), "{what}: a request twice");
        }
    }
}

fn set(client: &mut RespClient, key: &str, value: &str) {
    let reply = client.ask(&["SET", key, value]).unwrap();
    assert!(!matches!(reply, Value::Error(_)), "SET {key}: {reply:?}");
}

fn is_part(name: &str) -> bool {
    name.ends_with(".ckpt")
}

/// As many cases as there are to be of one kind of node, out of `kinds` in turn.
fn run(has_checkpoints: bool, kinds: &[Kind]) {
    let all = usize::try_from(number("DAMAGE_CASES", CASES as u64)).unwrap();
    let cases = if all == CASES { kinds.len() } else { all.div_ceil(2) };
    let seed = number("DAMAGE_SEED", 1);
    let mut scene = Scene::new(seed, has_checkpoints);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for case in 0..cases {
        scene.case(kinds[case % kinds.len()]);
        if scene.is_spoiled || case + 1 == cases {
            scene.cases.into_iter().for_each(|(name, count)| {
                *outcomes.entry(name).or_default() += count;
            });
            if !scene.is_spoiled {
                let keys: Vec<String> = scene.expected.keys().cloned().collect();
                scene.cluster.wait_until_equal(&keys);
            }
            drop(scene.cluster);
            if case + 1 == cases {
                break;
            }
            scene = Scene::new(seed + u64::try_from(case).unwrap() + 1, has_checkpoints);
        }
    }
    println!("seed {seed}, {cases} cases: {outcomes:?}");
    let done: usize = outcomes.values().sum();
    assert!(done * 10 >= cases * 8, "{done} of {cases} cases were none");
    let abstained: usize = (outcomes.iter())
        .filter(|(name, _)| name.ends_with("abstained"))
        .map(|(_, count)| count)
        .sum();
    assert!(abstained * 4 >= cases, "{abstained} of {cases} damaged a log: {outcomes:?}");
}

#[test]
fn a_node_with_a_damaged_log_starts_and_its_clients_are_answered_right() {
    run(false, &LOG_KINDS);
}

#[test]
fn a_node_with_a_damaged_checkpoint_log_or_fact_starts_and_its_clients_are_answered_right() {
    run(true, &CHECKPOINT_KINDS);
}
