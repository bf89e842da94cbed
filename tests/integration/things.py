"""Drawn things that an ImageNet classifier knows: for tests, and for the README's picture."""
import math

from PIL import Image, ImageDraw, ImageFilter

SIDE = 640


def ground(above, below):
    return Image.composite(Image.new("RGB", (SIDE, SIDE), below), Image.new("RGB", (SIDE, SIDE), above),
                           Image.linear_gradient("L").resize((SIDE, SIDE)))


def ball(picture, box, dark, bright):
    """Lit from the upper left."""
    width, height = box[2] - box[0], box[3] - box[1]
    left, top = int(width * 0.65), int(height * 0.7)
    distance = Image.radial_gradient("L").resize((width * 2, height * 2)).crop((left, top, left + width, top + height))
    distance = distance.point(lambda v: min(255, int(v * 1.3)))
    lit = Image.composite(Image.new("RGB", (width, height), dark), Image.new("RGB", (width, height), bright), distance)
    mask = Image.new("L", (width * 2, height * 2))
    ImageDraw.Draw(mask).ellipse((0, 0, width * 2 - 1, height * 2 - 1), fill=255)
    picture.paste(lit, box[:2], mask.resize((width, height)))


def daisy():
    noise = Image.effect_noise((SIDE, SIDE), 60).filter(ImageFilter.GaussianBlur(6))
    picture = Image.composite(Image.new("RGB", (SIDE, SIDE), (40, 90, 40)), Image.new("RGB", (SIDE, SIDE), (90, 150, 70)), noise)
    for petal in range(26):
        for colour, how in (((252 - petal % 3 * 10, 252 - petal % 3 * 10, 248), {"fill": 255}),
                            ((150, 155, 165), {"outline": 70, "width": 3})):
            mask = Image.new("L", (SIDE, SIDE))
            ImageDraw.Draw(mask).ellipse((292, 60, 348, 290), **how)
            picture.paste(colour, mask=mask.rotate(petal * 360 / 26, center=(320, 320)))
    ball(picture, (235, 235, 405, 405), (190, 120, 0), (255, 215, 40))
    draw = ImageDraw.Draw(picture)
    for seed in range(500):  # as sunflowers do it
        angle, radius = seed * 2.4, 80 * math.sqrt(seed / 500)
        x, y = 320 + radius * math.cos(angle), 320 + radius * math.sin(angle)
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(200, 140, 0))
    return picture


def balloon():
    picture = ground((90, 150, 225), (200, 228, 248))
    ball(picture, (140, 50, 500, 430), (150, 10, 10), (255, 120, 90))
    draw = ImageDraw.Draw(picture)
    draw.polygon([(320, 425), (300, 455), (340, 455)], fill=(170, 20, 20))
    draw.line([(320 + 12 * math.sin(t / 18), 455 + t) for t in range(185)], fill=(240, 240, 240), width=4)
    return picture


def traffic_light():
    picture = ground((150, 190, 225), (225, 238, 246))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((300, 470, 340, 640), fill=(60, 60, 62))
    draw.rounded_rectangle((205, 50, 435, 500), 40, fill=(28, 30, 32))
    for row, colours in enumerate((((120, 8, 8), (255, 70, 50)), ((90, 60, 0), (120, 90, 20)), ((0, 50, 20), (20, 80, 45)))):
        ball(picture, (255, 70 + row * 142, 385, 200 + row * 142), *colours)
        draw.pieslice((245, 62 + row * 142, 395, 210 + row * 142), 180, 360, outline=(10, 10, 10), width=8)
    return picture
