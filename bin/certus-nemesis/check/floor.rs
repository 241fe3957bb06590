//! What was seen by the time something began.

/// Numbers that were told to clients, and when.
#[derive(Clone, Debug)]
pub struct Floor {
    /// When a number was told, and the greatest told until then; ascending in both.
    told: Vec<(u64, u64)>,
}

impl Floor {
    /// Of pairs of a time and a number.
    pub fn new(mut told: Vec<(u64, u64)>) -> Self {
        told.sort_unstable();
        let mut greatest = 0;
        for (_, number) in &mut told {
            greatest = greatest.max(*number);
            *number = greatest;
        }
        Self { told }
    }

    /// The greatest number told before `time`; 0 if none was.
    pub fn before(&self, time: u64) -> u64 {
        let count = self.told.partition_point(|(at, _)| *at < time);
        count.checked_sub(1).map_or(0, |last| self.told[last].1)
    }
}
