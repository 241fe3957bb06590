//! The files of a stopped node are damaged: it starts and says so, puts the log aside, and rejoins
//! with another one, while its clients are served through the others; or it finds the last write
//! cut off; or, with a foreign file, it refuses. It never answers wrong, and never ends by itself.
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
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use net::resp::value::Value;

use cluster::random::Random;
use cluster::resp_client::RespClient;
use cluster::{Cluster, certus, number, refused_start, text, wait_until};

/// The node whose files are damaged.
const VICTIM: usize = 2;
/// One of each kind.
const CASES: usize = LOG_KINDS.len() + CHECKPOINT_KINDS.len();
const PAGE: u64 = 4096;
/// Of large values, so that the log has several segments.
const LARGE_VALUES: usize = 400;
/// After a log was begun anew.
const MORE_LARGE_VALUES: usize = 200;
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
    /// their entities abstain until the next start, and one copy of a fact is enough.
    fn is_decided_by_verify(self) -> bool {
        !matches!(self, Self::PartFlip | Self::PartZeroedPage | Self::OneCopy)
    }
}

/// Facts of which one copy is damaged.
const FACTS: [&str; 4] = ["identity", "boot", "peers/node-0", "core-0/checkpoint"];

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

/// The segments of a log alone, in the place of what was copied before. The node runs: what it
/// frees meanwhile is not kept.
fn copy_segments(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    fs::create_dir_all(to).unwrap();
    for segment in segments(from) {
        fs::copy(&segment, to.join(segment.file_name().unwrap())).ok();
    }
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
    /// The first segments of another node's log, which frees them in the long run.
    foreign: PathBuf,
    /// Its log as it was stopped, for a start that changed nothing.
    whole: PathBuf,
    has_checkpoints: bool,
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
        let [early, foreign, whole] =
            ["early", "foreign", "whole"].map(|name| cluster.directory.join(name));
        let mut scene = Self {
            cluster,
            random: Random::new(seed),
            expected: BTreeMap::new(),
            expected_large: BTreeMap::new(),
            count: 0,
            early,
            foreign,
            whole,
            has_checkpoints,
            cases: BTreeMap::new(),
        };
        let mut client = scene.cluster.client(0);
        scene.write_large(&mut client, LARGE_VALUES);
        for key in 0..KEYS {
            scene.write(&mut client, key);
        }
        copy_segments(&core_directory(&scene.cluster, 0), &scene.foreign);
        scene
    }

    fn write_large(&mut self, client: &mut RespClient, count: usize) {
        for round in 0..count {
            if round == count / 2 {
                copy_segments(&core_directory(&self.cluster, VICTIM), &self.early);
            }
            let key = format!("large{}", round % 40);
            // All pages differ, so that one in the place of another is noticed.
            let words = (0..LARGE_SIZE / 16).map(|_| format!("{:016x}", self.random.next()));
            let value: String = words.collect();
            set(client, &key, &value);
            self.expected_large.insert(key, value);
        }
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
        let is_of_pointer = matches!(kind, Kind::PointerGone | Kind::PointerDamaged);
        if (is_of_part || is_of_pointer) && !directory.join("checkpoint").exists() {
            // The case before left none, and the node has adopted no other yet.
            return None;
        }
        let files = if is_of_part { parts(&directory) } else { segments(&directory) };
        // A start removes what the checkpoint has superseded.
        let wanted = if self.has_checkpoints { 1 } else { 2 };
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
                        // It was killed between the two copies of its first.
                        _ if !path.exists() => {}
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
                if !path.exists() {
                    return None; // there is no checkpoint yet, or one copy of its pointer
                }
                self.flip_somewhere(&path);
                what = format!("{kind:?}: {fact}{copy}");
            }
            Kind::ForeignFile => {
                let name = file.file_name().unwrap();
                let foreign = self.foreign.join(name);
                if !foreign.exists() {
                    return None; // its log had not come so far
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

    /// One case: from a node that takes part in everything to one that does so again.
    fn case(&mut self, kind: Kind) {
        if self.has_checkpoints && self.random.below(2) == 0 {
            // The log behind it is short then.
            self.cluster.nodes[VICTIM].write_checkpoint();
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
        match outcome {
            "refused" => self.restart_whole(),
            // It runs on with what it promised since.
            "took part" => {}
            "took part without some images" => {
                // What it cannot read back is noted once it is asked for it, and the next start
                // begins another log. Images that it does not need any more go with a checkpoint.
                let mut client = self.cluster.client(VICTIM);
                for (key, value) in self.expected.iter().chain(&self.expected_large) {
                    assert!(text(&client.ask(&["GET", key]).unwrap()) == *value, "{what}: {key}");
                }
                self.cluster.nodes[VICTIM].write_checkpoint();
                self.cluster.kill(VICTIM);
                self.cluster.restart(VICTIM);
                self.cluster.wait_until_whole(VICTIM);
                self.ask(&what);
                self.grow();
            }
            _ => self.grow(),
        }
    }

    /// Lets a log that was begun anew have several files.
    fn grow(&mut self) {
        let mut client = self.cluster.client(0);
        self.write_large(&mut client, MORE_LARGE_VALUES);
        if self.has_checkpoints {
            self.cluster.nodes[VICTIM].write_checkpoint();
        }
    }

    /// Puts the whole log back, which nothing was done to since.
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
        let log_file = self.cluster.nodes[VICTIM].log_file.clone();
        let said_before = fs::read(&log_file).unwrap().len();
        self.cluster.restart(VICTIM);
        self.cluster.wait_until_ready(VICTIM);
        self.ask(what);
        let said = fs::read(&log_file).unwrap();
        let said = String::from_utf8_lossy(&said[said_before..]).into_owned();
        assert!(!said.contains("this core abstains: it votes for nothing"), "{what}: {said}");
        let rejoins = said.contains("this core rejoins: ");
        if kind.is_decided_by_verify() {
            assert_eq!(rejoins, verdict == 1, "{what}: verify said {verdict}, {verified}\n{said}");
        } else {
            assert!(!rejoins || verdict == 1, "{what}: verify said {verdict}, {verified}\n{said}");
        }
        if kind == Kind::OneCopy {
            assert!(!rejoins && verdict == 1, "{what}: verify said {verdict}, {verified}\n{said}");
            let data = self.cluster.nodes[VICTIM].data_directory.display().to_string();
            let again = certus(&["plog", "verify", &data]);
            assert!(again.status.success(), "{what}: {}", String::from_utf8_lossy(&again.stdout));
            return "took part";
        }
        if !rejoins && verdict == 1 {
            return "took part without some images";
        }
        if !rejoins {
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
        self.cluster.wait_until_whole(VICTIM);
        self.ask(what);
        let directory = core_directory(&self.cluster, VICTIM);
        wait_until("the note of the loss to go", || !directory.join("abstains").exists());
        let data = self.cluster.nodes[VICTIM].data_directory.display().to_string();
        let verified = certus(&["plog", "verify", &data]);
        let said = String::from_utf8_lossy(&verified.stdout);
        assert!(verified.status.success(), "{what}: its new log is whole: {said}");
        "rejoined"
    }

    /// Waits until the victim takes part in everything again.
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

/// As many cases as there are to be of one kind of node, out of `kinds` in turn.
fn run(has_checkpoints: bool, kinds: &[Kind]) {
    let all = usize::try_from(number("DAMAGE_CASES", CASES as u64)).unwrap();
    let cases = if all == CASES { kinds.len() } else { all.div_ceil(2) };
    let seed = number("DAMAGE_SEED", 1);
    let mut scene = Scene::new(seed, has_checkpoints);
    for case in 0..cases {
        scene.case(kinds[case % kinds.len()]);
    }
    let keys: Vec<String> = scene.expected.keys().cloned().collect();
    scene.cluster.wait_until_equal(&keys);
    let outcomes = scene.cases;
    println!("seed {seed}, {cases} cases: {outcomes:?}");
    let done: usize = outcomes.values().sum();
    assert!(done * 10 >= cases * 8, "{done} of {cases} cases were none");
    let rejoined: usize = (outcomes.iter())
        .filter(|(name, _)| name.ends_with("rejoined"))
        .map(|(_, count)| count)
        .sum();
    assert!(rejoined * 4 >= cases, "{rejoined} of {cases} damaged a log: {outcomes:?}");
}

#[test]
fn a_node_with_a_damaged_log_starts_and_its_clients_are_answered_right() {
    run(false, &LOG_KINDS);
}

#[test]
fn a_node_with_a_damaged_checkpoint_log_or_fact_starts_and_its_clients_are_answered_right() {
    run(true, &CHECKPOINT_KINDS);
}
