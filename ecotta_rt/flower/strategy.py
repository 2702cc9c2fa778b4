"""The Strategy: ask all nodes for their states, merge those that can be used, send merged ones to those that asked."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from logging import INFO, WARNING, getLogger

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from ecotta_rt.errors import EcottaError, TransferError
from ecotta_rt.fleet.merge import Merged, merge
from ecotta_rt.fleet.options import MergeOptions
from ecotta_rt.fleet.sources import StateBytes
from ecotta_rt.flower.payload import BOARD, CONFIG, STATES, contents_in, record_of, texts_in
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.messages import printable

__all__ = ["MergeStates", "Round"]

_LOOK_EVERY_S = 1.0
_MIB = 1 << 20
_LONGEST_REASON = 300
_LONGEST_NAME = 200
_MOST_NAMED = 100  # states of one node that are left out by name; of more it is said how many

_log = getLogger("flwr")


@dataclass
class Round:
    """What came of one round.

    Attributes:
        number: From 1.
        states: How many states were given.
        left_out: Those that could not be used, by name, and why.
        missing: Those that a node has and could not give, by name, and why.
        lost: Nodes that did not answer in time, or with an error.
        merged: What was merged; None: nothing.
        asked: By node the states whose merged ones it wants.
        taken: How many merged ones were written by those who asked.
    """

    number: int
    states: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)
    merged: Merged | None = None
    asked: dict[int, list[str]] = field(default_factory=dict)
    taken: int = 0


class MergeStates(Strategy):
    """Merges adapted states as `ecotta_rt.fleet.merge` does, so with the result of `ecotta merge` on the same files.

    A state that merge refuses, or that is far from all others, is left out and named. A robust merge counts states, so
    one node has one, or as many as it is given here: else whoever has one key could be most of the fleet. Nothing
    global is kept between rounds: a board that is late, or lost, is asked again in the next one.

    Args:
        options: Of the merge; `robust` is on, since anybody may send anything.
        least_nodes: So many have to be connected before a round begins.
        wait_s: Seconds to wait for them.
        most_mib: A state that is longer is left out.
        most_states: So many of a node count, the first by name; further ones are left out.
        gateways: By the id of a node how many of its count instead.
        done: Is given each round, when its states are merged.
        clock: Waits for nodes.

    Attributes:
        rounds: What came of each.
    """

    def __init__(
        self,
        options: MergeOptions,
        *,
        least_nodes: int = 2,
        wait_s: float = 300.0,
        most_mib: int = 64,
        most_states: int = 1,
        gateways: Mapping[int, int] | None = None,
        done: Callable[[Round], None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self._options, self._done, self._clock = options, done, clock or SystemClock()
        self._least_nodes, self._wait_s, self._most_bytes = least_nodes, wait_s, most_mib * _MIB
        self._most_states, self._gateways = most_states, dict(gateways or {})
        self._asked: list[int] = []
        self.rounds: list[Round] = []

    def summary(self) -> None:
        """Say what it does."""
        options = self._options
        rule, weights = options.rule or "clipped-mean", options.weights or "equal"
        _log.log(INFO, "\t├── merge: %s, weights %s", rule, weights)
        _log.log(INFO, "\t└── clusters: %s; at least %d nodes", options.clusters, self._least_nodes)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask all nodes that are connected for their states.

        Raises:
            TransferError: Too few are connected for too long.
        """
        self._asked = self._nodes(grid)
        return [
            Message(
                RecordDict({CONFIG: ConfigRecord({**config, "round": server_round})}),
                dst_node_id=node,
                message_type=MessageType.TRAIN,
                group_id=str(server_round),
            )
            for node in self._asked
        ]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Merge what came in time; what cannot be used is left out and named."""
        found = Round(server_round)
        self.rounds.append(found)
        states = self._given(found, replies)
        if states:
            self._merge(found, states)
        for name, why in {**found.missing, **found.left_out}.items():
            said = why.removeprefix(f"{name}: ")
            _log.log(WARNING, "\tleft out: %s: %s", printable(name), printable(said))
        self._done(found)
        merged = None if found.merged is None else record_of(_contents(found.merged))
        return merged, MetricRecord(
            {
                "states": found.states,
                "merged": 0 if found.merged is None else sum(len(group.members) for group in found.merged.groups),
                "groups": 0 if found.merged is None else len(found.merged.groups),
                "left-out": len(found.left_out),
                "missing": len(found.missing),
                "lost": len(found.lost),
            }
        )

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send each node that asked the merged states of the groups that its states are in."""
        found = self.rounds[-1]
        if found.merged is None:
            return []
        contents = _contents(found.merged)
        group_of = {
            member: str(number) for number, group in enumerate(found.merged.groups, 1) for member in group.members
        }
        messages = []
        for node, names in found.asked.items():
            groups = {name: group for name in names if (group := group_of.get(_label(node, name)))}
            if groups:
                said = ConfigRecord({"boards": [*groups], "groups": [*groups.values()]})
                record = record_of({group: contents[group] for group in sorted({*groups.values()})})
                messages.append(
                    Message(
                        RecordDict({STATES: record, BOARD: said, CONFIG: ConfigRecord({"round": server_round})}),
                        dst_node_id=node,
                        message_type=MessageType.EVALUATE,
                        group_id=str(server_round),
                    )
                )
        return messages

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Note who has written what was sent."""
        found, refused = self.rounds[-1], 0
        for reply in replies:
            if not reply.has_error():
                found.taken += len(texts_in(reply.content, "taken"))
                names, whys = texts_in(reply.content, "refused"), texts_in(reply.content, "why")
                refused += len(names)
                for name, why in zip(names, whys, strict=False):
                    _log.log(WARNING, "\t%s: not taken: %s", printable(name), printable(why))
        return MetricRecord({"taken": found.taken, "refused": refused})

    def _nodes(self, grid: Grid) -> list[int]:
        until_s = self._clock.now_s() + self._wait_s
        while len(nodes := sorted(grid.get_node_ids())) < max(1, self._least_nodes):
            if self._clock.now_s() >= until_s:
                raise TransferError(
                    f"{len(nodes)} nodes are connected after {self._wait_s:g} s, fewer than {self._least_nodes}; are "
                    "their SuperNodes running, and registered?"
                )
            self._clock.sleep_s(_LOOK_EVERY_S)
        return nodes

    def _given(self, found: Round, replies: Iterable[Message]) -> list[StateBytes]:
        """The states in replies, whoever sent them."""
        states, answered = [], set()
        for reply in replies:
            node = reply.metadata.src_node_id
            if reply.has_error():
                _log.log(WARNING, "\tnode %d: %s", node, printable(_last_line(reply.error.reason)))
                continue
            answered.add(node)
            for name, why in zip(texts_in(reply.content, "missing"), texts_in(reply.content, "why"), strict=False):
                found.missing[_label(node, name)] = why
            states += self._of_node(found, node, contents_in(reply.content))
            found.asked[node] = [*texts_in(reply.content, "asks")]
        found.lost = [node for node in self._asked if node not in answered]
        if found.lost:
            _log.log(WARNING, "\t%d of %d nodes did not answer", len(found.lost), len(self._asked))
        return states

    def _of_node(self, found: Round, node: int, contents: Mapping[str, bytes]) -> list[StateBytes]:
        """Those of a node's states that count."""
        most, named = self._gateways.get(node, self._most_states), 0
        states: list[StateBytes] = []
        found.states += len(contents)
        for name in sorted(contents):
            label, size = _label(node, name), len(contents[name])
            if len(name) > _LONGEST_NAME:
                why = f"its name has {len(name)} characters"
            elif size > self._most_bytes:
                why = f"{size} bytes, more than {self._most_bytes}"
            elif len(states) >= most:
                why = f"a node has {most} here; a gateway is given more (`gateways`)"
            else:
                states.append(StateBytes(label, contents[name]))
                continue
            named += 1
            if named <= _MOST_NAMED:
                found.left_out[label] = why
        if named > _MOST_NAMED:
            found.left_out[_label(node, "...")] = f"and {named - _MOST_NAMED} more states of this node"
        return states

    def _merge(self, found: Round, states: list[StateBytes]) -> None:
        try:
            found.merged = merge(states, self._options)
        except EcottaError as error:
            _log.log(WARNING, "\tnothing is merged in round %d: %s", found.number, printable(str(error)))
            found.left_out |= {state.name: str(error) for state in states}
        else:
            found.left_out |= {one.name: one.why for one in found.merged.left_out}


def _last_line(reason: str | None) -> str:
    """What went wrong, of a reason that may be a trace of many lines."""
    lines = [line.strip() for line in (reason or "it does not say why").splitlines() if line.strip(" >'")]
    return lines[-1][:_LONGEST_REASON] if lines else ""


def _label(node: int, name: str) -> str:
    """What a state is called in this round: names are their senders', and two may have the same."""
    return f"{node}/{name[:_LONGEST_NAME]}"


def _contents(merged: Merged) -> dict[str, bytes]:
    return {str(number): group.state.to_bytes() for number, group in enumerate(merged.groups, 1)}
