"""The table that compares morphers."""

from kontext_slider.train.data.morph.measure import Row, table


def test_the_table_puts_the_nearest_to_the_truth_first():
    """A table that is read from the top should not begin with the worst."""
    rows = {("a", "true"): [Row(20, 30, 30, 0.1, 0.2, 1)], ("b", "true"): [Row(30, 30, 30, 0.1, 0.1, 1)]}
    lines = table(rows, 0.15).splitlines()
    assert lines[2].startswith("| b") and "| 100% |" in lines[2] and "| 0% |" in lines[3]
