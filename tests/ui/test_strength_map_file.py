"""A strength map as the browser packs it, read as the server reads it."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider.metadata import unpack_map

ROOT = Path(__file__).parents[2]
SCRIPT = """import { load } from "./tests/ui/load_scripts.mjs";
const { packMap } = load(["strength_map_file.js"], ["packMap"]);
const [width, height] = process.argv.slice(1).map(Number);
const data = Uint8Array.from({ length: width * height }, (_, place) => (place * 7 + (place % 5) ** 3) % 256);
console.log(await packMap({ width, height, data }));"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on this machine")
@pytest.mark.parametrize(("width", "height"), [(1, 1), (53, 37), (512, 384)])
def test_the_server_reads_what_the_browser_packs(width, height):
    """A byte that is off in the file or its checksum, and no painted picture can be saved."""
    command = ["node", "--input-type=module", "-e", SCRIPT, str(width), str(height)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    text = result.stdout.strip()
    place = np.arange(width * height)
    expected = ((place * 7 + (place % 5) ** 3) % 256).reshape(height, width)
    assert np.array_equal(np.rint(255 * unpack_map(text)), expected)
    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        picture.verify()
