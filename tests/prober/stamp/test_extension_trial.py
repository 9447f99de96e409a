from __future__ import annotations

from prober.stamp.extension_trial import PLAIN_AFTER_ANSWERS, ExtensionTrial


def test_until_a_tlv_is_answered_extended_and_plain_probes_alternate() -> None:
    trial = ExtensionTrial(wanted=True)
    assert [trial.extends() for _ in range(6)] == [True, False, True, False, True, False]
    assert trial.may_work and not trial.works
    assert not trial.answered(extended=True, understood=True)
    assert trial.works
    assert all(trial.extends() for _ in range(6))


def test_a_peer_that_never_answers_a_tlv_gets_plain_probes_for_good() -> None:
    trial = ExtensionTrial(wanted=True)
    verdicts = [
        trial.answered(extended=number % 2 == 0, understood=False) for number in range(PLAIN_AFTER_ANSWERS + 5)
    ]
    assert [number for number, verdict in enumerate(verdicts) if verdict] == [PLAIN_AFTER_ANSWERS - 1]
    assert trial.extended_answered and not trial.may_work
    assert not any(trial.extends() for _ in range(6))


def test_a_peer_that_is_replaced_by_one_without_extensions_gets_plain_probes() -> None:
    trial = ExtensionTrial(wanted=True)
    trial.answered(extended=True, understood=True)
    for _ in range(PLAIN_AFTER_ANSWERS - 1):
        assert not trial.answered(extended=True, understood=False)
    trial.answered(extended=True, understood=True)
    verdicts = [trial.answered(extended=True, understood=False) for _ in range(PLAIN_AFTER_ANSWERS)]
    assert verdicts[-1] and not any(verdicts[:-1])
    assert not trial.works and not trial.may_work and not trial.extends()


def test_as_long_as_no_extended_probe_was_answered_they_may_work() -> None:
    trial = ExtensionTrial(wanted=True)
    for _ in range(PLAIN_AFTER_ANSWERS - 1):
        trial.answered(extended=False, understood=False)
        assert trial.may_work
    assert trial.answered(extended=False, understood=False)
    assert not trial.may_work and not trial.extended_answered


def test_a_session_without_extensions_tries_none() -> None:
    trial = ExtensionTrial(wanted=False)
    assert not any(trial.extends() for _ in range(6))
    assert not any(trial.answered(extended=False, understood=False) for _ in range(2 * PLAIN_AFTER_ANSWERS))
    assert not trial.may_work
