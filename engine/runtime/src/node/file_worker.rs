//! Does what blocks with the files of checkpoints and freed segments, so that no core waits for it:
//! one plain thread for all cores, one job after the other.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::abstention::Abstention;
use engine::shard::{FileJob, LOCKS_MAX};
use plog::segment::SegmentId;
use plog::vocabulary::BootEpoch;

use crate::node::checkpoint_files;
use crate::node::data_directory::{note_rejoined, write_abstention, write_reached};
use crate::node::reserve_file::{self, ReserveJob};

/// Jobs and answers that may wait, per core: a core has four under way at most, removes a
/// checkpoint for each lock that ends, and notes a loss, and that it has rejoined, once in its life
/// each.
const QUEUE_PER_CORE: usize = 7 + LOCKS_MAX;

/// What the thread is given to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BlockingJob {
    /// What the shard wants.
    File(FileJob),
    /// What a full disk makes necessary.
    Reserve(ReserveJob),
    /// Note that the log has reached this segment.
    Reached(SegmentId),
    /// Note that something could not be read back.
    NoteLoss(Abstention),
    /// Take note that the core has rejoined in this boot.
    NoteRejoined(BootEpoch),
}

/// A job that is done.
#[derive(Debug)]
pub struct FileDone {
    /// Which.
    pub job: BlockingJob,
    /// How long it took.
    pub took: Duration,
    /// How it went.
    pub result: io::Result<()>,
}

/// One core's way to the thread.
#[derive(Debug)]
pub struct FileWorkerChannel {
    core: u16,
    jobs: SyncSender<(u16, BlockingJob)>,
    done: Receiver<FileDone>,
}

impl FileWorkerChannel {
    /// Gives the thread a job; false when too many wait, or the thread has ended.
    #[must_use]
    pub fn start(&self, job: BlockingJob) -> bool {
        match self.jobs.try_send((self.core, job)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// The next job that is done. Never blocks.
    #[must_use]
    pub fn take_done(&self) -> Option<FileDone> {
        self.done.try_recv().ok()
    }
}

/// The thread. It ends when every [`FileWorkerChannel`] is gone.
#[derive(Debug)]
pub struct FileWorker {
    thread: JoinHandle<()>,
}

impl FileWorker {
    /// Starts the thread for the cores with these directories, in order of their numbers.
    ///
    /// # Errors
    ///
    /// When the operating system grants no thread.
    pub fn start(directories: Vec<PathBuf>) -> io::Result<(Self, Vec<FileWorkerChannel>)> {
        let (jobs, received) = sync_channel(QUEUE_PER_CORE * directories.len().max(1));
        let mut channels = Vec::with_capacity(directories.len());
        let mut cores = Vec::with_capacity(directories.len());
        for (core, directory) in (0..).zip(directories) {
            let (sender, done) = sync_channel(QUEUE_PER_CORE);
            cores.push((directory, sender));
            channels.push(FileWorkerChannel { core, jobs: jobs.clone(), done });
        }
        let thread = std::thread::Builder::new()
            .name("certus-files".to_owned())
            .spawn(move || serve(&received, &cores))?;
        Ok((Self { thread }, channels))
    }

    /// Waits for the thread; call when all cores have ended.
    pub fn join(self) {
        // A panic of the thread has ended the process already.
        self.thread.join().ok();
    }
}

fn serve(jobs: &Receiver<(u16, BlockingJob)>, cores: &[(PathBuf, SyncSender<FileDone>)]) {
    while let Ok((core, job)) = jobs.recv() {
        let (directory, done) = &cores[usize::from(core)];
        let begun = Instant::now();
        let result = perform(directory, core, job);
        // A core that ended wants no answer; the others may still.
        done.send(FileDone { job, took: begun.elapsed(), result }).ok();
    }
}

fn perform(directory: &Path, core: u16, job: BlockingJob) -> io::Result<()> {
    let job = match job {
        BlockingJob::File(job) => job,
        BlockingJob::Reserve(job) => return reserve_file::perform(directory, job),
        BlockingJob::Reached(segment) => {
            let root = directory.parent().expect("a core's directory stands in the node's");
            return write_reached(root, core, segment);
        }
        BlockingJob::NoteLoss(loss) => {
            return write_abstention(directory, &loss).map_err(io::Error::other);
        }
        BlockingJob::NoteRejoined(epoch) => return note_rejoined(directory, epoch),
    };
    match job {
        FileJob::Adopt(pointer) => checkpoint_files::adopt(directory, pointer),
        FileJob::Remove { checkpoint, parts } => {
            checkpoint_files::remove(directory, (0..parts).map(|number| checkpoint.part(number)))
        }
        FileJob::Free { segment, becomes } => checkpoint_files::free(directory, segment, becomes),
    }
}

#[cfg(test)]
mod tests {
    use plog::segment::{SegmentId, SpareId};

    use super::{BlockingJob, FileJob, FileWorker};
    use crate::node::test_directory::TestDirectory;

    #[test]
    fn each_job_is_done_in_its_cores_directory_and_answered_once() {
        let directories = [TestDirectory::new(), TestDirectory::new()];
        for directory in &directories {
            std::fs::write(directory.path().join("0000000000000001.plog"), b"old").unwrap();
        }
        let paths = directories.iter().map(|directory| directory.path().to_owned()).collect();
        let (worker, channels) = FileWorker::start(paths).unwrap();
        let job = FileJob::Free { segment: SegmentId(1), becomes: Some(SpareId(3)) };
        let job = BlockingJob::File(job);
        assert!(channels[1].start(job));
        let done = channels[1].done.recv().unwrap();
        assert_eq!(done.job, job);
        done.result.unwrap();
        assert!(directories[1].path().join("spare-3.plog").exists());
        assert!(directories[0].path().join("0000000000000001.plog").exists());
        assert!(channels[1].start(job));
        assert!(channels[1].done.recv().unwrap().result.is_err(), "it is gone");
        assert!(channels[0].take_done().is_none());
        drop(channels);
        worker.join();
    }
}
