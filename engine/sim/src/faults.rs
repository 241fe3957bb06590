//! What goes wrong, and how often.

/// Rates of faults. Probabilities are in 1/1000 per event they apply to; times in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A frame is lost.
    pub loss: u64,
    /// A frame arrives twice.
    pub duplication: u64,
    /// A frame takes up to this long.
    pub delay_max_us: u64,
    /// One frame in a thousand times this takes fifty times as long.
    pub straggler: u64,
    /// A log write takes up to this long.
    pub write_max_us: u64,
    /// A log read takes up to this long.
    pub read_max_us: u64,
}

impl Faults {
    /// A quick, reliable world.
    pub const NONE: Self = Self {
        loss: 0,
        duplication: 0,
        delay_max_us: 100,
        straggler: 0,
        write_max_us: 200,
        read_max_us: 100,
    };

    /// Frames are lost, repeated and overtake each other.
    pub const ROUGH: Self = Self {
        loss: 50,
        duplication: 50,
        delay_max_us: 2_000,
        straggler: 20,
        write_max_us: 3_000,
        read_max_us: 1_000,
    };
}
