from ecotta_rt.sinks.tally import Tally


def test_a_run_in_which_no_frame_was_certain_enough_says_so():
    tally = Tally(frames=8, offered=8, uncertain=8)

    assert "; nothing was learned: no frame was certain enough" in str(tally)
    assert "whether it gives logits" in str(tally)


def test_a_run_that_learned_or_was_not_asked_to_says_nothing_of_it():
    for tally in (Tally(frames=8, offered=8, uncertain=7, adapted=1), Tally(frames=8), Tally(offered=2, uncertain=0)):
        assert "nothing was learned" not in str(tally)
