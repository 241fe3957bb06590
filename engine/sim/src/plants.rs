//! The planted bugs, each with the mix in which it is looked for.
//!
//! Where each one is in the code says `planted!` (see `plog::plants`). They are in the program only
//! when it is built for it; `scripts/sim --plants` builds it so, and tries them all.

/// A planted bug.
#[derive(Clone, Copy, Debug)]
pub struct Plant {
    /// Its name, as in `planted!`.
    pub name: &'static str,
    /// What it breaks.
    pub about: &'static str,
    /// Where it is most likely to show.
    pub mix: &'static str,
    /// In how large a replica set.
    pub replicas: u8,
}

const fn plant(name: &'static str, mix: &'static str, about: &'static str) -> Plant {
    Plant { name, about, mix, replicas: 3 }
}

const fn plant_of_five(name: &'static str, mix: &'static str, about: &'static str) -> Plant {
    Plant { name, about, mix, replicas: 5 }
}

/// All of them.
pub const PLANTS: &[Plant] = &[
    plant("vote-before-durable", "crashes", "a vote is sent before it is on disk"),
    plant("own-vote-early", "crashes", "a proposer counts its own vote before it is on disk"),
    plant("gate-off-by-one", "crashes", "what waits for the disk leaves one record early"),
    plant("appended-called-durable", "crashes", "all that was appended counts as written"),
    plant("early-accept-counted", "crashes", "a request counts as its sender's vote"),
    plant("promise-not-logged", "crashes", "a promise is kept in memory only"),
    plant("accept-below-promise", "duels", "a promise does not keep lower ballots out"),
    plant_of_five(
        "pre-authorised-by-ballot",
        "rough",
        "who owns the ballot of the last value skips the prepare, not who made the value",
    ),
    plant_of_five("ballot-reused-after-restart", "recycled", "ballots do not name the boot"),
    plant("value-id-reused", "duels", "two values have one name"),
    plant("rescue-skipped", "duels", "a proposer puts its own value over one it found"),
    plant_of_five("rescue-of-the-lowest", "rough", "of several values found the oldest is taken"),
    plant_of_five(
        "chosen-on-unequal-ballots",
        "rough",
        "votes for one value at different ballots are counted together",
    ),
    plant("loser-answered", "duels", "clients are answered although another value was chosen"),
    plant("answered-before-chosen", "crashes", "clients are answered on the proposer's vote alone"),
    plant("notice-for-what-was-accepted", "duels", "a notice is taken for the value held here"),
    plant("left-out-value-empty", "eviction", "a value that was left out is taken for empty"),
    plant("evicted-taken-for-empty", "eviction", "an entity on disk is taken for one never seen"),
    plant("evicted-before-durable", "eviction", "an entity leaves memory before it is on disk"),
    plant(
        "large-evicted-before-durable",
        "values",
        "a large entity leaves memory before it is on disk",
    ),
    plant("evicted-still-counted", "values", "what leaves memory is counted on"),
    plant("large-value-not-logged", "recycled", "the bytes of a large value never reach the disk"),
    plant("read-from-one-node", "datagrams", "a read is answered without asking anybody"),
    plant("started-called-empty", "datagrams", "a read check overlooks what was accepted"),
    plant("earlier-boots-answer", "rough", "questions of two boots have the same number"),
    plant("applied-without-effects", "datagrams", "of two entries that come together one is lost"),
    plant("id-unchecked", "crashes", "a request id is applied again"),
    plant("ids-lost-in-image", "eviction", "request ids are lost when an entity is read back"),
    plant(
        "write-without-effect-forgotten",
        "rough",
        "the id of a write that changed nothing is not kept",
    ),
    plant("forward-id-not-unique", "rough", "forwarded commands of two boots have one id"),
    plant("unchosen-served", "datagrams", "catch-up hands out what was only accepted"),
    plant("sweep-ignored", "crashes", "a replica that was away does not ask what it missed"),
    plant(
        "lag-confirmed-before-durable",
        "crashes",
        "a replica confirms what it holds in memory only",
    ),
    plant("since-off-by-one", "crashes", "what advances after a mark counts as before it"),
    plant("digest-without-chain", "calm", "digests are compared without the chains"),
    plant("no-retry", "datagrams", "a lost message is never repeated"),
    plant("back-off-without-end", "duels", "nobody wakes a proposer that backed off"),
    plant(
        "damage-taken-for-torn-tail",
        "damage",
        "damage in the log passes for an unfinished write",
    ),
    plant("abstainer-votes", "damage", "an entity that may have lost promises votes"),
    plant(
        "abstainer-answers-reads",
        "damage",
        "a damaged log's shard serves reads from what it could read",
    ),
    plant(
        "abstainer-answers-checks",
        "damage",
        "a replica that may have forgotten a vote calls the entry empty",
    ),
    plant("damage-forgotten", "damage", "the start after the one that found damage takes part"),
    plant("stale-frame-taken", "recycled", "old frames in a recycled segment are taken for new"),
    plant("frame-checksum-unchecked", "damage", "frames are read without their checksums"),
    plant("record-checksum-unchecked", "everything", "records are read without their checksums"),
    plant("wire-checksum-unchecked", "streams", "messages are taken without their checksum"),
    plant("chain-unchecked", "calm", "a replica hears of another history and serves on"),
    plant("lost-image-serves", "damage", "an entity whose image is lost serves without it"),
    plant("doubt-ends-with-a-word", "calm", "a copy in doubt serves again after any peer's word"),
    plant(
        "open-entry-not-relocated",
        "cleaning",
        "what is promised in an open entry is lost with its segment",
    ),
    plant("adopted-before-durable", "cleaning", "a checkpoint counts before the log it rests on"),
    plant("floor-too-late", "cleaning", "a checkpoint needs a segment that it does not name"),
    plant("freed-beyond-floor", "cleaning", "a segment that is needed is freed"),
    plant("freed-under-a-read", "cleaning", "a segment is freed while it is read"),
    plant("failed-checkpoint-adopted", "disks", "a checkpoint that failed frees the log before it"),
    plant("checkpoint-skips-loading", "cleaning", "a checkpoint misses entities being loaded"),
    plant(
        "removed-before-adopted",
        "cleaning",
        "the old checkpoint goes before the new one counts",
    ),
    plant("older-image-taken", "cleaning", "an older image replaces a newer one in the index"),
    plant(
        "table-checksum-unchecked",
        "damage",
        "a checkpoint's table is read without its checksum",
    ),
    plant("mirror-applies-unchosen", "crashes", "a replayer executes what was only accepted"),
    plant(
        "mirror-skips-entry",
        "crashes",
        "a replayer executes an entry before the one it follows",
    ),
    plant(
        "checkpoint-stands-at-maximum",
        "mirrors",
        "the log goes although a mirror stands further back than the checkpoint",
    ),
    plant(
        "wiped-node-votes",
        "replaced",
        "a node that lost its disks is let in, whatever its generation",
    ),
    plant("rejoin-votes-early", "wipes", "a core votes before it has caught up with what it lost"),
    plant("rejoin-trusts-one-sweep", "wipes", "a core that lost its votes asks one too few"),
    plant_of_five(
        "older-generation-counted",
        "replaced",
        "votes of a node that lost them count together with later ones",
    ),
    plant(
        "floor-from-chosen-only",
        "replaced",
        "a core that lost its votes is told of chosen entries only",
    ),
    plant("transfer-ends-rejoining", "wipes", "an entity that a transfer brought votes at once"),
    plant(
        "transferred-image-taken-for-newest",
        "wipes",
        "an image from disk is sent as of a later entry than it is of",
    ),
    plant("generation-not-durable", "wipes", "a start forgets who lost its votes"),
    plant(
        "next-version-unsettled",
        "members",
        "a configuration follows before what was chosen has moved on to the last one",
    ),
    plant("settled-without-learning", "members", "a version is settled without learning anything"),
    plant("earlier-version-counted", "members", "votes given in an earlier version are counted"),
    plant("learner-votes-behind", "members", "a learner gets its vote before it is in step"),
    plant("configuration-not-durable", "members", "a start forgets who votes"),
    plant("follower-votes", "followers", "a follower heeds what is for replicas"),
    plant("told-gap-ignored", "followers", "a follower that missed notices does not look for them"),
    plant(
        "fail-over-without-sweep",
        "followers",
        "a follower turns to another replica as if that had told it everything",
    ),
    plant(
        "walk-of-an-earlier-stream",
        "followers",
        "a follower's walk counts for the streams after its own, too",
    ),
    plant(
        "stream-before-durable",
        "followers",
        "a follower is told from when on before that can be swept",
    ),
    plant("page-end-skips-lines", "tailed", "a page of changes that is full drops what it read"),
    plant(
        "position-beyond-the-line",
        "tailed",
        "a line's position says that the rest of its entry was told, too",
    ),
    plant("take-over-not-told", "tailed", "an entity that a node takes over is not told to tails"),
    plant(
        "pass-tells-older-states",
        "tailed",
        "a pass tells states of keys whose later changes were told",
    ),
];

/// The planted bug of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Plant> {
    PLANTS.iter().find(|plant| plant.name == name)
}

#[cfg(test)]
mod tests {
    use super::PLANTS;
    use crate::mixes;

    #[test]
    fn each_plant_has_a_name_of_its_own_and_a_mix() {
        let mut names: Vec<&str> = PLANTS.iter().map(|plant| plant.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PLANTS.len());
        assert!(PLANTS.iter().all(|plant| mixes::find(plant.mix).is_some()));
    }
}
