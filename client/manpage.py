#!/usr/bin/env python3
"""Put the example program into sdclient(3): the page shows what the tests compile. usage: manpage.py PAGE EXAMPLE OUTPUT"""
import sys

page, example = (open(path, encoding="utf-8").read() for path in sys.argv[1:3])
lines = example.expandtabs(8).replace("\\", "\\e").rstrip("\n").split("\n")
text = "\n".join("\\&" + line if line[:1] in ".'" else line for line in lines)
with open(sys.argv[3], "w", encoding="utf-8") as out:
    out.write(page.replace("@EXAMPLE@", text))
