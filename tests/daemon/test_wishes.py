"""What is asked of a daemon until it comes to it."""

from ecotta_rt.daemon.wishes import Wishes


def test_the_last_wish_of_a_kind_and_camera_wins_and_each_has_its_turn():
    wishes, done = Wishes(), []
    for number in range(1000):
        wishes.add("adapting", "door", lambda _, number=number: done.append(("door", number)))
        wishes.add("adapting", "yard", lambda _, number=number: done.append(("yard", number)))
        wishes.add("reset", "door", lambda _: done.append("reset"))

    while (wish := wishes.next()) is not None:
        wish(None)

    assert done == [("door", 999), ("yard", 999), "reset"]
