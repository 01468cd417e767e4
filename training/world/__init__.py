"""The world the small model is trained on: flat illustrations painted by a program, and emoji on them.

palette   colours by name, places and times of day with their paints
pen       anti-aliased drawing in an object's own coordinates
objects   a painter for each object (creatures: of the animals)
places    sky, ground and rain
styles    flat, crayon, ink, emoji
art       the objects of the style emoji, from a font
scene     composes a picture and a record of what is in it
captions  turns a record into English
masks     holes to inpaint, with what a caption of the hole must say
"""
