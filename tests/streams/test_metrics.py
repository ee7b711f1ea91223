"""What a worker counts."""

import pytest

from streams import metrics


def test_a_run_of_the_head_is_counted_and_one_that_fails_is_none() -> None:
    def counted() -> tuple[float, float]:
        of_head = {"model": "head"}
        value = metrics.REGISTRY.get_sample_value
        runs = value("aq_inference_batch_size_count", of_head) or 0.0
        return runs, value("aq_inference_batch_size_sum", of_head) or 0.0

    runs, rows = counted()
    with metrics.head_run(7):
        pass
    assert counted() == (runs + 1, rows + 7)
    with pytest.raises(ZeroDivisionError), metrics.head_run(9):
        raise ZeroDivisionError
    assert counted() == (runs + 1, rows + 7)
