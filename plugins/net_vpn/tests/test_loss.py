"""How losses are counted, reported, and answered by smaller groups."""

from kairos_net_vpn.loss import AGAIN, CREDIT, PROBES, QUIET, REPORT_EVERY, START, Losses, Members


def test_what_is_missing_between_two_reports_is_lost() -> None:
    losses = Losses()
    assert not losses.is_due(5.0)
    losses.note(2, 3, 24)
    assert losses.is_due(5.0)
    assert losses.take(5.0) == (0, 24)
    losses.note(9, 5, 40)
    assert not losses.is_due(5.0 + REPORT_EVERY / 2)
    assert losses.is_due(5.0 + REPORT_EVERY)
    assert losses.take(5.0 + REPORT_EVERY) == (2, 40)
    assert losses.datagrams == 64


def test_what_waits_is_not_lost_yet_and_counts_when_it_is() -> None:
    losses = Losses()
    losses.note(9, 7, 56)  # three are missing, of which two wait
    assert losses.take(1.0, 2) == (1, 56)
    losses.note(5, 1, 8)  # one has become whole
    losses.note(10, 1, 8)
    assert losses.take(2.0) == (1, 16), "and one has not"


def test_what_is_sent_is_kept_until_nothing_was_lost_for_a_while() -> None:
    members = Members()
    assert not members.keeps
    members.asked()
    assert members.keeps
    for _ in range(QUIET):
        members.learn(0, 10_000)
    members.learn(1, 10_000)
    assert members.keeps


def test_a_peer_may_ask_for_a_share_of_what_it_was_sent() -> None:
    members = Members()
    assert not members.spend()
    members.kept(1600)
    assert sum(members.spend() for _ in range(1000)) == 1600 * AGAIN
    members.kept(1_000_000)
    assert sum(members.spend() for _ in range(1000)) == CREDIT


def test_what_comes_late_makes_no_negative_loss() -> None:
    losses = Losses()
    losses.note(9, 1, 1)
    assert losses.take(1.0) == (9, 1)
    for counter in range(9):
        losses.note(counter, 1, 1)
    assert losses.take(3.0) == (0, 9)


def test_groups_are_large_without_loss_and_small_with_much() -> None:
    members, seen = Members(), []
    for lost in (0, 5, 50, 300, 700):
        for _ in range(10):
            members.learn(lost, 10_000)
        seen.append(members.count)
    assert seen == [64, 8, 4, 2, 1]
    for _ in range(15):
        members.learn(0, 10_000)
        seen.append(members.count)
    assert list(dict.fromkeys(seen)) == [64, 8, 4, 2, 1, 16]
    assert seen[-1] == 64


def test_one_loss_among_few_datagrams_says_little() -> None:
    members = Members()
    at_first = members.count
    members.learn(1, 3)
    assert members.count == at_first
    for _ in range(10):
        members.learn(0, 10_000)
    members.learn(1, 3)
    assert members.count >= at_first


def test_an_empty_report_changes_nothing() -> None:
    members = Members()
    at_first = members.count
    members.learn(0, 0)
    members.learn(7, 0)
    assert (members.count, members.share) == (at_first, START)


def test_a_probe_that_is_lost_says_nothing_of_the_path() -> None:
    members = Members()
    for _ in range(10):
        members.learn(0, 10_000)
    for _ in range(5):
        members.probed()
    members.answered()
    assert members.learn(3, 10_000) == 0
    assert (members.count, members.keeps) == (64, False)
    assert members.learn(3, 10_000) == 2, "of five probes one was answered, and three were reported before"
    assert members.keeps


def test_probes_hide_a_bounded_number_of_losses() -> None:
    members = Members()
    for _ in range(10_000):
        members.probed()
    assert members.learn(1000, 10_000) == 1000 - PROBES
    for _ in range(10):
        members.answered()
    assert members.learn(1, 10_000) == 1
