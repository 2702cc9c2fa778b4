"""The ClientApp: ours, but that in a simulation a node has the state's file of its number, and now and then fails."""

from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from ecotta_rt.fleet.folder import states_in
from ecotta_rt.flower.board import Board, board_of
from ecotta_rt.flower.client import give, take

__all__ = ["app", "lost_in"]

app = ClientApp()


@app.train()
def give_state(message: Message, context: Context) -> Message:
    """Reply with the newest states that this node has."""
    number, losses = context.node_config.get("partition-id"), int(context.run_config.get("simulated-losses", 0))
    if losses and number in lost_in(message.content["config"]["round"], losses, context.node_config["num-partitions"]):
        raise RuntimeError("this node is lost in this round, as the simulation wants it")
    return Message(give(board_for(context)), reply_to=message)


@app.evaluate()
def take_merged(message: Message, context: Context) -> Message:
    """Write the merged states that this node has asked for."""
    return Message(take(board_for(context), message.content), reply_to=message)


def board_for(context: Context) -> Board:
    """What the node has: its own configuration says, or in a simulation its number."""
    folder = context.run_config.get("simulated-states")
    if not folder:
        return board_of(context.node_config)
    files = [*states_in(folder).values()]
    number = context.node_config["partition-id"]
    asks = {"merged": str(Path(folder).with_name("taken"))} if number % 10 == 0 else {}
    return board_of({"state": str(files[number]), **asks})


def lost_in(number: int, losses: int, nodes: int) -> set[int]:
    """The nodes that fail in a round, others in each."""
    return {(losses * (number - 1) + place) % nodes for place in range(losses)}
