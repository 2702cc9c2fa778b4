"""A folder with one state a board."""

from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.fleet.folder import state_path, states_in


@given(st.lists(st.text(max_size=300), unique=True, max_size=5))
def test_each_board_has_a_file_of_its_own_right_in_the_folder(boards):
    paths = [state_path("/srv/boards", board) for board in boards]

    assert len({*paths}) == len(boards)
    assert all(str(path.parent) == "/srv/boards" and len(path.name.encode()) < 255 for path in paths)
    assert all(not path.name.startswith(".") for path in paths)


def test_states_are_found_by_their_boards_names_in_order(tmp_path):
    for board in ("yard", "door", "gate"):
        state_path(tmp_path, board).touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".state.safetensors").touch()

    assert [*states_in(tmp_path)] == ["door", "gate", "yard"]
    assert states_in(tmp_path)["door"] == tmp_path / "door.state.safetensors"
    assert states_in(tmp_path / "nowhere") == {}
