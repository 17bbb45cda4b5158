from realign.engine.progress import Progress


def test_the_time_that_is_left_follows_this_attempts_own_pace():
    progress = Progress("train", 782, "steps", done=700)
    assert "left" not in progress._line(progress._started + 1, {})
    progress.done += 6
    assert progress._line(progress._started + 60, {}) == "train: 706/782 steps in 60 s, 760 s left"
