//! Planted bugs: what the simulator has to find.
//!
//! Each breaks the protocol or the log in one place, `planted!("name")` says where. A bug is in the
//! program only when it is built with `--cfg plants --cfg plant="name"` (`scripts/sim --plants`
//! does), and acts only in a run that asked for it; in every other build `planted!` is the constant
//! `false`, and nothing of it is left. The list with what each one breaks is
//! `engine/sim/src/plants.rs`.

/// Whether a planted bug acts here. A constant `false` in normal builds.
#[cfg(not(plants))]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        false
    };
}

/// Whether a planted bug acts here.
#[cfg(plants)]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        cfg!(plant = $name) && $crate::plants::is_active($name)
    };
}

#[cfg(plants)]
mod active {
    use core::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<&'static str> = const { Cell::new("") };
    }

    /// Lets one planted bug act on this thread, and no other; none for the empty name.
    pub fn activate(name: &'static str) {
        ACTIVE.set(name);
    }

    /// Whether this one was activated.
    #[must_use]
    pub fn is_active(name: &str) -> bool {
        ACTIVE.get() == name
    }
}

#[cfg(plants)]
pub use active::{activate, is_active};
