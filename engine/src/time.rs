//! Time as the core knows it: an argument, never a clock.

/// Microseconds since an arbitrary start of the world, never going back. The world (daemon or
/// simulator) passes it in.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(pub u64);

impl Time {
    /// This time plus `microseconds`.
    #[must_use]
    pub fn after_us(self, microseconds: u64) -> Self {
        Self(self.0.saturating_add(microseconds))
    }

    /// Microseconds from `earlier` to this time; 0 when `earlier` is later.
    #[must_use]
    pub fn since_us(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
