from search.ends import END_MEANINGS, TRIAL_ENDS


def test_every_end_has_a_meaning() -> None:
    assert TRIAL_ENDS == ("completed", "stopped", "diverged", "failed", "preempted")
    assert tuple(END_MEANINGS) == TRIAL_ENDS
