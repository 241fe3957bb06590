//! What a run reached. A simulator that never gets into the states that matter finds nothing there.

use engine::status::Counters;

/// Counts things that happened.
macro_rules! coverage {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// See the module page. Counts of events, over one run or many.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct Coverage {
            $($(#[$meta])* pub $name: u64,)*
        }

        impl Coverage {
            /// The sum of two.
            #[must_use]
            pub fn plus(&self, other: &Self) -> Self {
                Self { $($name: self.$name + other.$name,)* }
            }

            /// Every count with its name.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

coverage! {
    /// Nodes killed.
    crashes,
    /// Of these, in the middle of what they sent.
    crashes_between_outputs,
    /// Writes of which some blocks survived a crash.
    torn_writes,
    /// Writes of which nothing survived.
    lost_writes,
    /// Writes that survived a crash whole, unreported.
    unreported_writes,
    /// Starts that found a torn tail.
    torn_tails,
    /// Cores that found their log damaged as they started.
    damaged_starts,
    /// Starts of cores that knew of a loss already, and abstain for want of room for another log.
    abstaining_starts,
    /// Damaged logs that were made to look whole while their node was down.
    cut_logs,
    /// Entities that could not be read back, and abstain.
    unreadable_entities,
    /// Segments opened.
    segments,
    /// Of these, in files that held old frames.
    recycled_segments,
    /// Log reads.
    reads,
    /// Log reads that failed.
    read_errors,
    /// Log writes that failed, and ended their node.
    write_errors,
    /// Bits flipped at rest.
    rotten_bits,
    /// Blocks written to the wrong place.
    misdirected_writes,
    /// Disks that filled up.
    full_disks,
    /// Nodes that lost their disks.
    wipes,
    /// Nodes with new disks that another node came to know.
    registrations,
    /// Damaged logs put aside for new ones.
    logs_put_aside,
    /// Starts of cores that rejoin.
    rejoining_starts,
    /// Nodes that died while a core of theirs rejoined.
    crashes_during_rejoin,
    /// Losses that were made up for.
    rejoins,
    /// Entities that had to catch up before they took part again.
    floors_waited_for,
    /// Times that a core which lost its log had a peer send all that it missed.
    transfers,
    /// Pages that came so.
    transfer_pages,
    /// Entities taken over from these pages.
    transfer_images,
    /// Votes of cores that had lost what they voted before.
    votes_after_losses,
    /// Entries that somebody who may not vote had to have finished.
    finishes,
    /// Later generations of others that cores learned of.
    generations_learned,
    /// Messages of earlier generations that were dropped.
    messages_outdated,
    /// Configurations that followed another.
    configurations,
    /// Of these, with a voter more.
    voters_added,
    /// With a voter less.
    voters_removed,
    /// With an even number of voters.
    even_voters,
    /// With one voter or two.
    few_voters,
    /// Members that were down when they were removed.
    removed_while_down,
    /// Changes of the membership that were begun.
    changes_proposed,
    /// Changes refused because the last one was not settled.
    changes_unsettled,
    /// Learners that were to vote before they held what was chosen.
    learners_behind,
    /// Versions that cores settled.
    configurations_settled,
    /// Versions that cores adopted.
    configurations_adopted,
    /// Ballots proposed for configurations.
    membership_rounds,
    /// Messages said in another version, or to or by who was no member.
    messages_unheard,
    /// Commands refused by nodes that were no members.
    commands_removed,
    /// Streams of notices that followers began to follow.
    streams_followed,
    /// Notices that came to followers.
    told_received,
    /// Times that notices were missing, and a sweep made up for them.
    told_lost,
    /// Times that a follower turned to another replica.
    failovers,
    /// Whole entities that followers took over.
    follower_images,
    /// Entities that a sweep of a follower found behind.
    follower_swept,
    /// Times that a replica's core that was not whole did not take a follower.
    follows_refused,
    /// Times that a follower said that it was in step, and that was looked at.
    claims_in_step,
    /// Messages between replicas that also came to a follower.
    strays,
    /// Followers that died.
    follower_crashes,
    /// Followers that lost their disks.
    followers_wiped,
    /// Reads that followers answered.
    follower_reads,
    /// Commands that followers refused.
    follower_refusals,
    /// Lines that tails kept.
    tail_lines,
    /// Of these, changes, …
    tail_changes,
    /// … and states.
    tail_states,
    /// Entities that were told to tails as a whole, because their node took them over.
    tail_resets,
    /// Passes over all entities of a core that tails came to the end of.
    tail_passes,
    /// Tails that died, and went on from the last line that they kept.
    tails_died,
    /// Questions of tails that were refused for a while.
    tail_refusals,
    /// Positions from which a tail could not go on.
    tail_gone,
    /// Nodes frozen.
    freezes,
    /// Clocks that jumped.
    clock_jumps,
    /// Connections made.
    handshakes,
    /// Connections refused.
    refused_handshakes,
    /// Connections broken.
    broken_links,
    /// Links cut in one direction.
    one_way_cuts,
    /// Nodes cut off from all others.
    partitions,
    /// Frames lost.
    lost_frames,
    /// Frames repeated.
    duplicated_frames,
    /// Frames damaged on the way.
    corrupted_frames,
    /// Frames refused by their receiver.
    refused_frames,
    /// Messages dropped for want of room.
    dropped_messages,
    /// Entries proposed in one round trip.
    pre_authorised,
    /// Prepares.
    prepares,
    /// Rounds lost to a higher ballot.
    duels,
    /// Values that lost their entry.
    lost_values,
    /// Values of others brought to an end.
    rescues,
    /// Entries finished with nothing.
    no_ops,
    /// Reads answered by a check.
    read_checks,
    /// Read checks that found the entry started, or the peer ahead.
    read_checks_failed,
    /// Commands handed to the replica that proposes.
    forwarded,
    /// Commands for what abstains, handed to other replicas.
    relayed,
    /// Messages left unanswered by what abstains.
    abstained,
    /// Messages repeated after silence.
    retries,
    /// Values left out for a replica that did not hold them.
    values_unresolved,
    /// Messages for entries far ahead.
    messages_ahead,
    /// Entries learned by catch-up.
    catch_up_entries,
    /// Entities that waited for the rate at which a replica catches up.
    catch_up_waits,
    /// Whole entities taken from a peer.
    images_installed,
    /// Whole entities logged.
    images_logged,
    /// Entities loaded from the log.
    loads,
    /// Entities evicted.
    evictions,
    /// Of these, with an entry that was open.
    open_evictions,
    /// Large entities loaded.
    large_loads,
    /// Large entities that were in memory when they were needed.
    large_hits,
    /// Large entities evicted because they passed their cache.
    large_evictions,
    /// Requests recognised as applied before.
    duplicates,
    /// Commands answered `UNKNOWN`.
    unknown,
    /// Entities a sweep found behind.
    swept_behind,
    /// Sweeps that had to compare everything, because nobody knew what the asker holds.
    sweeps_whole,
    /// Messages of sweeps.
    sweep_messages,
    /// Hints that a peer may lack something.
    lag_hints,
    /// Times that what a peer lacks was told from what advanced lately.
    lag_recent,
    /// Times that it was looked for among all entities.
    lag_walks,
    /// Times a core confirmed that it lacks nothing.
    lag_confirmed,
    /// Entities of which that was compared with the logs.
    lag_compared,
    /// Ranges in which a peer held the same.
    digests_equal,
    /// Of these, without knowing all chains.
    digests_without_chains,
    /// Ranges in which it held something else.
    digests_unequal,
    /// Cores that made up for all that they had missed while they were away.
    in_step_again,
    /// Replicas with a wrong copy of an entity, which the others had to find.
    wrong_copies,
    /// Of five copies, two that were wrong in the same way.
    wrong_copies_alike,
    /// Times a sweep showed another chain.
    chains_unlike,
    /// Times a checkpoint's write or adoption found no room, and was tried again.
    checkpoint_waits,
    /// Writes, adoptions and freeings of files that failed and ended their node.
    file_errors,
    /// Checkpoints adopted.
    checkpoints,
    /// Images in them.
    checkpointed,
    /// Images copied from disk to a checkpoint.
    checkpoint_copies,
    /// Records of open entries appended anew.
    relocated,
    /// Segments freed.
    segments_freed,
    /// Replicas that heard of a history other than their own.
    divergences,
    /// Copies that were in doubt and are not any more.
    healed,
    /// Images that could not be read back and were taken from the others.
    lost_images,
    /// Disks replayed from their beginning and compared.
    replays,
    /// Entries executed by that.
    replayed_entries,
    /// Images loaded by that.
    replayed_images,
    /// Images of the log that came to what had been executed.
    images_compared,
    /// Entries that were held back in the end, because nothing says that they are chosen.
    held_back,
    /// Entries executed by live mirrors.
    mirrored_entries,
    /// Images loaded by them.
    mirror_images,
    /// Times they had to begin anew.
    mirrors_begun_anew,
    /// Times they paused.
    mirror_pauses,
    /// Mirrors that kept too much log.
    mirrors_overrun,
    /// Locks on checkpoints.
    checkpoint_locks,
    /// Of these, not renewed in time.
    checkpoint_locks_expired,
}

impl Coverage {
    /// Adds what the shards of followers counted.
    pub fn add_followers(&mut self, counters: &Counters) {
        self.streams_followed += counters.streams_followed;
        self.told_received += counters.told_received;
        self.told_lost += counters.told_lost;
        self.failovers += counters.failovers;
        self.follower_images += counters.images_installed;
        self.follower_swept += counters.swept_behind;
        self.follower_reads += counters.local_reads;
        self.follower_refusals += counters.follower_refusals;
    }

    /// Adds what the shards counted.
    pub fn add_counters(&mut self, counters: &Counters) {
        self.tail_gone += counters.tail_gone;
        self.pre_authorised += counters.pre_authorised;
        self.prepares += counters.prepares;
        self.duels += counters.lost_rounds;
        self.lost_values += counters.lost_values;
        self.rescues += counters.rescues;
        self.no_ops += counters.no_ops;
        self.read_checks += counters.reads;
        self.read_checks_failed += counters.read_checks_failed;
        self.forwarded += counters.forwarded;
        self.relayed += counters.relayed;
        self.abstained += counters.abstained;
        self.retries += counters.retries;
        self.values_unresolved += counters.values_unresolved;
        self.messages_ahead += counters.messages_ahead;
        self.catch_up_entries += counters.catch_up_entries;
        self.catch_up_waits += counters.catch_up_waits;
        self.images_installed += counters.images_installed;
        self.images_logged += counters.images_logged;
        self.loads += counters.loads;
        self.evictions += counters.evictions;
        self.open_evictions += counters.open_evictions;
        self.large_loads += counters.large_loads;
        self.large_hits += counters.large_hits;
        self.large_evictions += counters.large_evictions;
        self.duplicates += counters.duplicates;
        self.unknown += counters.unknown;
        self.checkpoints += counters.checkpoints;
        self.checkpoint_copies += counters.checkpoint_copies;
        self.relocated += counters.relocated;
        self.segments_freed += counters.segments_freed;
        self.swept_behind += counters.swept_behind;
        self.sweeps_whole += counters.sweeps_whole;
        self.sweep_messages += counters.sweep_messages;
        self.lag_hints += counters.lag_hints;
        self.lag_recent += counters.lag_recent;
        self.lag_walks += counters.lag_walks;
        self.lag_confirmed += counters.lag_confirmed;
        self.digests_equal += counters.digests_equal;
        self.digests_without_chains += counters.digests_without_chains;
        self.digests_unequal += counters.digests_unequal;
        self.chains_unlike += counters.chains_unlike;
        self.finishes += counters.finishes;
        self.configurations_adopted += counters.configurations_adopted;
        self.membership_rounds += counters.membership_rounds;
        self.messages_unheard += counters.messages_unheard;
        self.commands_removed += counters.commands_removed;
        self.transfers += counters.transfers;
        self.transfer_pages += counters.transfer_pages;
        self.transfer_images += counters.transfer_images;
        self.follows_refused += counters.follows_refused;
        self.generations_learned += counters.generations_learned;
        self.messages_outdated += counters.messages_outdated;
        self.mirrors_overrun += counters.mirrors_overrun;
        self.checkpoint_locks += counters.checkpoint_locks;
        self.checkpoint_locks_expired += counters.checkpoint_locks_expired;
    }
}
