//! Durable stays durable: a log that is read after a stop ends no earlier than what was on disk.

use plog::vocabulary::Lsn;

use crate::checkers::{Boot, Violation};

pub(super) fn recovered(boot: Boot, durable: Lsn, recovered: Lsn) -> Result<(), Violation> {
    if recovered >= durable {
        return Ok(());
    }
    let what = format!("{boot:?} finds its log up to {recovered:?}; {durable:?} was on disk");
    Err(Violation::new("durable", what))
}

#[cfg(test)]
mod tests {
    use plog::vocabulary::Lsn;

    use crate::checkers::Boot;

    #[test]
    fn a_log_that_lost_its_end_is_seen() {
        let boot = Boot { node: 0, core: 0, start: 2 };
        super::recovered(boot, Lsn(7), Lsn(7)).unwrap();
        super::recovered(boot, Lsn(7), Lsn(9)).unwrap();
        assert!(super::recovered(boot, Lsn(7), Lsn(6)).is_err());
    }
}
