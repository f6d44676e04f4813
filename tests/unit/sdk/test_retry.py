from kernelgate.sdk._retry import Backoff
from kernelgate.sdk.settings import Retry, Timeout


def test_pauses_double_up_to_their_bound():
    backoff = Backoff(Retry(for_s=100, first_pause_s=0.5, max_pause_s=3))
    assert [backoff.next_pause_s(0) for _ in range(5)] == [0.5, 1, 2, 3, 3]


def test_it_gives_up_when_nothing_was_heard_for_the_whole_time():
    backoff = Backoff(Retry(for_s=10, first_pause_s=4, max_pause_s=4))
    assert backoff.next_pause_s(100) == 4
    assert backoff.next_pause_s(104) == 4
    assert backoff.next_pause_s(108) == 2
    assert backoff.next_pause_s(110) is None


def test_a_sign_of_life_gives_the_whole_time_again():
    backoff = Backoff(Retry(for_s=10, first_pause_s=1, max_pause_s=8))
    for now in (0, 1, 3, 7):
        backoff.next_pause_s(now)
    backoff.succeeded()
    assert backoff.next_pause_s(60) == 1
    assert backoff.next_pause_s(69.5) == 0.5


def test_no_time_means_no_retry():
    assert Backoff(Retry.of(0)).next_pause_s(5) is None


def test_jitter_spreads_the_pauses():
    assert Backoff(Retry(for_s=100, first_pause_s=1), jitter=0.5).next_pause_s(0) == 1.5


def test_one_number_is_enough_for_either_setting():
    assert Retry.of(3).for_s == 3
    assert Retry.of(Retry(for_s=4)).for_s == 4
    assert Timeout.of(2) == Timeout(connect_s=2, read_s=2, write_s=2, pool_s=2)
    assert Timeout.of(None).read_s is None
    assert Timeout.of(Timeout(read_s=9)).read_s == 9
