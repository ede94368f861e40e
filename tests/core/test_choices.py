"""The host's choices: their defaults, what they complete, and what they refuse."""

from __future__ import annotations

import pickle
from datetime import timedelta

import attrs
import pytest

from tests.support.samples import HOUR, TICK, a_message, a_name
from ticketrouter import Effect, InvalidMessageError, MessageKind, Policy, Reopen, Scope

DEFAULT_EFFECTS = {
    MessageKind.MESSAGE: Effect.OPEN,
    MessageKind.ECHO: Effect.ATTACH,
    MessageKind.NOTICE: Effect.ATTACH,
}


def test_the_default_policy_is_one_ticket_per_connection_never_reopened():
    """A host that chooses nothing gets the plain rule, in groups too."""
    expected = Policy(Scope.CONNECTION, Reopen.never(), None, DEFAULT_EFFECTS)

    assert expected == Policy()


@pytest.mark.parametrize(
    ("make", "window"),
    [
        pytest.param(Reopen.never, None, id="never"),
        pytest.param(lambda: Reopen.within(HOUR), HOUR, id="within"),
        pytest.param(Reopen.always, timedelta.max, id="always"),
    ],
)
def test_a_reopened_ticket_loses_its_agent_and_keeps_its_queue(make, window):
    """The three ways to reopen differ in the window only."""
    assert Reopen(window, keep_user=False, keep_queue=True) == make()


@pytest.mark.parametrize("keep_user", [True, False], ids=["agent stays", "agent goes"])
@pytest.mark.parametrize("keep_queue", [True, False], ids=["queue stays", "queue goes"])
@pytest.mark.parametrize(
    ("make", "window"),
    [
        pytest.param(Reopen.never, None, id="never"),
        pytest.param(lambda **keep: Reopen.within(HOUR, **keep), HOUR, id="within"),
        pytest.param(Reopen.always, timedelta.max, id="always"),
    ],
)
def test_each_way_to_reopen_may_say_what_stays(make, window, keep_user, keep_queue):
    """Agent and queue are chosen apart."""
    expected = Reopen(window, keep_user=keep_user, keep_queue=keep_queue)

    assert expected == make(keep_user=keep_user, keep_queue=keep_queue)


@pytest.mark.parametrize(
    ("reopen", "age", "expected"),
    [
        pytest.param(Reopen.never(), -HOUR, False, id="never, closed after the message"),
        pytest.param(Reopen.never(), timedelta(0), False, id="never, this instant"),
        pytest.param(Reopen.within(HOUR), -HOUR, True, id="within, closed after the message"),
        pytest.param(Reopen.within(HOUR), HOUR - TICK, True, id="within, before the edge"),
        pytest.param(Reopen.within(HOUR), HOUR, True, id="within, on the edge"),
        pytest.param(Reopen.within(HOUR), HOUR + TICK, False, id="within, beyond the edge"),
        pytest.param(Reopen.within(timedelta(0)), timedelta(0), True, id="within nothing, this instant"),
        pytest.param(Reopen.within(timedelta(0)), TICK, False, id="within nothing, later"),
        pytest.param(Reopen.always(), timedelta.max, True, id="always, at any age"),
    ],
)
def test_a_window_reaches_up_to_its_edge(reopen, age, expected):
    """The edge of the window belongs to it."""
    assert expected is reopen.reaches(age)


@pytest.mark.parametrize("value", [-TICK, timedelta.min, 3600, "1h", True], ids=a_name)
@pytest.mark.parametrize("make", [Reopen, Reopen.within], ids=["Reopen", "within"])
def test_a_window_is_a_duration_that_does_not_run_backwards(make, value):
    """A negative window, or a number of who knows what, is refused."""
    with pytest.raises(InvalidMessageError) as caught:
        make(value)

    assert ("window", value, "a timedelta of zero or more") == (
        caught.value.field,
        caught.value.value,
        caught.value.expected,
    )


def test_within_no_window_at_all_is_refused():
    """`within(None)` is a setting that was not found, and no wish never to reopen."""
    with pytest.raises(InvalidMessageError, match="window must be a timedelta of zero or more, not None"):
        Reopen.within(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1, None, "no"], ids=a_name)
def test_what_stays_is_true_or_false(value):
    """A text from a settings table is no bool."""
    with pytest.raises(InvalidMessageError, match="keep_queue must be True or False"):
        Reopen.always(keep_queue=value)
    with pytest.raises(InvalidMessageError, match="keep_user must be True, False, or the ids of the agents"):
        Reopen.always(keep_user=value)


@pytest.mark.parametrize("kind", [list, set, tuple, frozenset, iter], ids=a_name)
def test_who_may_keep_a_ticket_is_kept_as_a_set(kind):
    """Whatever the host has them in, which it may change afterwards; the choice stays a value."""
    chosen = Reopen.within(HOUR, keep_user=kind([7, "8"]))

    assert frozenset({7, "8"}) == chosen.keep_user
    assert chosen == Reopen.within(HOUR, keep_user={"8", 7})
    assert hash(chosen) == hash(Reopen.within(HOUR, keep_user={"8", 7}))
    assert [True, False, True, False] == [chosen.keeps(each) for each in (7, "7", "8", None)]
    assert not Reopen.never(keep_user=()).keeps(7)


@pytest.mark.parametrize("value", [[True], [None], [""], [7, 1.5]], ids=a_name)
def test_who_may_keep_a_ticket_is_named_by_ids(value):
    """What is no id can be nobody."""
    with pytest.raises(InvalidMessageError) as caught:
        Reopen.never(keep_user=value)

    assert "keep_user" == caught.value.field


@pytest.mark.parametrize("value", [True, "", 1.5], ids=a_name)
def test_a_queue_is_named_by_an_id(value):
    """As the queue of a ticket is."""
    with pytest.raises(InvalidMessageError) as caught:
        Policy(queue_id=value)

    assert "queue_id" == caught.value.field


def test_a_policy_is_copied_with_its_queue():
    """Whoever sends it to another process has all of it there."""
    policy = Policy(reopen=Reopen.always(keep_user={7}), groups=Policy(queue_id=4), queue_id=3)

    assert policy == pickle.loads(pickle.dumps(policy))


# --- effects --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effects", "changed"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({MessageKind.ECHO: Effect.OPEN}, {MessageKind.ECHO: Effect.OPEN}, id="one kind"),
        pytest.param({"echo": "open"}, {MessageKind.ECHO: Effect.OPEN}, id="words"),
        pytest.param({"message": "attach"}, {MessageKind.MESSAGE: Effect.ATTACH}, id="against the default"),
        pytest.param(
            dict.fromkeys(MessageKind, Effect.OPEN), dict.fromkeys(MessageKind, Effect.OPEN), id="every kind"
        ),
    ],
)
def test_a_kind_that_is_left_out_keeps_its_default(effects, changed):
    """A partial mapping is completed."""
    assert DEFAULT_EFFECTS | changed == dict(Policy(effects=effects).effects)


@pytest.mark.parametrize("kind", MessageKind)
def test_the_effect_of_a_message_is_that_of_its_kind(kind):
    """A policy is asked about a message."""
    policy = Policy(effects={kind: Effect.ATTACH if kind is MessageKind.MESSAGE else Effect.OPEN})

    assert policy.effects[kind] is policy.effect(a_message(kind=kind))
    assert DEFAULT_EFFECTS[kind] is not policy.effect(a_message(kind=kind))


@pytest.mark.parametrize(
    ("effects", "value", "expected"),
    [
        pytest.param({"sticker": "open"}, "sticker", "one of message, echo, notice", id="unknown kind"),
        pytest.param({"echo": "maybe"}, "maybe", "one of open, attach", id="unknown effect"),
        pytest.param({"echo": None}, None, "one of open, attach", id="no effect"),
        pytest.param(None, None, "a mapping of MessageKind to Effect", id="none"),
        pytest.param(
            [("echo", "open")], [("echo", "open")], "a mapping of MessageKind to Effect", id="list of pairs"
        ),
    ],
)
def test_effects_that_are_none_are_refused(effects, value, expected):
    """Unknown words are refused, and the known ones are listed."""
    with pytest.raises(InvalidMessageError) as caught:
        Policy(effects=effects)

    assert ("effects", value, expected) == (caught.value.field, caught.value.value, caught.value.expected)


# --- policies -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", Scope)
def test_a_scope_may_be_given_as_its_word(scope):
    """The word of a scope becomes the scope."""
    assert Policy(scope=scope.value).scope is scope


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("scope", "company", "one of connection, contact"),
        ("scope", None, "one of connection, contact"),
        ("reopen", None, "a Reopen, as Reopen.within(timedelta(hours=2)) is"),
        ("reopen", HOUR, "a Reopen, as Reopen.within(timedelta(hours=2)) is"),
        ("groups", Reopen.always(), "a Policy without groups of its own, or None"),
        ("groups", Policy(groups=Policy()), "a Policy without groups of its own, or None"),
    ],
    ids=["scope-word", "scope-none", "reopen-none", "reopen-duration", "groups-reopen", "groups-in-groups"],
)
def test_a_choice_that_is_none_is_refused(name, value, expected):
    """Each choice is checked when the policy is made."""
    with pytest.raises(InvalidMessageError) as caught:
        Policy(**{name: value})

    assert (name, value, expected) == (caught.value.field, caught.value.value, caught.value.expected)


@pytest.mark.parametrize(
    ("policy", "group_id", "expected"),
    [
        pytest.param(Policy(), None, Policy(), id="direct"),
        pytest.param(Policy(), 9, Policy(), id="group, the same"),
        pytest.param(
            Policy(groups=Policy("contact")),
            None,
            Policy(groups=Policy("contact")),
            id="direct beside groups",
        ),
        pytest.param(Policy(groups=Policy("contact")), 9, Policy("contact"), id="group of its own"),
    ],
)
def test_groups_have_a_policy_of_their_own_where_there_is_one(policy, group_id, expected):
    """A group message goes by `groups`, any other by the policy itself."""
    assert expected == policy.of(a_message(group_id=group_id))


def test_policies_that_differ_in_an_effect_are_different():
    """Effects are no part of the hash, but they are of equality."""
    policy = Policy(effects={MessageKind.ECHO: Effect.OPEN})

    assert policy != Policy()
    assert {policy, Policy()} == {Policy(), attrs.evolve(policy)}
