"""Turns a scene record into English, with synonyms, omissions and order varied.

Two objects are named from left to right, unless a caption says where they are: which word's colour
belongs to which shape is the hardest thing to learn here, and a fixed reading order makes it easier
without making it untrue."""

from .palette import COLOURS

NOUNS = {
    "house": ["house", "house", "cottage", "home"],
    "tree": ["tree"],
    "boat": ["boat", "boat", "sailboat", "ship"],
    "car": ["car", "car", "automobile"],
    "flower": ["flower", "flower", "blossom"],
    "cat": ["cat", "cat", "kitten"],
    "fish": ["fish"],
    "balloon": ["balloon", "hot air balloon"],
    "mushroom": ["mushroom", "mushroom", "toadstool"],
    "sun": ["sun"],
    "moon": ["moon"],
    "cloud": ["cloud"],
    "dog": ["dog", "dog", "puppy"],
    "bird": ["bird"],
    "butterfly": ["butterfly"],
    "plane": ["plane", "plane", "airplane", "aeroplane"],
    "duck": ["duck"],
    "whale": ["whale"],
    "bus": ["bus"],
    "castle": ["castle"],
    "tent": ["tent"],
    "umbrella": ["umbrella", "umbrella", "parasol"],
    "apple": ["apple"],
    "snowman": ["snowman"],
}
COLOUR_WORDS = {"purple": ["purple", "purple", "violet"]}
SIZE_WORDS = {"small": ["small", "little"], "big": ["big", "large"]}
SMALL, BIG = 0.33, 0.56
PLACE_PHRASES = {
    "meadow": ["on a meadow", "in a field", "on the grass", "meadow"],
    "hills": ["on a hill", "in the hills", "hills"],
    "sea": ["on the sea", "at sea", "ocean", "sea"],
    "snow": ["in the snow", "in winter", "snow"],
    "desert": ["in the desert", "on the sand", "desert"],
    "lake": ["by a lake", "at the lake", "on a lake", "lake"],
    "mountains": ["in the mountains", "near a mountain", "mountains"],
    "forest": ["in the forest", "in the woods", "forest"],
    "town": ["in town", "on a street", "on the road", "town"],
}
TIME_PHRASES = {
    "day": ["by day", "on a sunny day", "in daylight", "day"],
    "sunset": ["at sunset", "in the evening", "sunset"],
    "night": ["at night", "in the dark", "night"],
}
RAIN_PHRASES = ["in the rain", "on a rainy day", "rain"]
STYLE_PHRASES = {"flat": ["flat"],
                 "crayon": ["crayon", "in crayon", "crayon drawing"],
                 "ink": ["ink", "in ink", "ink drawing"],
                 "emoji": ["emoji", "in emoji", "emoji drawing"]}
POSITIONS = {"left": ["on the left", "left"], "right": ["on the right", "right"],
             "middle": ["in the middle"]}
JOINTS = [" and ", " and ", " and ", ", ", " with ", " next to ", " beside "]
OF = " of "
MARKS = "\x01\x02"


def middle(item, record):
    """Where the middle of an object is, 0 (left edge) to 1."""
    return (item["box"][0] + item["box"][2]) / 2 / record["size"][0]


def name_object(rng, item, colour_chance=0.95, size=None):
    """A noun phrase such as "a red house"; with size "small" or "big" it says so."""
    words = [rng.choice(NOUNS[item["kind"]])]
    if item["colour"] and rng.random() < colour_chance:
        words.insert(0, rng.choice(COLOUR_WORDS.get(item["colour"], [item["colour"]])))
    if size:
        words.insert(0, rng.choice(SIZE_WORDS[size]))
    if rng.random() < 0.7:
        if item["kind"] in ("sun", "moon"):
            words.insert(0, "the")
        else:
            words.insert(0, "an" if words[0][0] in "aeiou" else "a")
    return " ".join(words)


def _described(rng, item, record):
    """The noun phrase of an object, half the time with its size where that is remarkable."""
    tall = (item["box"][3] - item["box"][1]) / record["side"]
    size = "small" if tall < SMALL else "big" if tall > BIG else None
    return name_object(rng, item, size=size if rng.random() < 0.5 else None)


def _one(rng, phrase, item, record):
    """An object's noun phrase, sometimes with its position."""
    if rng.random() < 0.3:
        at = middle(item, record)
        where = "left" if at < 0.42 else "right" if at > 0.58 else "middle"
        phrase = f"{phrase} {rng.choice(POSITIONS[where])}"
    return phrase


def _pair(rng, left, right):
    """Two noun phrases and how they lie."""
    form = rng.random()
    if form < 0.72:
        return rng.choice(JOINTS).join((left, right))
    if form < 0.84:
        return f"{left} on the left and {right} on the right"
    if form < 0.93:
        return f"{left} {rng.choice(['on', 'to'])} the left{OF}{right}"
    return f"{right} {rng.choice(['on', 'to'])} the right{OF}{left}"


def in_order(objects, record):
    """Objects from left to right, as captions number them."""
    return sorted(objects, key=lambda o: middle(o, record))


def caption(rng, record, objects=None, context=0.85, marked=False):
    """A caption that names `objects` (default: all of the record's) and, each with the chance
    `context`, the place and the time of day or the rain; a style other than flat nearly always.
    Marked, the words of the kth object from the left stand between two MARKS[k]."""
    objects = in_order(record["objects"] if objects is None else objects, record)
    phrases = [_described(rng, o, record) for o in objects]
    if marked:
        phrases = [f"{mark}{phrase}{mark}" for mark, phrase in zip(MARKS, phrases)]
    if len(objects) == 1:
        named = _one(rng, phrases[0], objects[0], record)
    elif len(objects) == 2:
        named = _pair(rng, *phrases)
    else:
        named = rng.choice([" and ", ", "]).join(phrases)
    parts = [named]
    if rng.random() < context:
        parts.append(rng.choice(PLACE_PHRASES[record["place"]]))
    if rng.random() < context:
        parts.append(rng.choice(RAIN_PHRASES if record["rain"] else TIME_PHRASES[record["time"]]))
    parts = [p for p in parts if p]
    if rng.random() < 0.15:
        rng.shuffle(parts)
    if rng.random() < (0.1 if record["style"] == "flat" else 0.93):
        style = rng.choice(STYLE_PHRASES[record["style"]])
        parts.insert(rng.choice([0, len(parts)]), style)
    return rng.choice([" ", " ", ", "]).join(parts)


def every_word():
    """All words a caption can hold, for the tokenizer."""
    tables = (NOUNS, COLOUR_WORDS, SIZE_WORDS, PLACE_PHRASES, TIME_PHRASES, STYLE_PHRASES, POSITIONS)
    phrases = [p for table in tables for group in table.values() for p in group]
    phrases += [*RAIN_PHRASES, *(j.replace(",", " ") for j in JOINTS), OF, *COLOURS]
    return sorted({w for p in phrases for w in p.split()} | {"a", "an", "the", "to", "on", ","})
