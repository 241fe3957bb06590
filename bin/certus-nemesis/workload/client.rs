//! One client: asks for this and that, and notes what it was told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::resp::value::Value;

use crate::check::Violation;
use crate::history::{Deed, NEVER, NOTHING, Operation, Unknown};
use crate::random::Random;
use crate::resp_client::RespClient;
use crate::workload::keys::{self, Kind, name_of, second_name_of};
use crate::workload::{Shared, value};

/// How long a node may take to answer: longer than it may take to give up itself.
const TIMEOUT: Duration = Duration::from_secs(8);

/// How long a request with an id is repeated.
const RETRIED_FOR: Duration = Duration::from_secs(30);

/// Before it asks again what was refused, or reaches again for what was not reached.
const PAUSE_MS: usize = 20;

/// Refusals: nothing happened.
const REFUSALS: [&str; 4] = ["CLUSTERDOWN", "TRYAGAIN", "BUSY", "MISCONF"];

/// What clients noted.
#[derive(Debug, Default)]
pub struct Record {
    /// What was answered, or may have changed something.
    pub operations: Vec<Operation>,
    /// Requests without an answer.
    pub unknowns: Vec<Unknown>,
    /// Answers that no command gives.
    pub strange: Vec<Violation>,
    /// How often nodes refused, and were not reached.
    pub refused: u64,
}

/// What became of a command.
#[derive(Debug)]
pub enum Told {
    /// It was answered.
    Reply(Value),
    /// It was not done, and never will be.
    NotDone,
    /// It may be done, or not.
    Unknown,
}

/// A command, and when.
#[derive(Debug)]
struct Asked {
    told: Told,
    called: u64,
    ended: u64,
}

/// One of the clients.
#[derive(Debug)]
pub struct Client {
    id: u16,
    random: Random,
    addresses: Vec<SocketAddr>,
    /// With the node it asked last. One to a node that it turned away from would be found ended
    /// long after the fault that ended it.
    connection: Option<(usize, RespClient)>,
    /// The node it asks next.
    node: usize,
    /// The node it asked last.
    asked_node: usize,
    /// Requests until it turns to another node.
    left_here: usize,
    /// Its numbers, for values and ids.
    numbers: u64,
    shared: Arc<Shared>,
    record: Record,
}

impl Record {
    /// Takes in what another client noted.
    pub fn extend(&mut self, other: Self) {
        self.operations.extend(other.operations);
        self.unknowns.extend(other.unknowns);
        self.strange.extend(other.strange);
        self.refused += other.refused;
    }
}

impl Client {
    /// A client that is not connected yet. `id` is at least 1, and nobody else's.
    pub fn new(id: u16, addresses: Vec<SocketAddr>, seed: u64, shared: Arc<Shared>) -> Self {
        assert!(id > 0, "value 0 stands for nothing");
        let random = Random::new(seed ^ (u64::from(id) << 32));
        let node = usize::from(id) % addresses.len();
        Self {
            id,
            random,
            addresses,
            connection: None,
            node,
            asked_node: node,
            left_here: 0,
            numbers: 0,
            shared,
            record: Record::default(),
        }
    }

    /// Asks until it is told to stop.
    pub fn run(&mut self) {
        while !self.shared.is_over() {
            if self.left_here == 0 {
                self.node = self.random.below(self.addresses.len());
                self.left_here = 20 + self.random.below(200);
            }
            self.left_here -= 1;
            let key = keys::draw(&mut self.random);
            match Kind::of(key) {
                Kind::Register => self.use_register(key),
                Kind::Pair => self.use_pair(key),
                Kind::Versioned => self.use_versioned(key),
                Kind::Counter => self.use_counter(key),
            }
        }
    }

    /// What it noted.
    pub fn into_record(self) -> Record {
        self.record
    }

    fn use_register(&mut self, key: u32) {
        let name = name_of(key).into_bytes();
        match self.random.below(100) {
            0..50 => {
                self.read(key);
            }
            50..75 => {
                let number = self.new_number();
                let words = [b"SET".to_vec(), name, value::render(number)];
                let asked = self.ask_perhaps_with_id(&words);
                self.note_write(key, number, &asked, |reply| match reply {
                    reply if *reply == Value::OK => Ok(Some(None)),
                    other => Err(format!("SET was answered {other:?}")),
                });
            }
            75..88 => {
                let number = self.new_number();
                let words = [b"SET".to_vec(), name, value::render(number), b"GET".to_vec()];
                let asked = self.ask_perhaps_with_id(&words);
                self.note_write(key, number, &asked, |old| Ok(Some(Some(value::parse(old)?))));
            }
            _ => {
                let Some(old) = self.read(key) else { return };
                let number = self.new_number();
                let mut words = vec![b"SET".to_vec(), name, value::render(number)];
                if old == NOTHING {
                    words.push(b"NX".to_vec());
                } else {
                    words.extend([b"IFEQ".to_vec(), value::render(old)]);
                }
                let asked = self.ask_perhaps_with_id(&words);
                self.note_write(key, number, &asked, |reply| match reply {
                    Value::Null => Ok(None),
                    reply if *reply == Value::OK => Ok(Some(Some(old))),
                    other => Err(format!("SET on condition was answered {other:?}")),
                });
                if matches!(asked.told, Told::Reply(Value::Null)) {
                    self.note(key, asked.called, asked.ended, Deed::Differed(old));
                }
            }
        }
    }

    fn use_pair(&mut self, key: u32) {
        if self.random.below(2) == 0 {
            self.read(key);
            return;
        }
        let number = self.new_number();
        let text = value::render(number);
        let names = [name_of(key), second_name_of(key)].map(String::into_bytes);
        let [one, two] = names;
        let asked = self.ask_perhaps_with_id(&[b"MSET".to_vec(), one, text.clone(), two, text]);
        self.note_write(key, number, &asked, |reply| match reply {
            reply if *reply == Value::OK => Ok(Some(None)),
            other => Err(format!("MSET was answered {other:?}")),
        });
    }

    fn use_versioned(&mut self, key: u32) {
        let Some((version, called, _)) = self.read_version(key) else { return };
        let Some(old) = self.read(key) else { return };
        let Some((again, _, ended)) = self.read_version(key) else { return };
        if version != again {
            return;
        }
        self.note(key, called, ended, Deed::Bound { version, value: old });
        let number = self.new_number();
        let words = [
            b"CERTUS".to_vec(),
            b"CAS".to_vec(),
            name_of(key).into_bytes(),
            version.to_string().into_bytes(),
            value::render(number),
        ];
        let asked = self.ask_perhaps_with_id(&words);
        let was_set = self.note_write(key, number, &asked, |reply| match reply {
            Value::Integer(0) => Ok(None),
            Value::Integer(1) => Ok(Some(Some(old))),
            other => Err(format!("CERTUS CAS was answered {other:?}")),
        });
        if was_set
            && let Some(Operation { deed: Deed::Wrote { on_version, .. }, .. }) =
                self.record.operations.last_mut()
        {
            *on_version = Some(version);
        }
    }

    fn use_counter(&mut self, key: u32) {
        if self.random.below(3) == 0 {
            self.read(key);
            return;
        }
        let words = [b"INCR".to_vec(), name_of(key).into_bytes()];
        // Mostly with an id, so that it is exact how many there must be.
        let asked =
            if self.random.below(8) > 0 { self.ask_with_id(&words) } else { self.ask(&words) };
        match &asked.told {
            Told::Reply(reply) => match count_in(reply) {
                Ok(count) => self.note(key, asked.called, asked.ended, Deed::Added(count)),
                Err(what) => self.note_strange(key, asked.called, what),
            },
            Told::NotDone => {}
            Told::Unknown => self.note(key, asked.called, NEVER, Deed::MayHaveAdded),
        }
    }

    /// Reads a key at the node it is turned to: its value or count.
    pub fn read(&mut self, key: u32) -> Option<u64> {
        let name = name_of(key).into_bytes();
        let kind = Kind::of(key);
        let words = match kind {
            Kind::Pair => vec![b"MGET".to_vec(), name, second_name_of(key).into_bytes()],
            _ => vec![b"GET".to_vec(), name],
        };
        let asked = self.ask(&words);
        let Told::Reply(reply) = &asked.told else { return None };
        let read = match kind {
            Kind::Counter => count_in(reply),
            Kind::Pair => pair_in(reply),
            Kind::Register | Kind::Versioned => value::parse(reply),
        };
        match read {
            Ok(read) => {
                let deed = if kind == Kind::Counter { Deed::Count(read) } else { Deed::Read(read) };
                self.note(key, asked.called, asked.ended, deed);
                Some(read)
            }
            Err(what) => {
                self.note_strange(key, asked.called, what);
                None
            }
        }
    }

    fn read_version(&mut self, key: u32) -> Option<(u64, u64, u64)> {
        let words = [b"CERTUS".to_vec(), b"VERSION".to_vec(), name_of(key).into_bytes()];
        let asked = self.ask(&words);
        let Told::Reply(reply) = &asked.told else { return None };
        match count_in(reply) {
            Ok(version) => {
                self.note(key, asked.called, asked.ended, Deed::Version(version));
                Some((version, asked.called, asked.ended))
            }
            Err(what) => {
                self.note_strange(key, asked.called, what);
                None
            }
        }
    }

    /// Notes what became of the write of value `number`. `replaced` reads the reply: whether it was
    /// written, and what it replaced if that is known.
    fn note_write(
        &mut self,
        key: u32,
        number: u64,
        asked: &Asked,
        replaced: impl Fn(&Value) -> Result<Option<Option<u64>>, String>,
    ) -> bool {
        let Asked { told, called, ended } = asked;
        match told {
            Told::Reply(reply) => match replaced(reply) {
                Ok(Some(replaced)) => {
                    let deed = Deed::Wrote { value: number, replaced, on_version: None };
                    self.note(key, *called, *ended, deed);
                    return true;
                }
                Ok(None) => {}
                Err(what) => self.note_strange(key, *called, what),
            },
            Told::NotDone => {}
            Told::Unknown => self.note(key, *called, NEVER, Deed::MayHaveWritten(number)),
        }
        false
    }

    fn note(&mut self, key: u32, called: u64, ended: u64, deed: Deed) {
        let node = u8::try_from(self.asked_node).expect("few nodes");
        let client = self.id;
        self.record.operations.push(Operation { client, node, key, called, ended, deed });
    }

    fn note_strange(&mut self, key: u32, at: u64, what: String) {
        let what = format!("client {} was told by node {}: {what}", self.id, self.asked_node);
        self.record.strange.push(Violation { key: Some(key), rule: "replies", what, at });
    }

    fn new_number(&mut self) -> u64 {
        self.numbers += 1;
        (u64::from(self.id) << 40) | self.numbers
    }

    fn ask_perhaps_with_id(&mut self, words: &[Vec<u8>]) -> Asked {
        if self.random.below(2) == 0 { self.ask_with_id(words) } else { self.ask(words) }
    }

    /// Sends a command once.
    fn ask(&mut self, words: &[Vec<u8>]) -> Asked {
        let called = self.shared.now();
        let told = self.attempt(words);
        if !matches!(told, Told::Reply(_)) {
            self.go_elsewhere();
        }
        Asked { told, called, ended: self.shared.now() }
    }

    /// Sends a command under an id until it is answered, at one node after the other.
    fn ask_with_id(&mut self, words: &[Vec<u8>]) -> Asked {
        let id = format!("{:x}", self.new_number());
        let mut all = vec![b"CERTUS".to_vec(), b"ONCE".to_vec(), id.into_bytes()];
        all.extend_from_slice(words);
        let called = self.shared.now();
        let deadline = Instant::now() + RETRIED_FOR;
        let mut may_be_done = false;
        loop {
            match self.attempt(&all) {
                told @ Told::Reply(_) => return Asked { told, called, ended: self.shared.now() },
                Told::NotDone => {}
                Told::Unknown => may_be_done = true,
            }
            if Instant::now() > deadline {
                // One that never was under way is not done; what was once sent may still be.
                let told = if may_be_done { Told::Unknown } else { Told::NotDone };
                return Asked { told, called, ended: self.shared.now() };
            }
            self.go_elsewhere();
        }
    }

    /// A while after a failure, at another node.
    fn go_elsewhere(&mut self) {
        let pause = self.random.below(PAUSE_MS);
        std::thread::sleep(Duration::from_millis(u64::try_from(pause).expect("small")));
        let further = 1 + self.random.below(self.addresses.len().max(2) - 1);
        self.node = (self.node + further) % self.addresses.len();
    }

    fn attempt(&mut self, words: &[Vec<u8>]) -> Told {
        let called = self.shared.now();
        self.asked_node = self.node;
        if self.connection.as_ref().is_none_or(|(node, _)| *node != self.node) {
            let connected = RespClient::connect(self.addresses[self.node], TIMEOUT);
            self.connection = connected.ok().map(|client| (self.node, client));
        }
        let Some((_, client)) = &mut self.connection else {
            self.record.refused += 1;
            return Told::NotDone;
        };
        let reply = match client.ask(words) {
            Ok(reply) => reply,
            Err(error) => {
                self.connection = None;
                return self.unknown(called, words, &error.to_string());
            }
        };
        let Value::Error(error) = &reply else {
            self.shared.count_answer();
            return Told::Reply(reply);
        };
        if REFUSALS.contains(&error.word()) {
            self.record.refused += 1;
            return Told::NotDone;
        }
        if error.word() == "UNKNOWN" {
            return self.unknown(called, words, "UNKNOWN");
        }
        let what = format!("node {} answered {} with {reply:?}", self.node, shown(words));
        self.record.strange.push(Violation { key: None, rule: "replies", what, at: called });
        Told::NotDone
    }

    fn unknown(&mut self, called: u64, words: &[Vec<u8>], why: &str) -> Told {
        let node = u8::try_from(self.node).expect("few nodes");
        let what = format!("{}: {why}", shown(words));
        let ended = self.shared.now();
        self.record.unknowns.push(Unknown { node, called, ended, what });
        Told::Unknown
    }
}

/// A command's first words.
fn shown(words: &[Vec<u8>]) -> String {
    let words = words.iter().take(5).map(|word| word[..word.len().min(40)].escape_ascii());
    words.map(|word| word.to_string()).collect::<Vec<_>>().join(" ")
}

fn count_in(reply: &Value) -> Result<u64, String> {
    let count = match reply {
        Value::Null => Some(0),
        Value::Integer(count) => u64::try_from(*count).ok(),
        Value::Bulk(digits) => std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()),
        _ => None,
    };
    count.ok_or_else(|| format!("{reply:?} is no count"))
}

fn pair_in(reply: &Value) -> Result<u64, String> {
    let Value::Array(pair) = reply else { return Err(format!("{reply:?} is no pair")) };
    let [one, two] = &pair[..] else { return Err(format!("{} values of two", pair.len())) };
    let (one, two) = (value::parse(one)?, value::parse(two)?);
    if one == two {
        return Ok(one);
    }
    Err(format!("values {one} and {two} of a pair that always changes together"))
}
