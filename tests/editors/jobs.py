"""The jobs that every editor's test runs on every kind of document, and what each may change."""
SELECT = (32, 24, 28, 24)
PROMPT = "a red fox"
FAST = {"steps": "2", "seed": "7", "guidance": "1"}
JOBS = {  # job: (settings, is there a selection, changes inside, changes outside)
    "generate": ({"action": "generate", "exact": "yes"}, True, True, False),
    "refine": ({"action": "refine", "exact": "yes", "strength": "0.7"}, True, True, False),
    "fill": ({"action": "fill", "exact": "yes"}, True, True, False),
    "expand": ({"action": "expand", "exact": "yes"}, True, True, False),
    "add": ({"action": "add", "exact": "yes"}, True, True, False),
    "remove": ({"action": "remove", "exact": "yes"}, True, True, False),
    "background": ({"action": "background", "exact": "yes"}, True, False, True),
    "whole": ({"action": "generate"}, False, True, True),
    "outpaint": ({"action": "outpaint", "left": "16", "bottom": "24"}, False, None, None),
    "upscale": ({"action": "upscale", "scale": "1.5"}, False, None, None),
}
GROWN = {"outpaint": (1, 16, 24), "upscale": (1.5, 0, 0)}  # sides times, pixels more to the left and at the bottom


def written(settings):
    """As scripts write settings, with what makes a job quick and known."""
    return " ".join(f"{name}={value}" for name, value in {**FAST, **settings}.items())
