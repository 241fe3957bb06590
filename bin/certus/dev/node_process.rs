//! A node as a child of this process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::dev::layout::NodePlace;
use crate::dev::process::Process;

/// How many lines of a node's log are shown when it ends too early.
const SHOWN_LINES: usize = 12;

/// Most bytes of a log that are read for them.
const SHOWN_BYTES: u64 = 64 << 10;

/// Begins the name of a variable that replaces a configuration key: what is right for the one node
/// somebody set it for is wrong for the others.
const OVERRIDE_PREFIX: &str = "CERTUS_";

/// A node that was started here.
#[derive(Debug)]
pub struct NodeProcess {
    /// Where it is.
    pub place: NodePlace,
    child: Child,
    /// Length of its log before it was started.
    log_begin: u64,
    /// How it ended, once that is known.
    ended: Option<ExitStatus>,
}

/// The command that starts the node at `place` alone.
pub fn command(certusd: &Path, place: &NodePlace) -> Vec<String> {
    let words = [certusd.as_os_str(), "--config".as_ref(), place.config_file.as_os_str()];
    words.map(|word| word.to_string_lossy().into_owned()).into()
}

impl NodeProcess {
    /// Starts the node, its output appended to its log. It does not hear the terminal's Ctrl-C:
    /// who started it decides when it stops.
    ///
    /// # Errors
    ///
    /// When the log cannot be written or the program not be run.
    pub fn start(certusd: &Path, place: &NodePlace) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(&place.log_file)?;
        let log_begin = log.metadata()?.len();
        let words = command(certusd, place);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(OVERRIDE_PREFIX) {
                command.env_remove(name);
            }
        }
        let child = command.spawn()?;
        Ok(Self { place: place.clone(), child, log_begin, ended: None })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended; `None` while it runs.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Whether [`NodeProcess::ended`] has said that it ended.
    pub fn is_known_to_have_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The process, if it runs.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn process(&mut self) -> io::Result<Option<Process>> {
        // A child that was not waited for keeps its id, so this cannot be somebody else's.
        match self.ended()? {
            Some(_) => Ok(None),
            None => Process::open(self.child.id()),
        }
    }

    /// The last lines that the node wrote since it was started.
    pub fn last_lines(&self) -> Vec<String> {
        let read = || -> io::Result<String> {
            let mut log = File::open(&self.place.log_file)?;
            let begin = log.metadata()?.len().saturating_sub(SHOWN_BYTES).max(self.log_begin);
            log.seek(SeekFrom::Start(begin))?;
            let mut bytes = Vec::new();
            log.take(SHOWN_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        match read() {
            Ok(text) => {
                let lines: Vec<&str> = text.lines().collect();
                let begin = lines.len().saturating_sub(SHOWN_LINES);
                lines[begin..].iter().map(|line| (*line).to_owned()).collect()
            }
            Err(error) => vec![format!("({}: {error})", self.place.log_file.display())],
        }
    }
}

/// How a process ended, in words.
pub fn end_in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    use super::{NodeProcess, end_in_words};
    use crate::dev::layout::NodePlace;

    #[test]
    fn a_node_that_ends_leaves_its_last_lines_and_its_status() {
        let directory = std::env::temp_dir().join(format!("certus-child-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let program = directory.join("certusd");
        fs::write(&program, "#!/bin/sh\necho \"$1 $2\"\necho no disk >&2\nexit 3\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let place = NodePlace {
            id: 0,
            client: address,
            peer: address,
            admin: address,
            data_directory: directory.join("data"),
            config_file: directory.join("c.toml"),
            log_file: directory.join("log"),
        };
        fs::write(&place.log_file, "an older line\n").unwrap();
        let mut node = NodeProcess::start(&program, &place).unwrap();
        if let Some(process) = node.process().unwrap() {
            assert!(process.wait_until(Instant::now() + Duration::from_secs(60)).unwrap());
        }
        let status = node.ended().unwrap().unwrap();
        assert_eq!(end_in_words(status), "exit status 3");
        let config = format!("--config {}", place.config_file.display());
        assert_eq!(node.last_lines(), [config, "no disk".to_owned()]);
        fs::remove_dir_all(&directory).unwrap();
    }
}
