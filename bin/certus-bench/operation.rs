//! The operations that are measured apart, and the workloads made of them.

use std::str::FromStr;

/// A kind of request with its own row in every result.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Operation {
    /// `GET key`.
    Get,
    /// `SET key value`.
    Set,
    /// `INCR key`, also inside `CERTUS ONCE`.
    Incr,
    /// `SET key new IFEQ old`.
    Cas,
    /// `AUTH` and `READONLY` at the start of a connection: never timed, but may fail.
    Setup,
}

impl Operation {
    /// All operations, in the order of the results.
    pub const ALL: [Self; 5] = [Self::Get, Self::Set, Self::Incr, Self::Cas, Self::Setup];

    /// Returns the name that the results use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Set => "SET",
            Self::Incr => "INCR",
            Self::Cas => "CAS",
            Self::Setup => "SETUP",
        }
    }

    /// Returns the position in [`Operation::ALL`].
    pub fn index(self) -> usize {
        match self {
            Self::Get => 0,
            Self::Set => 1,
            Self::Incr => 2,
            Self::Cas => 3,
            Self::Setup => 4,
        }
    }
}

/// What the clients do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Workload {
    /// `SET` only.
    Write,
    /// `GET` only.
    Read,
    /// `READONLY` once per connection, then `GET` only.
    ReadLocal,
    /// `GET` and `SET`, drawn at random.
    Mixed {
        /// How many requests in a hundred are a `GET`.
        read_percent: u8,
    },
    /// `INCR` only.
    Incr,
    /// `GET`, then a `SET` that takes effect only if the value is still the one read.
    Cas,
}

impl Workload {
    /// Whether the keys are written once before the run unless told otherwise.
    pub fn preloads_by_default(self) -> bool {
        match self {
            Self::Read | Self::ReadLocal | Self::Mixed { .. } => true,
            Self::Write | Self::Incr | Self::Cas => false,
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "write" => return Ok(Self::Write),
            "read" => return Ok(Self::Read),
            "read-local" => return Ok(Self::ReadLocal),
            "incr" => return Ok(Self::Incr),
            "cas" => return Ok(Self::Cas),
            _ => {}
        }
        if let Some(percent) = text.strip_prefix("mixed:")
            && let Ok(read_percent) = percent.parse()
            && read_percent <= 100
        {
            return Ok(Self::Mixed { read_percent });
        }
        Err(format!(
            "workload {text:?} is not known: use write, read, read-local, incr, cas, or mixed:R \
             where R in 0..=100 is the percentage of reads, for example mixed:90"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::{Operation, Workload};

    #[test]
    fn an_operation_stands_at_its_index() {
        for operation in Operation::ALL {
            assert_eq!(Operation::ALL[operation.index()], operation);
        }
    }

    #[test]
    fn a_workload_is_read_or_refused_by_name() {
        assert_eq!("mixed:90".parse(), Ok(Workload::Mixed { read_percent: 90 }));
        assert_eq!("read-local".parse(), Ok(Workload::ReadLocal));
        for text in ["", "mixed", "mixed:", "mixed:101", "delete"] {
            let error = text.parse::<Workload>().unwrap_err();
            assert!(error.contains(&format!("{text:?}")) && error.contains("use write"));
        }
    }
}
