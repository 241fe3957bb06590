//! The file that keeps a tail's position.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use engine::tail::{NoPosition, Position};

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PositionFileError {
    #[error("{path}: {error}; make the directory writable, or name another --position-file")]
    Io { path: String, error: io::Error },
    #[error("{path}: {error}; remove the file to begin anew")]
    Content { path: String, error: NoPosition },
}

/// See the module page. It holds the position as of the last line printed before it was written, so
/// after a crash some lines come again, and none is left out.
#[derive(Debug)]
pub struct PositionFile {
    path: PathBuf,
    /// What it holds.
    kept: Option<Position>,
}

impl PositionFile {
    /// Opens the file; it need not exist.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or holds something else.
    pub fn open(path: &Path) -> Result<Self, PositionFileError> {
        let kept = match fs::read_to_string(path) {
            Ok(text) => Some(text.trim_end_matches('\n').parse().map_err(|error| {
                PositionFileError::Content { path: path.display().to_string(), error }
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(PositionFileError::Io { path: path.display().to_string(), error });
            }
        };
        Ok(Self { path: path.to_owned(), kept })
    }

    /// The position that it holds.
    pub fn kept(&self) -> Option<&Position> {
        self.kept.as_ref()
    }

    /// Keeps another one: durably, and the old one or the new one whatever happens meanwhile.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn keep(&mut self, position: &Position) -> Result<(), PositionFileError> {
        if self.kept.as_ref() == Some(position) {
            return Ok(());
        }
        let write = || {
            let mut name = self.path.clone().into_os_string();
            name.push(".new");
            let new = PathBuf::from(name);
            let mut file = File::create(&new)?;
            file.write_all(format!("{position}\n").as_bytes())?;
            file.sync_data()?;
            fs::rename(&new, &self.path)
        };
        let path = || self.path.display().to_string();
        write().map_err(|error| PositionFileError::Io { path: path(), error })?;
        self.kept = Some(position.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{PositionFile, PositionFileError};

    #[test]
    fn a_position_is_kept_over_a_restart_and_anything_else_is_refused() {
        let name = format!("certus-position-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = PositionFile::open(&path).unwrap();
        assert!(file.kept().is_none());
        let position = "a.1.1000.0.7,-".parse().unwrap();
        file.keep(&position).unwrap();
        assert_eq!(PositionFile::open(&path).unwrap().kept(), Some(&position));
        fs::write(&path, "something").unwrap();
        let refused = PositionFile::open(&path).unwrap_err();
        assert!(matches!(refused, PositionFileError::Content { .. }), "{refused}");
        fs::remove_file(&path).unwrap();
        let nowhere = path.join("below");
        let error = PositionFile::open(&nowhere).unwrap().keep(&position).unwrap_err();
        assert!(matches!(error, PositionFileError::Io { .. }), "{error}");
    }
}
