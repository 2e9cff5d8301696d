"""2,000 hostile inputs. `python -m tests.hostile.fuzz` runs more, with other seeds (docs/reliability.md)."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.fuzz import run


def test_hostile_inputs_end_in_sentences(tmp_path: Path) -> None:
    """Of 38,900 hostile inputs, 1,100 were tracebacks, and some took gigabytes or minutes."""
    outcomes = run(range(2000), 0, tmp_path)
    assert not [f"{name} {failure}" for name, outcome in outcomes.items() for failure in outcome.failures]
    assert all(outcome.refused for outcome in outcomes.values() if outcome.taken == 0)
    assert sum(outcome.refused for outcome in outcomes.values()) > 1000
