"""Turns a scene record into English, with synonyms, omissions and order varied."""

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
}
COLOUR_WORDS = {"purple": ["purple", "violet"]}
PLACE_PHRASES = {
    "meadow": ["on a meadow", "in a field", "on the grass", "meadow"],
    "hills": ["on a hill", "in the hills", "hills"],
    "sea": ["on the sea", "at sea", "ocean", "sea"],
    "snow": ["in the snow", "in winter", "snow"],
    "desert": ["in the desert", "on the sand", "desert"],
}
TIME_PHRASES = {
    "day": ["by day", "on a sunny day", "in daylight", "day"],
    "sunset": ["at sunset", "in the evening", "sunset"],
    "night": ["at night", "in the dark", "night"],
}


def name_object(rng, item, colour_chance=0.93):
    """A noun phrase such as "a red house"."""
    words = [rng.choice(NOUNS[item["kind"]])]
    if item["colour"] and rng.random() < colour_chance:
        words.insert(0, rng.choice(COLOUR_WORDS.get(item["colour"], [item["colour"]])))
    if rng.random() < 0.7:
        if item["kind"] in ("sun", "moon"):
            words.insert(0, "the")
        else:
            words.insert(0, "an" if words[0][0] in "aeiou" else "a")
    return " ".join(words)


def caption(rng, record, objects=None, context=0.6):
    """A caption that names `objects` (default: all of the record's) and, each with the chance
    `context`, the place and the time of day."""
    objects = list(record["objects"] if objects is None else objects)
    rng.shuffle(objects)
    parts = [rng.choice([" and ", " and ", ", "]).join(name_object(rng, o) for o in objects)]
    if rng.random() < context:
        parts.append(rng.choice(PLACE_PHRASES[record["place"]]))
    if rng.random() < context:
        parts.append(rng.choice(TIME_PHRASES[record["time"]]))
    parts = [p for p in parts if p]
    if rng.random() < 0.2:
        rng.shuffle(parts)
    return rng.choice([" ", " ", ", "]).join(parts)


def every_word():
    """All words a caption can hold, for the tokenizer."""
    phrases = [p for table in (NOUNS, COLOUR_WORDS, PLACE_PHRASES, TIME_PHRASES)
               for group in table.values() for p in group]
    return sorted({w for p in phrases for w in p.split()} | {"a", "an", "the", "and", ","})
