//! `certus plog mirror`: every key that a node's files come to, and what changes.

use std::time::Duration;

use engine::session::glob;
use runtime::node::data_directory::{Survey, is_loss_noted};
use serde_json::{Value, json};

use crate::arguments::PlogMirror;
use crate::console::{Console, complain};
use crate::exit_status::ExitStatus;
use crate::json_bytes::put_bytes;
use crate::node_files::identity_of;
use crate::node_files::log_files::{LogFiles, LogFilesError, find_logs};
use crate::node_files::mirrored_core::{MirrorError, MirroredCore};
use crate::node_files::shown_keys::ShownKey;

/// How long it waits between two looks at files that may have grown.
const PAUSE: Duration = Duration::from_millis(500);

/// Prints every key as JSON, and goes on with what changes if that is wanted.
pub fn mirror(arguments: &PlogMirror, console: &mut Console) -> ExitStatus {
    let mut cores = match find_cores(arguments) {
        Ok(cores) => cores,
        Err(status) => return status,
    };
    let mut is_first = true;
    loop {
        for core in &mut cores {
            let begun_anew = match core.look() {
                Ok(begun_anew) => begun_anew,
                Err(error) => {
                    complain(&error);
                    return match error {
                        MirrorError::Damaged { .. } => ExitStatus::Degraded,
                        MirrorError::Files(LogFilesError::Checkpoint(error))
                            if error.is_damage() =>
                        {
                            ExitStatus::Degraded
                        }
                        _ => ExitStatus::Failed,
                    };
                }
            };
            for reason in &begun_anew {
                let reason = reason.to_string();
                console.line(json!({ "core": core.core, "began_anew": reason }));
            }
            show(core, arguments, console);
            if is_first || !begun_anew.is_empty() {
                console.line(summary(core));
            }
        }
        is_first = false;
        if !arguments.follow || console.is_closed() {
            return ExitStatus::Ok;
        }
        std::thread::sleep(PAUSE);
    }
}

/// The cores to mirror.
fn find_cores(arguments: &PlogMirror) -> Result<Vec<MirroredCore>, ExitStatus> {
    let failed = |error: LogFilesError| {
        complain(error);
        ExitStatus::Failed
    };
    let survey = Survey::look(&arguments.directory).ok();
    let mebibytes = usize::try_from(arguments.memory).unwrap_or(usize::MAX);
    let mut cores = Vec::new();
    for path in find_logs(&arguments.directory).map_err(failed)? {
        let identity = survey.as_ref().and_then(|survey| identity_of(survey, &path));
        let log = LogFiles::find(&path, identity).map_err(failed)?;
        // A core that never wrote anything says nowhere whose it is, and has nothing to show.
        let Some(identity) = log.identity else { continue };
        if arguments.core.is_some_and(|core| core != identity.core) {
            continue;
        }
        if is_loss_noted(&path) {
            complain(format_args!(
                "{}: this core abstains or rejoins after a loss: what it lacks is not known; mirror \
                 another node",
                path.display()
            ));
            return Err(ExitStatus::Degraded);
        }
        cores.push(MirroredCore::new(log, identity, mebibytes << 20));
    }
    if let Some(core) = arguments.core
        && cores.is_empty()
    {
        let directory = arguments.directory.display();
        complain(format_args!("{directory}: core {core} has no log here; leave out --core"));
        return Err(ExitStatus::Failed);
    }
    Ok(cores)
}

/// Prints the keys that changed since the last time.
fn show(core: &mut MirroredCore, arguments: &PlogMirror, console: &mut Console) {
    let number = core.core;
    let pattern = arguments.pattern.as_ref().map(String::as_bytes);
    core.replayer.mirror_mut().show(|shown| {
        if pattern.is_none_or(|pattern| glob::matches_exactly(pattern, shown.key)) {
            console.line(key_line(number, &shown));
        }
    });
}

fn key_line(core: u16, shown: &ShownKey<'_>) -> Value {
    let entity = format!("{:016x}", shown.entity.0);
    let mut line = json!({ "core": core, "entity": entity, "entry": shown.entry.0 });
    put_bytes(&mut line, "key", shown.key);
    match shown.value {
        Some((value, version)) => {
            put_bytes(&mut line, "value", value);
            line["version"] = version.0.into();
        }
        None => line["deleted"] = true.into(),
    }
    line
}

/// What the mirror of a core stands at.
fn summary(core: &MirroredCore) -> Value {
    let (entities, keys) = core.replayer.mirror().counts();
    let mut line = json!({ "core": core.core, "entities": entities, "keys": keys });
    if let Some(at) = core.replayer.stands_at() {
        line["stands_at"] = json!({ "segment": at.segment.to_string(), "record": at.last.0 });
        line["held_back"] = at.held.into();
        line["left_out"] = at.left_out.into();
    }
    line
}

#[cfg(test)]
mod tests {
    use plog::vocabulary::{EntityId, Entry};

    use super::key_line;
    use crate::node_files::shown_keys::ShownKey;

    #[test]
    fn a_key_is_text_or_digits_and_is_there_or_gone() {
        let shown = ShownKey {
            entity: EntityId(255),
            entry: Entry(7),
            key: b"k",
            value: Some((&[0xff, 0], Entry(3))),
        };
        assert_eq!(
            key_line(1, &shown).to_string(),
            r#"{"core":1,"entity":"00000000000000ff","entry":7,"key":"k","value_hex":"ff00","version":3}"#
        );
        let gone = ShownKey { key: b"\xfe", value: None, ..shown };
        assert_eq!(
            key_line(0, &gone).to_string(),
            r#"{"core":0,"deleted":true,"entity":"00000000000000ff","entry":7,"key_hex":"fe"}"#
        );
    }
}
