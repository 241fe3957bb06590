//! What is kept of a run that found a violation: what the nodes said, and the histories of the keys
//! concerned, as clients saw them and as they stand in the logs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::check::{Violation, excerpt};
use crate::cluster::Cluster;
use crate::history::Operation;
use crate::workload::keys::name_of;

/// Keys whose histories are kept.
const KEYS: usize = 4;

/// Writes it to a new directory beside the run's own; its name.
pub fn keep(
    own: &Path,
    cluster: &Cluster,
    history: &[Operation],
    violations: &[Violation],
) -> io::Result<PathBuf> {
    let name = format!("{}-evidence", own.file_name().unwrap_or_default().to_string_lossy());
    let directory = own.with_file_name(name);
    fs::create_dir_all(&directory)?;
    let mut text = String::new();
    for violation in violations {
        text += &format!("{}: {}\n", violation.rule, violation.what);
        for line in excerpt(history, violation) {
            text += &format!("  {line}\n");
        }
    }
    fs::write(directory.join("violations.txt"), text)?;
    let mut keys: Vec<u32> = violations.iter().filter_map(|violation| violation.key).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys.into_iter().take(KEYS) {
        let of_key = history.iter().filter(|operation| operation.key == key);
        let lines: Vec<String> = of_key.map(Operation::describe).collect();
        fs::write(directory.join(format!("history-{}.txt", name_of(key))), lines.join("\n"))?;
        for node in &cluster.nodes {
            let output = Command::new(&cluster.certus)
                .args(["plog", "history"])
                .arg(&node.place.data_directory)
                .args(["--key", &name_of(key)])
                .output()?;
            let file = format!("log-of-node-{}-{}.txt", node.id, name_of(key));
            fs::write(directory.join(file), output.stdout)?;
        }
    }
    for node in &cluster.nodes {
        let to = directory.join(format!("node-{}.log", node.id));
        fs::copy(&node.place.log_file, to)?;
    }
    Ok(directory)
}
