"""The English of the caption grammar: words and templates. The first template of a list is the commonest by far.

Template fields: things (all objects), thing and other (the first and second object), kind (the first without article),
full (the first with its size), direction, way, moves, moving, side (of the first contact), relation, pace, place, then.
"""

COLOURS = {
    name: name
    for name in ("red", "green", "blue", "yellow", "orange", "purple", "cyan", "pink", "salmon", "black")
}
SHAPES = {"circle": "circle", "square": "square", "triangle": "triangle"}
SIZES = ("tiny ", "small ", "medium ", "large ", "huge ")
PACES = ("very slowly", "slowly", "steadily", "quickly", "very fast")
MOVES = ("moves", "goes", "travels", "slides", "drifts", "glides")
MOVING = ("moving", "going", "travelling", "sliding", "drifting", "gliding")
NUMBERS = ("no", "one", "two", "three", "four")
DIRECTIONS = {"right": "right", "left": "left", "up": "up", "down": "down"}
WAYS = {
    "right": ("right", "to the right", "rightward", "towards the right"),
    "left": ("left", "to the left", "leftward", "towards the left"),
    "up": ("up", "upward", "to the top", "towards the top"),
    "down": ("down", "downward", "to the bottom", "towards the bottom"),
}
SIDES = {"right": "right wall", "left": "left wall", "up": "top wall", "down": "bottom wall"}
FLOOR = "floor"
RELATIONS = {"left of": "left of", "right of": "right of", "above": "above", "below": "below"}
PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("at the left", "in the centre", "at the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
STILL, DRIFTING, PICTURE = "at rest", "drifting slowly", "in a picture"


def noun(colour: str, shape: str, size: str = "", count: int = 1) -> str:
    """'a red circle', 'three small red circles', and with count 0 the bare 'red circle'."""
    bare = f"{size}{colour} {shape}"
    if count > 1:
        return f"{NUMBERS[count]} {bare}s"
    article = "an " if bare[0] in "aeiou" else "a "
    return (article if count else "") + bare


def join(parts: list[str]) -> str:
    """'x', 'x and y', 'x, y and z'."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def contact(sides: list[str]) -> str:
    """A sentence on the contacts with walls, in order."""
    return f"It bounces off the {', then the '.join(sides)}." if sides else ""


def finish(text: str, style: str) -> str:
    """Dense captions are sentences; short ones are phrases without capital or stop."""
    text = " ".join(text.split())
    return text[0].upper() + text[1:] if style == "dense" else text


SHORT = {
    "uniform": (
        "{thing} moves {direction}",
        "{thing} {moves} {way}",
        "{thing} {moving} {way}",
        "one {kind} {moves} {way}",
        "the {kind} {moves} {way}",
        "{thing} {moves} {way} on grey",
    ),
    "bounce": (
        "{thing} bounces off the {side}",
        "{thing} hits the {side} and bounces back",
        "{thing} rebounds from the {side}",
        "{thing} {moves} into the {side} and bounces",
        "one {kind} bounces off the {side}",
    ),
    "bounce_early": (
        "{thing} moves towards the {side}",
        "{thing} {moves} towards the {side}",
        "{thing} heading for the {side}",
    ),
    "collision": (
        "{thing} and {other} collide",
        "{thing} hits {other}",
        "{thing} collides with {other}",
        "{thing} and {other} bump into each other",
        "{thing} bounces off {other}",
    ),
    "collision_early": (
        "{thing} and {other} approach each other",
        "{thing} moves towards {other}",
        "{thing} nears {other}",
    ),
    "parabola": (
        "{thing} falls to the {direction}",
        "{thing} is thrown {way} and falls",
        "{thing} thrown {way}",
        "a thrown {kind} falls to the {direction}",
        "{thing} drops while flying {way}",
    ),
    "occluder": (
        "{thing} moves {direction} behind a dark slab",
        "{thing} {moves} {way} behind a dark slab",
        "{thing} {moves} {way}, hidden for a moment by a dark slab",
        "{thing} passes {way} behind a slab and reappears",
    ),
    "composition": (
        "{things}",
        "there {be} {things}",
        "a scene with {things}",
        "{things} on grey",
        "a picture of {things}",
        "we see {things}",
    ),
    "relation": (
        "{thing} {relation} {other}",
        "{thing} is {relation} {other}",
        "{thing} sits {relation} {other}",
        "{thing} placed {relation} {other}",
        "there is {thing} {relation} {other}",
        "{thing} and {other}",
    ),
    "pan": (
        "the camera pans {direction} over {things}",
        "a camera pan {way} past {things}",
        "{things} seen as the camera moves {direction}",
        "the camera {moves} {way}, passing {things}",
    ),
}
DENSE = {
    "uniform": (
        "{full} starts {place} and {moves} {way} {pace}.",
        "Starting {place}, {full} {moves} {pace} {way}.",
        "On a grey background, {full} {place} {moves} {way} {pace}.",
        "{full} {moves} {pace} {way}, starting {place}.",
    ),
    "bounce": (
        "{full} starts {place} and {moves} {pace}. {then}",
        "Starting {place}, {full} {moves} {pace}. {then}",
        "On a grey background, {full} {moves} {pace}. {then}",
    ),
    "collision": (
        "{full} meets {fuller} and they bounce apart.",
        "{full} coming from the left collides with {fuller} from the right.",
        "On a grey background, {full} and {fuller} collide and part.",
    ),
    "collision_early": (
        "{full} and {fuller} approach each other.",
        "{full} moves {pace} towards {fuller}.",
        "On a grey background, {full} nears {fuller}.",
    ),
    "parabola": (
        "{full} is thrown {way} {place} and falls. {then}",
        "Starting {place}, {full} flies {way} and falls. {then}",
        "On a grey background, {full} falls while moving {way} {pace}. {then}",
    ),
    "occluder": (
        "{full} {moves} {way} {pace} behind a dark slab and reappears.",
        "Starting {place}, {full} {moves} {pace} {way}, passing behind a dark slab.",
        "A dark slab hides {full} for a moment as it {moves} {way} {pace}.",
    ),
    "composition": (
        "{things_full}, {state}.",
        "On a grey background, {things_full}, {state}.",
        "A plain scene with {things_full}, {state}.",
    ),
    "relation": (
        "{full} {relation} {fuller}, {state}.",
        "On a grey background, {full} is {relation} {fuller}, {state}.",
        "A plain scene: {full} {relation} {fuller}, {state}.",
    ),
    "pan": (
        "The camera pans {direction} {pace} over {things_full}.",
        "A {pacy} camera pan {way} past {things_full}.",
        "{things_full} on a faint pattern as the camera {moves} {way} {pace}.",
    ),
}
PACY = ("very slow", "slow", "steady", "quick", "very fast")
DENSE["bounce_early"] = (
    "{full} starts {place} and {moves} {pace} towards the {side}.",
    "Starting {place}, {full} {moves} {pace} towards the {side}.",
    "On a grey background, {full} heads {pace} for the {side}.",
)
