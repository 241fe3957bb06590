//! The state machine: what the chosen values of an entity mean.
//!
//! An entry's value is the *write batch* that the proposer computed against the state at the entry
//! before it (as the seed's example server does): replicas apply effects, so random, float and
//! time commands agree by construction.

use core::fmt::Debug;

use net::resp::arguments::Arguments;
use net::resp::value::Value;
use plog::vocabulary::Entry;

pub mod mirror;
pub mod strings;

/// One entity's state, and the commands on it.
///
/// Deterministic: the same effects applied in the same order give the same state, the same
/// encoding and the same replies on every replica.
pub trait StateMachine: Default + Debug {
    /// The effects of a batch under construction: later commands of the batch see the effects of
    /// earlier ones.
    type Overlay: Default + Debug;

    /// Runs `command` on this state as `overlay` changes it, adds its own effects to `overlay`,
    /// and returns the reply. A command that changes nothing adds nothing.
    fn evaluate(&self, overlay: &mut Self::Overlay, command: &Arguments) -> Value;

    /// Whether the command is of a kind that can change something.
    fn is_write(command: &Arguments) -> bool;

    /// Whether `overlay` changes anything.
    fn has_effects(overlay: &Self::Overlay) -> bool;

    /// At least as many bytes as [`StateMachine::encode_effects`] appends, but for a few.
    fn effect_bytes(overlay: &Self::Overlay) -> usize;

    /// Appends the encoded effects to `out`.
    fn encode_effects(overlay: &Self::Overlay, out: &mut Vec<u8>);

    /// Applies encoded effects, chosen at `entry`.
    ///
    /// # Errors
    ///
    /// When the bytes are not an encoding of effects; nothing was applied then.
    fn apply(&mut self, entry: Entry, effects: &[u8]) -> Result<(), InvalidState>;

    /// The last entry applied.
    fn applied(&self) -> Entry;

    /// Appends the whole state to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// The state from an encoding.
    ///
    /// # Errors
    ///
    /// When the bytes are not an encoding of a state.
    fn decode(bytes: &[u8]) -> Result<Self, InvalidState>;

    /// Shows each key that encoded effects change, with its value after them; `None`: it is gone.
    ///
    /// # Errors
    ///
    /// When the bytes are not an encoding of effects; some may have been shown by then.
    fn each_change(
        effects: &[u8],
        show: impl FnMut(&[u8], Option<&[u8]>),
    ) -> Result<(), InvalidState>;

    /// Shows each key with its value and the entry of its last change, in a fixed order.
    fn each_key(&self, show: impl FnMut(&[u8], &[u8], Entry));

    /// Approximate memory used, in bytes. Replicas decide by it, so it never changes for a state.
    fn memory_bytes(&self) -> usize;

    /// Memory of the blocks that the state holds beside itself, in bytes; see [`plog::memory`].
    fn block_bytes(&self) -> usize;

    /// Number of keys held.
    fn key_count(&self) -> u32;
}

/// Bytes that are not an encoding of a state or of effects.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} is malformed at byte {offset} of {length}")]
pub struct InvalidState {
    /// What was being read.
    pub what: &'static str,
    /// Where it went wrong.
    pub offset: usize,
    /// How many bytes there were.
    pub length: usize,
}
