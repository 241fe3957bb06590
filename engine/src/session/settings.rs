//! `CONFIG GET` and `CONFIG SET`: what the node is configured with, and the settings that change
//! while it runs.

use net::resp::arguments::Arguments;
use net::resp::value::Value;

use crate::session::action::{Action, NodeQuery, Order};
use crate::session::node_info::NodeInfo;
use crate::session::{glob, wording};
use crate::shard::{CatchUpRates, share_of_rate};
use crate::state_machine::strings::integer;

/// The settings of [`RateChanges`], in its order.
const RATES: [&str; 4] = [
    "catch_up.rate_entries_per_s",
    "catch_up.rate_bytes_per_s",
    "catch_up.peer_rate_entries_per_s",
    "catch_up.peer_rate_bytes_per_s",
];

/// The greatest rate that can be set.
pub const RATE_MAX: u64 = 1 << 40;

/// New rates of the whole node at which it catches up; a setting that is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RateChanges([Option<u64>; RATES.len()]);

impl RateChanges {
    /// What changes, by the settings' names.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RATES.into_iter().zip(self.0).filter_map(|(name, rate)| Some((name, rate?)))
    }

    /// The rates of one shard out of `shards` after the change.
    #[must_use]
    pub fn apply(&self, rates: CatchUpRates, shards: u16) -> CatchUpRates {
        let CatchUpRates { mut all, mut peer } = rates;
        let fields = [&mut all.entries, &mut all.bytes, &mut peer.entries, &mut peer.bytes];
        for (field, rate) in fields.into_iter().zip(self.0) {
            if let Some(rate) = rate {
                *field = share_of_rate(rate, shards);
            }
        }
        CatchUpRates { all, peer }
    }
}

/// `CONFIG GET pattern …`
pub(super) fn get(info: &NodeInfo, arguments: &Arguments) -> Value {
    let wanted =
        |name: &str| arguments.iter_from(2).any(|pattern| glob::matches(pattern, name.as_bytes()));
    let text = |text: &str| Value::bulk(text.as_bytes().to_vec());
    let config = info.config.borrow();
    let pairs = config.iter().filter(|(name, _)| wanted(name));
    Value::Map(pairs.map(|(name, value)| (text(name), text(value))).collect())
}

/// `CONFIG SET name value …`: all of it, or nothing.
pub(super) fn set(info: &NodeInfo, arguments: &Arguments) -> Action {
    if arguments.len() % 2 == 1 {
        return Action::Reply(wording::wrong_arity("config|set"));
    }
    let names = || arguments.iter_from(2).step_by(2);
    let config = info.config.borrow();
    let is_known =
        |name: &[u8]| config.keys().any(|known| known.as_bytes().eq_ignore_ascii_case(name));
    if let Some(name) = names().find(|name| !is_known(name)) {
        return Action::Reply(Value::error(format!(
            "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
            wording::quoted(name, 128)
        )));
    }
    let refused = |name: &[u8], why: &str| {
        Action::Reply(Value::error(format!(
            "ERR CONFIG SET failed (possibly related to argument '{}') - {why}",
            wording::quoted(name, 128)
        )))
    };
    let mut changes = RateChanges::default();
    for (name, value) in names().zip(arguments.iter_from(3).step_by(2)) {
        let Some(place) = RATES.iter().position(|rate| rate.as_bytes().eq_ignore_ascii_case(name))
        else {
            return refused(
                name,
                "can't set immutable config: change the configuration file and restart the node",
            );
        };
        let rate = integer::parse(value).and_then(|rate| u64::try_from(rate).ok());
        let Some(rate) = rate.filter(|rate| *rate <= RATE_MAX) else {
            let why = format!("argument must be between 0 (no limit) and {RATE_MAX} inclusive");
            return refused(name, &why);
        };
        if changes.0[place].replace(rate).is_some() {
            return refused(name, "duplicate parameter");
        }
    }
    Action::Node(NodeQuery::Order(Order::SetCatchUpRates(changes)))
}

#[cfg(test)]
mod tests {
    use super::RateChanges;
    use crate::shard::{CatchUpRates, Rate};

    #[test]
    fn a_change_is_shared_out_and_leaves_the_rest_as_it_is() {
        let before = CatchUpRates {
            all: Rate { entries: 1, bytes: 2 },
            peer: Rate { entries: 3, bytes: 4 },
        };
        let changes = RateChanges([None, Some(1001), Some(0), None]);
        let after = changes.apply(before, 4);
        assert_eq!(after.all, Rate { entries: 1, bytes: 251 });
        assert_eq!(after.peer, Rate { entries: 0, bytes: 4 });
        let names: Vec<_> = changes.settings().collect();
        assert_eq!(
            names,
            [("catch_up.rate_bytes_per_s", 1001), ("catch_up.peer_rate_entries_per_s", 0)]
        );
    }
}
