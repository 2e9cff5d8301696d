"""The paper's kinds of edits: what a writer of instructions is told about each, and examples to draw from.

The words are this repository's own. An edit must be one that can be done by half, since a slider stops anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """`whole`: of the whole picture, else of one thing in it. `task` and `avoid` go into the system prompt."""

    name: str
    whole: bool
    task: str
    avoid: str
    examples: tuple[str, ...]


CATEGORIES: dict[str, Category] = {
    category.name: category
    for category in (
        Category(
            "stylization",
            True,
            "Name an art style, a technique or a look that the whole picture should take on, everything staying where "
            "it is.",
            "another place, weather or object",
            (
                "Turn the picture into a loose watercolour",
                "Make it look like a charcoal drawing on rough paper",
                "Render the scene as a stained glass window",
                "Give it the look of a woodblock print",
                "Paint it in thick impasto oil strokes",
                "Make it a flat poster with four colours",
                "Turn it into a pencil sketch with light hatching",
                "Redraw it as a page of an ink comic",
                "Make it look like a faded photograph from the 1970s",
                "Turn the picture into a mosaic of small tiles",
                "Give it the soft look of pastel chalk",
                "Make it a pixel art scene with large blocks",
                "Turn it into an embroidered picture",
                "Render it as a clay stop-motion set",
                "Make it a blue cyanotype print",
                "Paint it in the dots of pointillism",
            ),
        ),
        Category(
            "environment_change",
            True,
            "Change the weather, the season, the time of day or the light of the whole scene.",
            "changing what the things are or where they stand",
            (
                "Make it a foggy morning",
                "Cover the scene in fresh snow",
                "Turn the day into a clear night with moonlight",
                "Let a warm sunset fill the sky",
                "Make heavy rain fall over everything",
                "Change the season to late autumn",
                "Light the scene with a single candle",
                "Bring in dark storm clouds",
                "Make the air hazy with dust",
                "Turn it into a bright noon in summer",
                "Let spring blossom grow all around",
                "Put the scene in blue twilight",
                "Flood the ground with shallow water",
                "Make it a frosty winter dawn",
                "Light everything with green neon",
                "Let the wind fill the air with leaves",
            ),
        ),
        Category(
            "reimagining",
            True,
            "Move the whole scene to another world or time, in one bold idea, its layout still recognisable.",
            "a mere style or a mere change of weather",
            (
                "Put the scene at the bottom of the sea",
                "Turn the place into a desert of red sand",
                "Imagine it on the surface of Mars",
                "Make the whole scene out of sweets",
                "Turn it into a ruin overgrown by jungle",
                "Set it in a city of the far future",
                "Make everything part of a paper theatre",
                "Turn the surroundings into a field of glowing mushrooms",
                "Set the scene inside a snow globe",
                "Imagine it in the age of steam engines",
                "Turn the ground into drifting clouds",
                "Make it a world built from toy bricks",
                "Set it in an enchanted forest at dusk",
                "Turn the place into a cave of ice",
                "Imagine it a hundred years after people left",
                "Make the scene a haunted house",
            ),
        ),
        Category(
            "appearance_change",
            False,
            "Choose one thing that is clearly to be seen and give it another colour or pattern.",
            "another material, size or shape",
            (
                "Make the car bright yellow",
                "Give the sofa a pattern of thin blue stripes",
                "Turn the cat's fur to ginger",
                "Paint the door dark green",
                "Cover the cup with white dots",
                "Make her jacket deep red",
                "Give the vase a floral pattern",
                "Turn the leaves of the plant purple",
                "Make the wall a pale peach",
                "Give the umbrella the colours of a rainbow",
                "Make the horse white with brown patches",
                "Paint the boat turquoise",
                "Give the tie a check pattern",
                "Make the bird's feathers blue",
                "Turn the apples golden",
                "Make the bicycle frame black and orange",
            ),
        ),
        Category(
            "material_change",
            False,
            "Choose one thing that is clearly to be seen and say what else it should be made of.",
            "another colour alone, size or shape",
            (
                "Make the teapot out of clear glass",
                "Turn the chair into polished marble",
                "Make the statue of rusted iron",
                "Turn the dog into a knitted toy",
                "Make the shoes of shiny gold",
                "Turn the table into raw oak",
                "Make the car body brushed steel",
                "Turn the hat into woven straw",
                "Make the fish out of folded paper",
                "Turn the bag into cracked leather",
                "Make the tree of green jade",
                "Turn the guitar into carved ice",
                "Make the house of red brick",
                "Turn the bottle into matte ceramic",
                "Make the lamp of hammered copper",
                "Turn the cushion into thick velvet",
            ),
        ),
        Category(
            "attribute_change",
            False,
            "Choose one thing or person and change a property that has degrees: size, age, length, fullness, wear, "
            "brightness, expression.",
            "taking things away or putting new ones in",
            (
                "Make the tree twice as tall",
                "Make the old man look young",
                "Let her hair grow long",
                "Make the bread look freshly baked",
                "Make the ball smaller",
                "Give the dog a fluffier coat",
                "Make the lamp shine brighter",
                "Make the child smile broadly",
                "Let the paint of the fence peel",
                "Make the pumpkin enormous",
                "Make the flowers wilt",
                "Give the man a fuller beard",
                "Make the candle burn down",
                "Make the mountains higher",
                "Make the cake richer with cream",
                "Let the cat look sleepy",
            ),
        ),
        Category(
            "object_morphing",
            False,
            "Choose one thing and say what other thing of about the same size it should turn into, in its place.",
            "changing the surroundings",
            (
                "Turn the dog into a fox",
                "Turn the ball into a cube",
                "Change the car into a carriage",
                "Turn the apple into a pear",
                "Change the chair into a throne",
                "Turn the cup into a small bucket",
                "Change the swan into a paper boat",
                "Turn the guitar into a violin",
                "Change the cactus into a palm",
                "Turn the sandals into boots",
                "Change the lamp into a lighthouse",
                "Turn the cat into a small tiger",
                "Change the bench into a log",
                "Turn the rose into a sunflower",
                "Change the tent into an igloo",
                "Turn the clock into a full moon",
            ),
        ),
    )
}
