"""PIE-Bench folders made on the spot, in both layouts: three edits of types 0, 2 and 9."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

from PIL import Image

KINDS = {"0": "0_random_140", "2": "2_add_object_80", "9": "9_change_style_80"}
MASK = [0, 512, 1024, 3]


def picture(number: int) -> Image.Image:
    """512 x 512, each of its own red, lighter towards the right."""
    image = Image.linear_gradient("L").rotate(90).resize((512, 512))
    return Image.merge("RGB", (image.point(lambda v: min(255, v + 20 * number)), image, image))


def original_folder(folder: Path) -> Path:
    """`mapping_file.json` and `annotation_images/`."""
    (folder / "annotation_images" / "0").mkdir(parents=True)
    entries = {}
    for number, kind in enumerate(KINDS):
        picture(number).save(folder / "annotation_images" / "0" / f"{number}.png")
        entries[f"00{number}"] = {
            "image_path": f"0/{number}.png",
            "original_prompt": "a [round] cake",
            "editing_prompt": "a [square] cake",
            "editing_instruction": "make it square",
            "editing_type_id": kind,
            "mask": MASK,
        }
    (folder / "mapping_file.json").write_text(json.dumps(entries))
    return folder


def hub_folder(folder: Path) -> Path:
    """One Parquet file per type, as `hf download` leaves the hub's data set; pictures are stored as files' bytes."""
    from datasets import Dataset

    for number, (kind, name) in enumerate(KINDS.items()):
        (folder / name).mkdir(parents=True)
        stream = BytesIO()
        picture(number).save(stream, "PNG")
        row = {
            "image": {"bytes": stream.getvalue(), "path": f"{number}.png"},
            "id": f"{kind}00{number}",
            "source_prompt": "a [round] cake",
            "target_prompt": "a [square] cake",
            "edit_action": "{'square': {'position': 1, 'edit_type': 1, 'action': 'round'}}",
            "aspect_mapping": "{'cake': ['square']}",
            "blended_words": '["cake,cake"]',
            "mask": " ".join(map(str, MASK)),
        }
        Dataset.from_list([row]).to_parquet(str(folder / name / "V1-00000-of-00001.parquet"))
    return folder
