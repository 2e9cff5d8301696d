"""What `import kontext_slider` gives."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest


def test_importing_the_package_loads_nothing_heavy():
    """The command line's --help must not wait for torch."""
    heavy = "[name for name in ('torch', 'diffusers', 'gradio') if name in sys.modules]"
    code = f"import sys, kontext_slider; dir(kontext_slider); print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_resolves():
    """A name in __all__ without a home fails only when somebody uses it."""
    import kontext_slider

    for name in random.sample(kontext_slider.__all__, len(kontext_slider.__all__)):
        assert getattr(kontext_slider, name) is not None
    with pytest.raises(AttributeError, match="nothing_such"):
        kontext_slider.nothing_such  # noqa: B018
