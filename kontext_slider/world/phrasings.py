"""How people ask for edits: frames with a place for a word ("{}") and for the object ("{thing}"), parted by "|".

An edit's phrasings are all pairs of its frames and words. Those with (frame + 2 word) % 5 == 4 are held out from
training, so the fifth frame is new with the first word only: every word of a held-out phrasing is in a trained one.
"""

from __future__ import annotations


def split(text: str) -> tuple[str, ...]:
    """The phrases of a "|" list."""
    return tuple(text.split("|"))


BECOME = split(
    "make it {}|turn it into {}|make this {}|change it to {}|turn this into {}|i want {}|make the picture {}"
)
ADD = split("add {}|add some {}|give it {}|put {} in|i want {}|put some {} in|give this {}")
DRAW = split("make it {}|turn it into {}|draw it as {}|make this {}|turn this into {}|i want {}|change it to {}")
COLOUR = split(
    "make the {thing} {}|turn the {thing} {}|paint the {thing} {}|change the {thing} to {}|turn the {thing} to {}|"
    "the {thing} should be {}|give the {thing} a {} color|i want a {} {thing}|color the {thing} {}|"
    "paint the {thing} in {}|make the {thing} {} in color"
)
MATERIAL = split(
    "make the {thing} {}|turn the {thing} into {}|make the {thing} out of {}|the {thing} should be {}|"
    "change the {thing} to {}|the {thing} should be made of {}|i want a {} {thing}|make it a {} {thing}|"
    "turn it into a {} {thing}|i want the {thing} made of {}"
)
PATTERN = split(
    "put {} on the {thing}|add {} to the {thing}|give the {thing} {}|paint {} on the {thing}|draw {} on the {thing}|"
    "i want {} on the {thing}|paint the {thing} with {}|the {thing} should have {}|cover the {thing} with {}|"
    "cover the {thing} in {}"
)
SHAPE = split(
    "turn the {thing} into a {}|make the {thing} a {}|change the {thing} to a {}|the {thing} should be a {}|"
    "change the {thing} into a {}|i want a {} for the {thing}|put a {} for the {thing}|replace the {thing} with a {}|"
    "make a {} of the {thing}|turn the {thing} to a {}"
)
SIZE = split(
    "make the {thing} {}|i want a {} {thing}|the {thing} should be {}|turn it into a {} {thing}|turn the {thing} {}|"
    "make it a {} {thing}|change the {thing} to {}|i want the {thing} to be {}|the {thing} to be {}"
)
LIGHT = split(
    "turn on the {thing}|make the {thing} shine|light the {thing}|make the {thing} glow|turn the {thing} on|"
    "turn up the {thing}|i want the {thing} on|the {thing} should shine|the {thing} should glow|"
    "i want the {thing} to shine"
)
MOUNTAINS = split(
    "make the mountains {}|i want {} mountains|the mountains should be {}|make it {} mountains|"
    "i want the mountains {}|raise the mountains and make them {}"
)
SKY = split("make it {}|make the sky {}|the sky should be {}|i want a {} sky|i want the sky {}|give it a {} sky")
