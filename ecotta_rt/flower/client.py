"""The ClientApp of a board or a gateway. It reads what the daemon has saved, and never adapts itself.

Flower's `train` stands for giving a state, for want of another word: what was learned was learned before. `evaluate`
stands for taking a merged one.
"""

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from ecotta_rt.errors import EcottaError
from ecotta_rt.flower.board import Board, board_of
from ecotta_rt.flower.payload import BOARD, COUNTS, STATES, contents_in, record_of, texts_in

__all__ = ["app", "give", "give_state", "take", "take_merged"]

app = ClientApp()


@app.train()
def give_state(message: Message, context: Context) -> Message:
    """Reply with the newest states that this node has."""
    return Message(give(board_of(context.node_config)), reply_to=message)


@app.evaluate()
def take_merged(message: Message, context: Context) -> Message:
    """Write the merged states that this node has asked for."""
    return Message(take(board_of(context.node_config), message.content), reply_to=message)


def give(board: Board) -> RecordDict:
    """What a node replies when it is asked for its states."""
    states, missing = board.given()
    asks = [] if board.merged is None else [*states]
    said = ConfigRecord({"asks": asks, "missing": [*missing], "why": [*missing.values()]})
    contents = {name: state.to_bytes() for name, state in states.items()}
    counts = MetricRecord({"states": len(states), "missing": len(missing)})
    return RecordDict({STATES: record_of(contents), BOARD: said, COUNTS: counts})


def take(board: Board, content: RecordDict) -> RecordDict:
    """Write what a server has sent, and say how many that were, and why others were not."""
    merged, own, taken, refused = contents_in(content), board.given()[0], [], {}
    for name, group in zip(texts_in(content, "boards"), texts_in(content, "groups"), strict=False):
        try:
            board.take(name, own.get(name), merged.get(group, b""))
        except EcottaError as error:
            refused[name] = str(error)
        else:
            taken.append(name)
    said = ConfigRecord({"taken": taken, "refused": [*refused], "why": [*refused.values()]})
    return RecordDict({BOARD: said, COUNTS: MetricRecord({"taken": len(taken), "refused": len(refused)})})
