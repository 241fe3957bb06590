//! What goes wrong by itself, and how often: the faults that hit single frames and operations.
//!
//! Those that hit whole nodes and links are [`crate::schedule`].

/// Rates of faults: probabilities in parts of a million per event they apply to, times in
/// microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A frame is lost (datagrams), or takes its connection with it (streams).
    pub loss: u32,
    /// A frame arrives twice (datagrams only).
    pub duplication: u32,
    /// A bit of a frame flips on the way; the receiver closes the connection.
    pub corruption: u32,
    /// A frame takes up to this long.
    pub delay_max_us: u64,
    /// A frame takes fifty times as long.
    pub straggler: u32,
    /// A log write takes up to this long.
    pub write_max_us: u64,
    /// A log read takes up to this long.
    pub read_max_us: u64,
    /// A log write fails: the node ends, as it must.
    pub write_error: u32,
    /// A write to a checkpoint, its adoption, or the freeing of a segment fails: the node ends.
    pub file_error: u32,
    /// A log read fails twice: the entity abstains on that node. Only on nodes that may be damaged.
    pub read_error: u32,
}

impl Faults {
    /// A quick, reliable world.
    pub const NONE: Self = Self {
        loss: 0,
        duplication: 0,
        corruption: 0,
        delay_max_us: 100,
        straggler: 0,
        write_max_us: 200,
        read_max_us: 100,
        write_error: 0,
        file_error: 0,
        read_error: 0,
    };

    /// Frames are lost, repeated and overtake each other.
    pub const ROUGH: Self = Self {
        loss: 50_000,
        duplication: 50_000,
        delay_max_us: 2_000,
        straggler: 20_000,
        write_max_us: 3_000,
        read_max_us: 1_000,
        ..Self::NONE
    };
}
