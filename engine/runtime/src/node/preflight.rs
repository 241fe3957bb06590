//! Looks at the machine before anything is changed on it.
//!
//! Most trouble with a program like this is a limit of the system around it, met hours later under
//! load. Each thing the node needs is looked at once at the start, and every finding says what was
//! looked at, what is required, what is there, how bad it is, and what to do about it. What can be
//! tried is tried (io_uring, direct writes, ports), since a version number says less.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use plog::block::{AlignedBuffer, BLOCK_SIZE};
use socket2::{Domain, Protocol, Socket, Type};

use crate::node::log_line::{self, Level};

/// Memory that one executor locks, in bytes, and its registered buffers.
pub const LOCKED_MEMORY_PER_CORE: u64 = (512 << 10) + (128 << 10);

/// Open files that each core needs besides connections and segments.
const FILES_PER_CORE: u64 = 64;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Seconds since 1970 below which a clock is plainly wrong: 2025-01-01.
const EARLIEST_TIME_S: u64 = 1_735_689_600;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// As required.
    Fine,
    /// The node runs, but not as well or as long as it should.
    Warning,
    /// The node cannot run.
    Fatal,
}

/// One thing looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// What was looked at.
    pub what: &'static str,
    /// What the node needs.
    pub required: String,
    /// What is there.
    pub current: String,
    /// How bad that is.
    pub severity: Severity,
    /// What to do about it; empty when fine.
    pub remedy: String,
}

impl Check {
    fn fine(what: &'static str, required: impl ToString, current: impl ToString) -> Self {
        Self {
            what,
            required: required.to_string(),
            current: current.to_string(),
            severity: Severity::Fine,
            remedy: String::new(),
        }
    }

    fn wanting(
        severity: Severity,
        what: &'static str,
        (required, current): (impl ToString, impl ToString),
        remedy: impl ToString,
    ) -> Self {
        Self {
            what,
            required: required.to_string(),
            current: current.to_string(),
            severity,
            remedy: remedy.to_string(),
        }
    }

    /// Writes the finding to the log.
    pub fn log(&self) {
        let level = match self.severity {
            Severity::Fine => Level::Debug,
            Severity::Warning => Level::Warn,
            Severity::Fatal => Level::Error,
        };
        log_line::line(
            level,
            self.what,
            &[("required", &self.required), ("current", &self.current), ("remedy", &self.remedy)],
        );
    }
}

impl std::fmt::Display for Check {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{}: required {}, found {}; {}",
            self.what, self.required, self.current, self.remedy
        )
    }
}

/// The worst of `checks` that is fatal, if one is.
#[must_use]
pub fn first_fatal(checks: &[Check]) -> Option<&Check> {
    checks.iter().find(|check| check.severity == Severity::Fatal)
}

/// Looks at what does not depend on the data directory.
#[must_use]
pub fn check_machine(cores: u16, cpus: &[usize], connections_max: u32) -> Vec<Check> {
    vec![
        check_io_uring(try_io_uring()),
        check_locked_memory(locked_memory_limit(), cores),
        check_open_files(raise_open_files(), cores, connections_max),
        check_cores(cores, cpus),
        check_clock(SystemTime::now()),
    ]
}

/// Looks at the disk under `directory`, which exists and is this node's or empty. Files of `needed`
/// bytes in all are still to be made; `is_new` says that the node has none yet.
#[must_use]
pub fn check_disk(directory: &Path, needed: u64, is_new: bool) -> Vec<Check> {
    vec![
        check_free_space(directory, free_space(directory), needed, is_new),
        check_direct_io(directory, try_direct_io(directory)),
    ]
}

/// The CPUs that this process may run on, ascending.
#[must_use]
pub fn usable_cpus() -> Vec<usize> {
    // SAFETY: all zeros is a valid, empty `cpu_set_t`: it is a plain array of words.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid `cpu_set_t` of the size given, and 0 names this thread.
    let failed = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    let highest = usize::try_from(libc::CPU_SETSIZE).expect("a small positive number");
    let is_set = |cpu: &usize| {
        // SAFETY: `cpu` is below `CPU_SETSIZE`, so it names a bit inside `set`.
        unsafe { libc::CPU_ISSET(*cpu, &set) }
    };
    let cpus: Vec<usize> = (0..highest).filter(is_set).collect();
    if failed != 0 || cpus.is_empty() {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        return (0..count).collect();
    }
    cpus
}

fn try_io_uring() -> io::Result<()> {
    io_uring::IoUring::new(64).map(|_| ())
}

fn check_io_uring(tried: io::Result<()>) -> Check {
    let what = "io_uring";
    let required = "a usable io_uring (kernel 5.19 or newer)";
    let Err(error) = tried else {
        return Check::fine(what, required, "usable");
    };
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "it is forbidden: set sysctl kernel.io_uring_disabled=0 (or 1 and put the user into \
             kernel.io_uring_group), or allow it in the security module"
        }
        Some(libc::ENOSYS) => {
            "it is hidden: allow io_uring_setup, io_uring_enter and io_uring_register in the \
             container's seccomp profile, or use a kernel built with it"
        }
        Some(libc::ENOMEM) => {
            "there is not enough lockable memory: raise RLIMIT_MEMLOCK (LimitMEMLOCK=infinity in a \
             systemd unit, --ulimit memlock=-1 for a container)"
        }
        Some(libc::EINVAL) => "the kernel is too old: use 5.19 or newer, 6.1 or newer is best",
        Some(libc::EMFILE | libc::ENFILE) => "too many open files: raise RLIMIT_NOFILE",
        _ => "make io_uring usable for this user",
    };
    Check::wanting(Severity::Fatal, what, (required, &error), remedy)
}

/// Soft and hard limit of a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct ResourceLimit {
    soft: u64,
    hard: u64,
}

fn resource_limit(resource: libc::__rlimit_resource_t) -> io::Result<ResourceLimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid `rlimit` for the call to fill.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ResourceLimit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

fn raise_limit(resource: libc::__rlimit_resource_t) -> io::Result<ResourceLimit> {
    let limit = resource_limit(resource)?;
    if limit.soft >= limit.hard {
        return Ok(limit);
    }
    let raised = libc::rlimit { rlim_cur: limit.hard, rlim_max: limit.hard };
    // SAFETY: `raised` is a valid `rlimit`, only read by the call.
    if unsafe { libc::setrlimit(resource, &raw const raised) } != 0 {
        return Err(io::Error::last_os_error());
    }
    resource_limit(resource)
}

fn locked_memory_limit() -> io::Result<ResourceLimit> {
    raise_limit(libc::RLIMIT_MEMLOCK).or_else(|_| resource_limit(libc::RLIMIT_MEMLOCK))
}

fn raise_open_files() -> io::Result<ResourceLimit> {
    raise_limit(libc::RLIMIT_NOFILE).or_else(|_| resource_limit(libc::RLIMIT_NOFILE))
}

fn bytes_or_unlimited(bytes: u64) -> String {
    if bytes == libc::RLIM_INFINITY { "unlimited".to_owned() } else { format!("{bytes} bytes") }
}

fn check_locked_memory(limit: io::Result<ResourceLimit>, cores: u16) -> Check {
    let what = "RLIMIT_MEMLOCK";
    let needed = LOCKED_MEMORY_PER_CORE * u64::from(cores);
    let required = format!("{needed} bytes for {cores} cores");
    let remedy = format!(
        "raise it: `ulimit -l {}`, LimitMEMLOCK=infinity in a systemd unit, or --ulimit memlock=-1 \
         for a container",
        needed.div_ceil(1024)
    );
    match limit {
        Ok(limit) if limit.soft >= needed => {
            Check::fine(what, required, bytes_or_unlimited(limit.soft))
        }
        Ok(limit) => Check::wanting(
            Severity::Fatal,
            what,
            (required, bytes_or_unlimited(limit.soft)),
            remedy,
        ),
        Err(error) => Check::wanting(Severity::Warning, what, (required, error), remedy),
    }
}

fn check_open_files(limit: io::Result<ResourceLimit>, cores: u16, connections: u32) -> Check {
    let what = "RLIMIT_NOFILE";
    let least = FILES_PER_CORE * u64::from(cores) + 64;
    let wanted = least + u64::from(connections);
    let required = format!("{wanted} for {connections} connections and {cores} cores");
    let remedy = format!(
        "raise it: `ulimit -n {wanted}` or LimitNOFILE={wanted} in a systemd unit; or lower \
         limits.connections_max"
    );
    match limit {
        Ok(limit) if limit.soft >= wanted => Check::fine(what, required, limit.soft),
        Ok(limit) => {
            let severity = if limit.soft < least { Severity::Fatal } else { Severity::Warning };
            Check::wanting(severity, what, (required, limit.soft), remedy)
        }
        Err(error) => Check::wanting(Severity::Warning, what, (required, error), remedy),
    }
}

fn check_cores(cores: u16, cpus: &[usize]) -> Check {
    let what = "cpus";
    let required = format!("one for each of {cores} cores");
    if cpus.len() >= usize::from(cores) {
        return Check::fine(what, required, cpus.len());
    }
    Check::wanting(
        Severity::Warning,
        what,
        (required, cpus.len()),
        "several cores share a CPU and wait for each other: give the process more CPUs, or make a \
         new node with fewer `cores`",
    )
}

fn check_clock(now: SystemTime) -> Check {
    let (what, required) = ("clock", "a time after 2025-01-01");
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if seconds >= EARLIEST_TIME_S {
        return Check::fine(what, required, format!("{seconds} s since 1970"));
    }
    Check::wanting(
        Severity::Warning,
        what,
        (required, format!("{seconds} s since 1970")),
        "set the clock (nothing is decided by it, but log lines would be wrong)",
    )
}

/// Bytes that a user without privileges may still take on the file system of `path`.
pub(super) fn free_space(path: &Path) -> io::Result<u64> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all zeros is a valid `statvfs`: it is plain numbers.
    let mut status: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` ends with a zero byte and `status` is valid for the call to fill.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut status) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

fn check_free_space(directory: &Path, free: io::Result<u64>, needed: u64, is_new: bool) -> Check {
    let what = "free space";
    let required = format!("{needed} bytes under {}", directory.display());
    let remedy = "free space on that file system, choose another data_directory, or lower \
                  log.segment_size_bytes or log.spare_segments";
    match free {
        Ok(free) if free >= needed => Check::fine(what, required, format!("{free} bytes")),
        // A node with data is started even so: it can answer reads, and refuses writes.
        Ok(free) => {
            let severity = if is_new { Severity::Fatal } else { Severity::Warning };
            Check::wanting(severity, what, (required, format!("{free} bytes")), remedy)
        }
        Err(error) => Check::wanting(Severity::Warning, what, (required, error), remedy),
    }
}

fn try_direct_io(directory: &Path) -> io::Result<()> {
    let path: PathBuf = directory.join("LOCK.new");
    let result = write_directly(&path);
    std::fs::remove_file(&path).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    result
}

fn write_directly(path: &Path) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)?;
    let mut block = AlignedBuffer::zeroed(BLOCK_SIZE);
    block.fill(0xA5);
    file.write_all(&block)?;
    file.sync_all()?;
    file.rewind()?;
    let mut again = AlignedBuffer::zeroed(BLOCK_SIZE);
    io::Read::read_exact(&mut file, &mut again)?;
    if again[..] != block[..] {
        let text = "a block reads back otherwise than it was written";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(())
}

fn check_direct_io(directory: &Path, tried: io::Result<()>) -> Check {
    let what = "O_DIRECT";
    let required = format!("direct writes of {BLOCK_SIZE} bytes under {}", directory.display());
    let Err(error) = tried else {
        return Check::fine(what, required, "works");
    };
    let remedy = match error.raw_os_error() {
        Some(libc::EINVAL | libc::EOPNOTSUPP) => {
            "this file system has no direct IO: put data_directory on ext4 or xfs on a local disk"
        }
        Some(libc::ENOSPC | libc::EDQUOT) => "the disk is full: free space on it",
        Some(libc::EROFS | libc::EACCES | libc::EPERM) => {
            "make the directory writable for the user that runs certusd"
        }
        _ => "check the disk and its file system",
    };
    // A full disk is no reason to keep a node with data from answering reads.
    let full = matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
    let severity = if full { Severity::Warning } else { Severity::Fatal };
    Check::wanting(severity, what, (required, error), remedy)
}

/// Listening sockets of one core.
#[derive(Debug)]
pub struct CorePorts {
    /// The shared client port, and the core's own if there is one.
    pub clients: Vec<TcpListener>,
    /// The core's peer port.
    pub peers: TcpListener,
}

/// Listening sockets of the node.
#[derive(Debug)]
pub struct Ports {
    /// One per core.
    pub cores: Vec<CorePorts>,
    /// For the admin endpoint.
    pub admin: Option<TcpListener>,
}

/// Which ports to take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortPlan {
    /// Shared by all cores.
    pub client: SocketAddr,
    /// Core j listens for clients on this port plus j.
    pub core_client_first: Option<u16>,
    /// Core j listens for peers on this port plus j.
    pub peer: SocketAddr,
    /// For the admin endpoint.
    pub admin: Option<SocketAddr>,
    /// How many cores.
    pub cores: u16,
    /// How long a port in use is waited for. The kernel takes down the rings of a killed process
    /// after it is gone, and its listening sockets with them: a node that is started again at once
    /// finds its own ports in use for some milliseconds.
    pub patience: Duration,
}

/// Pause between two tries to take a port.
const PORT_RETRY: Duration = Duration::from_millis(10);

impl Ports {
    /// Takes all ports, or none.
    ///
    /// A port in use is tried again until the plan's patience, counted for all of them, is over.
    ///
    /// The shared client port is bound once per core with `SO_REUSEPORT`, and the kernel spreads
    /// connections over the cores. With that option a second process would join in silently, so
    /// the port is first bound without it, which fails when anybody listens there.
    ///
    /// # Errors
    ///
    /// The first port that cannot be taken, as a fatal finding.
    pub fn bind(plan: &PortPlan) -> Result<Self, Check> {
        let until = Instant::now() + plan.patience;
        let bind = |key, address, sharing| bind(key, address, sharing, until);
        drop(bind("client_address", plan.client, Sharing::Alone)?);
        let mut cores = Vec::with_capacity(usize::from(plan.cores));
        for core in 0..plan.cores {
            let mut clients = vec![bind("client_address", plan.client, Sharing::AmongCores)?];
            if let Some(first) = plan.core_client_first {
                let key = "core_client_port_first";
                let address = SocketAddr::new(plan.client.ip(), nth_port(key, first, core)?);
                clients.push(bind(key, address, Sharing::Alone)?);
            }
            let port = nth_port("peer_address", plan.peer.port(), core)?;
            let address = SocketAddr::new(plan.peer.ip(), port);
            let peers = bind("peer_address", address, Sharing::Alone)?;
            cores.push(CorePorts { clients, peers });
        }
        let admin = match plan.admin {
            Some(address) => Some(bind("admin_address", address, Sharing::Alone)?),
            None => None,
        };
        Ok(Self { cores, admin })
    }
}

fn nth_port(key: &'static str, first: u16, core: u16) -> Result<u16, Check> {
    first.checked_add(core).ok_or_else(|| {
        Check::wanting(
            Severity::Fatal,
            "ports",
            (format!("port {first} + {core} for `{key}`"), "ports end at 65535"),
            format!("choose a lower port for `{key}`"),
        )
    })
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Sharing {
    Alone,
    AmongCores,
}

fn bind(
    key: &'static str,
    address: SocketAddr,
    sharing: Sharing,
    until: Instant,
) -> Result<TcpListener, Check> {
    let listen = || -> io::Result<TcpListener> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if sharing == Sharing::AmongCores {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    let mut outcome = listen();
    while Instant::now() < until
        && outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    {
        std::thread::sleep(PORT_RETRY);
        outcome = listen();
    }
    outcome.map_err(|error| {
        let remedy = match error.raw_os_error() {
            Some(libc::EADDRINUSE) => format!(
                "another process listens there (`ss -ltnp 'sport = :{}'` names it): stop it, or \
                 choose another port for `{key}`",
                address.port()
            ),
            Some(libc::EADDRNOTAVAIL) => {
                format!("this machine has no such address: set `{key}` to one that it has")
            }
            Some(libc::EACCES | libc::EPERM) => {
                format!("this user may not listen there: choose a port above 1023 for `{key}`")
            }
            _ => format!("set `{key}` to an address this machine can listen on"),
        };
        let required = format!("to listen on {address} (`{key}`)");
        Check::wanting(Severity::Fatal, "ports", (required, error), remedy)
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::path::Path;
    use std::time::{Duration, UNIX_EPOCH};

    use super::{
        PortPlan, Ports, ResourceLimit, Severity, check_clock, check_cores, check_direct_io,
        check_free_space, check_io_uring, check_locked_memory, check_open_files, first_fatal,
        try_direct_io, usable_cpus,
    };
    use crate::node::test_directory::TestDirectory;

    fn os(number: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(number))
    }

    #[test]
    fn each_way_io_uring_can_be_missing_has_its_own_remedy() {
        assert_eq!(check_io_uring(Ok(())).severity, Severity::Fine);
        let cases = [
            (libc::EPERM, "kernel.io_uring_disabled"),
            (libc::ENOSYS, "seccomp"),
            (libc::ENOMEM, "RLIMIT_MEMLOCK"),
            (libc::EINVAL, "too old"),
        ];
        for (number, word) in cases {
            let check = check_io_uring(os(number));
            assert_eq!(check.severity, Severity::Fatal);
            assert!(check.remedy.contains(word), "{check}");
        }
    }

    #[test]
    fn limits_are_compared_with_what_the_configuration_needs() {
        let limit = |soft| Ok(ResourceLimit { soft, hard: soft });
        assert_eq!(check_locked_memory(limit(8 << 20), 2).severity, Severity::Fine);
        assert_eq!(check_locked_memory(limit(64 << 10), 2).severity, Severity::Fatal);
        assert_eq!(check_locked_memory(limit(libc::RLIM_INFINITY), 64).severity, Severity::Fine);
        assert_eq!(check_open_files(limit(20_000), 2, 10_000).severity, Severity::Fine);
        let few = check_open_files(limit(1024), 2, 10_000);
        assert_eq!(few.severity, Severity::Warning);
        assert!(few.remedy.contains("ulimit -n 10192"), "{few}");
        assert_eq!(check_open_files(limit(100), 2, 10_000).severity, Severity::Fatal);
        assert_eq!(check_cores(2, &[0, 1]).severity, Severity::Fine);
        assert_eq!(check_cores(3, &[0, 1]).severity, Severity::Warning);
    }

    #[test]
    fn a_full_disk_stops_a_new_node_and_only_warns_an_old_one() {
        let path = Path::new("/data");
        assert_eq!(check_free_space(path, Ok(100), 100, true).severity, Severity::Fine);
        assert_eq!(check_free_space(path, Ok(99), 100, true).severity, Severity::Fatal);
        assert_eq!(check_free_space(path, Ok(99), 100, false).severity, Severity::Warning);
        let unsupported = check_direct_io(path, os(libc::EINVAL));
        assert_eq!(unsupported.severity, Severity::Fatal);
        assert!(first_fatal(&[unsupported]).is_some());
        assert_eq!(check_direct_io(path, os(libc::ENOSPC)).severity, Severity::Warning);
    }

    #[test]
    fn direct_io_is_tried_and_leaves_no_file() {
        let directory = TestDirectory::new();
        try_direct_io(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(try_direct_io(&directory.path().join("missing")).is_err());
    }

    #[test]
    fn a_clock_before_this_program_existed_is_called_wrong() {
        assert_eq!(check_clock(UNIX_EPOCH).severity, Severity::Warning);
        let later = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert_eq!(check_clock(later).severity, Severity::Fine);
    }

    #[test]
    fn there_is_a_cpu_to_run_on() {
        assert!(!usable_cpus().is_empty());
    }

    /// A port that was free a moment ago.
    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn plan(client: u16, peer: u16) -> PortPlan {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        PortPlan {
            client: address(client),
            core_client_first: None,
            peer: address(peer),
            admin: None,
            cores: 1,
            patience: Duration::ZERO,
        }
    }

    #[test]
    fn a_port_that_is_given_up_within_the_patience_is_taken() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = held.local_addr().unwrap().port();
        let mut patient = plan(client, free_port());
        patient.patience = Duration::from_secs(60);
        let waits =
            std::thread::spawn(move || Ports::bind(&patient).map(|ports| ports.cores.len()));
        drop(held);
        assert_eq!(waits.join().unwrap().unwrap(), 1);
    }

    #[test]
    fn cores_share_the_client_port_and_a_second_process_is_noticed() {
        let (client, peer) = (free_port(), free_port());
        let ports = Ports::bind(&plan(client, peer)).unwrap();
        assert_eq!(ports.cores.len(), 1);
        TcpStream::connect(("127.0.0.1", client)).unwrap();
        let check = Ports::bind(&plan(client, free_port())).unwrap_err();
        assert_eq!(check.severity, Severity::Fatal);
        assert!(check.to_string().contains("client_address"), "{check}");
        let check = Ports::bind(&plan(free_port(), peer)).unwrap_err();
        assert!(check.to_string().contains("peer_address"), "{check}");
    }
}
