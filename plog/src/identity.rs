//! Whose log this is.

/// Names the one log that a segment file belongs to, so that a file copied from elsewhere, or left
/// from an earlier life of the node, is never read as this log's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogIdentity {
    /// The cluster, chosen when it is created.
    pub cluster: u64,
    /// The node within the cluster.
    pub node: u8,
    /// Made at random when the node's data directory is created.
    pub incarnation: u128,
    /// Which of the node's cores owns the log, from 0.
    pub core: u16,
    /// How many cores the node had when the log was created; entities are spread over them.
    pub core_count: u16,
}

impl LogIdentity {
    /// The lower half of the incarnation, which every frame carries.
    #[must_use]
    pub fn incarnation_low(&self) -> u64 {
        u64::try_from(self.incarnation & u128::from(u64::MAX)).expect("masked to 64 bits")
    }

    /// The upper half of the incarnation.
    #[must_use]
    pub fn incarnation_high(&self) -> u64 {
        u64::try_from(self.incarnation >> 64).expect("64 bits remain")
    }

    /// Whether a file that names this identity is of the log `expected`.
    pub(crate) fn check(&self, expected: &Self) -> Result<(), ForeignField> {
        let found = self;
        if found.cluster != expected.cluster {
            let (found, expected) = (found.cluster, expected.cluster);
            return Err(ForeignField::Cluster { found, expected });
        }
        if found.node != expected.node {
            return Err(ForeignField::Node { found: found.node, expected: expected.node });
        }
        if found.incarnation != expected.incarnation {
            let (found, expected) = (found.incarnation, expected.incarnation);
            return Err(ForeignField::Incarnation { found, expected });
        }
        if found.core != expected.core {
            return Err(ForeignField::Core { found: found.core, expected: expected.core });
        }
        if found.core_count != expected.core_count {
            let (found, expected) = (found.core_count, expected.core_count);
            return Err(ForeignField::CoreCount { found, expected });
        }
        Ok(())
    }
}

/// The part of a [`LogIdentity`] in which a file differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ForeignField {
    /// Another cluster.
    #[error("it belongs to cluster {found:#x}, this is {expected:#x}")]
    Cluster {
        /// In the file.
        found: u64,
        /// Of this log.
        expected: u64,
    },
    /// Another node.
    #[error("it belongs to node {found}, this is node {expected}")]
    Node {
        /// In the file.
        found: u8,
        /// Of this log.
        expected: u8,
    },
    /// Another life of this node.
    #[error("it belongs to incarnation {found:#x}, this is {expected:#x}")]
    Incarnation {
        /// In the file.
        found: u128,
        /// Of this log.
        expected: u128,
    },
    /// Another core.
    #[error("it belongs to core {found}, this is core {expected}")]
    Core {
        /// In the file.
        found: u16,
        /// Of this log.
        expected: u16,
    },
    /// Another number of cores, and so another spread of entities.
    #[error("it was written with {found} cores, the node now has {expected}")]
    CoreCount {
        /// In the file.
        found: u16,
        /// Of this log.
        expected: u16,
    },
}
