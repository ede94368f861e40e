"""The explorer: runs coroutines step by step, in every order that there is.

Law of this file: it knows tasks, steps and waiting, and nothing of tickets. A task is a coroutine that pauses
before each step; between two pauses nothing else runs. What a task will do next depends only on what it has seen,
which it notes in `Task.seen`. So two ways to the same shared state, with the same things seen by each task, have
the same future: it is explored once and counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Hashable, Sequence
from typing import Protocol, TypeAlias

from attrs import define, field, frozen

LONGEST = 120
"""More steps than this in one schedule are taken for a loop without end."""


@frozen
class Pause:
    """The point between two steps; with `behind`, the task can go on only when that task has let go."""

    behind: int | None = None
    is_free: Callable[[], bool] = lambda: True

    def __await__(self) -> Generator[Pause]:
        yield self


@define(eq=False)
class Task:
    """One operation on its way.

    Args:
        name: what it does, for the reader of a schedule.
        coroutine: what it runs.
        seen: everything that it has been answered so far.
    """

    name: str
    coroutine: Coroutine[Pause, None, Hashable]
    seen: list[Hashable]
    at: Pause = Pause()
    done: bool = False
    result: Hashable = None

    def __attrs_post_init__(self) -> None:
        self.step()  # to the pause before its first step

    def step(self, error: Exception | None = None) -> None:
        """Run to the next pause; with an error, as if the last step had failed with it."""
        try:
            self.at = self.coroutine.send(None) if error is None else self.coroutine.throw(error)
        except StopIteration as end:
            self.done, self.result = True, end.value

    def state(self) -> Hashable:
        return self.done, self.at.behind, tuple(self.seen)


Choice: TypeAlias = tuple[int, bool]
"""Which task comes next, and whether it is ended as the victim of a deadlock."""


class World(Protocol):
    """What is explored: tasks, and the state that they share."""

    @property
    def tasks(self) -> Sequence[Task]: ...

    def state(self) -> Hashable:
        """Return the shared state."""
        ...

    def check(self) -> None:
        """Raise AssertionError where what must always hold does not hold now."""
        ...

    def check_end(self) -> None:
        """Raise AssertionError where what must hold in the end does not."""
        ...

    def deadlock(self) -> Exception:
        """Return what the victim of a deadlock is told."""
        ...


@frozen
class Explored:
    """What was explored."""

    schedules: int
    """How many different orders of all steps there are; every one of them is covered."""
    states: int
    """How many different states they pass through; every one of them was checked."""
    longest: int
    """How many steps the longest schedule has."""

    def __add__(self, other: Explored) -> Explored:
        return Explored(
            self.schedules + other.schedules, self.states + other.states, max(self.longest, other.longest)
        )


class BrokenError(AssertionError):
    """A schedule at whose end, or on whose way, something does not hold."""

    def __init__(self, why: str, schedule: list[str]) -> None:
        self.schedule = schedule
        super().__init__(f"{why}\nin the schedule {' '.join(schedule)}")


def explore(start: Callable[[], World]) -> Explored:
    """Run every schedule of the tasks of a world.

    Args:
        start: makes the world, always the same one.

    Returns:
        How much that was.

    Raises:
        BrokenError: at the first schedule that breaks something.
    """
    return _Exploration(start).run()


@define
class _Exploration:
    start: Callable[[], World]
    known: dict[Hashable, int] = field(factory=dict)
    longest: int = 0

    def run(self) -> Explored:
        schedules = self._below(self.start(), ())
        return Explored(schedules, len(self.known), self.longest)

    def _below(self, world: World, path: tuple[Choice, ...]) -> int:
        """Return how many schedules go on from here, each of them explored."""
        self.longest = max(self.longest, len(path))
        key = (world.state(), tuple(task.state() for task in world.tasks))
        if key in self.known:
            _close(world)
            return self.known[key]
        choices = _choices(world)
        self._look(world, path, choices)
        total = 0 if choices else 1
        for choice in choices:
            # The first goes on with this very world; for the others it is made again.
            here = world if choice is choices[0] else self._again(path)
            self._take(here, choice, path)
            total += self._below(here, (*path, choice))
        self.known[key] = total
        return total

    def _again(self, path: tuple[Choice, ...]) -> World:
        world = self.start()
        for choice in path:
            _take(world, choice)
        return world

    def _take(self, world: World, choice: Choice, path: tuple[Choice, ...]) -> None:
        try:
            _take(world, choice)
        except Exception as error:
            raise BrokenError(f"{type(error).__name__}: {error}", _told(world, (*path, choice))) from error

    def _look(self, world: World, path: tuple[Choice, ...], choices: list[Choice]) -> None:
        try:
            world.check()
            if not choices:
                assert all(task.done for task in world.tasks), "somebody waits for ever"
                world.check_end()
            assert len(path) < LONGEST, "there is no end"
        except AssertionError as error:
            raise BrokenError(str(error), _told(world, path)) from error
        finally:
            if not choices:
                _close(world)


def _choices(world: World) -> list[Choice]:
    waiting = {n: task for n, task in enumerate(world.tasks) if not task.done}
    ready = [(n, False) for n, task in waiting.items() if task.at.is_free()]
    if ready or not waiting:
        return ready
    # A database takes its time to notice a deadlock, so whoever else can go on has done so.
    return [(n, True) for n in waiting if _is_in_a_ring(n, waiting)]


def _is_in_a_ring(first: int, waiting: dict[int, Task]) -> bool:
    passed: set[int] = set()
    at: int | None = first
    while at is not None and at not in passed:
        passed.add(at)
        at = waiting[at].at.behind
    return at == first


def _take(world: World, choice: Choice) -> None:
    n, is_victim = choice
    world.tasks[n].step(world.deadlock() if is_victim else None)


def _close(world: World) -> None:
    for task in world.tasks:
        task.coroutine.close()


def _told(world: World, path: tuple[Choice, ...]) -> list[str]:
    return [world.tasks[n].name + ("(deadlock)" if is_victim else "") for n, is_victim in path]
