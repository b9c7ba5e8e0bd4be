"""Objects of the field: dog, frisbee, sheep, kite, bird, umbrella."""

import math
from random import Random

from minivlm.toyworld.drawings.pen import DARK, WHITE, WOOD, Color, Pen, arc, contrast, dark, is_dark, light, spline

ORANGE = (240, 150, 40)


def dog(pen: Pen, rng: Random, color: Color) -> None:
    shade = contrast(color, 0.3)
    (sitting_dog if rng.random() < 0.35 else standing_dog)(pen, rng, color, shade)


def standing_dog(pen: Pen, rng: Random, color: Color, shade: Color) -> None:
    belly, leg, tail = rng.uniform(0.62, 0.68), rng.uniform(0.9, 0.98), rng.uniform(0.12, 0.3)
    for x in (0.27, 0.6):
        pen.line([(x, 0.55), (x, leg - 0.02)], 0.085, dark(color, 0.25))
    trunk = [(0.12, 0.4), (0.4, 0.39), (0.66, 0.36), (0.74, 0.52), (0.64, belly), (0.36, belly - 0.03), (0.14, 0.62)]
    pen.blob(trunk, color)
    for x in (0.18, 0.69):
        pen.line([(x, 0.55), (x, leg), (x + 0.03, leg)], 0.095, color)
    pen.curve([(0.14, 0.44), (0.04, 0.35), (0.03, tail)], 0.075, color)
    if rng.random() < 0.4:
        pen.oval(0.4, 0.46, 0.12, 0.07, shade)
    dog_head(pen, rng, color, shade, 0.76, 0.25)


def sitting_dog(pen: Pen, rng: Random, color: Color, shade: Color) -> None:
    pen.curve([(0.2, 0.9), (0.06, 0.84), (0.03, rng.uniform(0.6, 0.75))], 0.08, color)
    pen.blob([(0.52, 0.36), (0.66, 0.42), (0.68, 0.66), (0.6, 0.94), (0.24, 0.95), (0.17, 0.78), (0.34, 0.52)], color)
    pen.oval(0.31, 0.82, 0.14, 0.13, dark(color, 0.15))
    pen.line([(0.62, 0.6), (0.63, 0.95), (0.7, 0.95)], 0.1, color)
    pen.line([(0.3, 0.96), (0.44, 0.96)], 0.075, color)
    dog_head(pen, rng, color, shade, 0.62, 0.25)


def dog_head(pen: Pen, rng: Random, color: Color, shade: Color, x: float, y: float) -> None:
    pen.line([(x - 0.07, y + 0.17), (x + 0.03, y + 0.19)], 0.05, (206, 46, 46))
    pen.oval(x, y, 0.15, 0.14, color)
    snout = [(0.05, -0.06), (0.22, -0.01), (0.27, 0.06), (0.2, 0.12), (0.02, 0.12)]
    pen.blob([(x + dx, y + dy) for dx, dy in snout], color)
    pen.oval(x + 0.26, y + 0.03, 0.04, 0.035, light(DARK, 0.5) if is_dark(color) else DARK)
    pen.oval(x + 0.06, y - 0.03, 0.025, 0.03, WHITE if is_dark(color) else DARK)
    droop = rng.uniform(0.14, 0.22)
    pen.blob([(x - 0.1, y - 0.12), (x - 0.01, y - 0.07), (x - 0.04, y + droop), (x - 0.14, y + droop - 0.04)], shade)


def frisbee(pen: Pen, rng: Random, color: Color) -> None:
    flat, bright = rng.uniform(0.21, 0.29), sum(color) > 600
    band = dark(color, 0.25) if bright else light(color, 0.55)
    pen.oval(0.5, 0.58, 0.5, flat, dark(color, 0.45))
    for radius, paint in ((0.5, color), (0.38, band), (0.31, color)):
        pen.oval(0.5, 0.48, radius, flat * radius * 2, paint)
    if rng.random() < 0.6:
        corners = [(0.2 if i % 2 else 0.09, math.tau * i / 10) for i in range(10)]
        pen.polygon([(0.5 + r * math.cos(a), 0.48 + r * flat * 2 * math.sin(a)) for r, a in corners], band)


def sheep(pen: Pen, rng: Random, color: Color) -> None:
    face = (196, 176, 150) if is_dark(color) else DARK
    leg, wool = rng.uniform(0.84, 0.92), rng.choice((8, 9, 10))
    for x in (0.22, 0.33, 0.58, 0.69):
        pen.line([(x, 0.6), (x, leg)], 0.075, face)
    for i in range(wool):
        a = math.tau * i / wool
        pen.oval(0.44 + 0.3 * math.cos(a), 0.48 + 0.17 * math.sin(a), 0.14, 0.13, light(color, 0.08 * (i % 2)))
    pen.oval(0.44, 0.48, 0.32, 0.2, color)
    for x, y in ((0.3, 0.42), (0.48, 0.5), (0.36, 0.57), (0.6, 0.43)):
        pen.line(arc(x, y, 0.06, 0.05, 20, 160, 6), 0.025, contrast(color, 0.2))
    drop = rng.uniform(0.0, 0.12)
    pen.oval(0.72, 0.36 + drop, 0.07, 0.035, face, 20)
    pen.oval(0.83, 0.42 + drop, 0.1, 0.14, face, -25)
    pen.oval(0.77, 0.3 + drop, 0.1, 0.07, color)
    pen.oval(0.84, 0.39 + drop, 0.025, 0.025, WHITE if face == DARK else DARK)


def kite(pen: Pen, rng: Random, color: Color) -> None:
    cross, width, low = rng.uniform(0.22, 0.28), rng.uniform(0.26, 0.32), rng.uniform(0.64, 0.7)
    top, right, bottom, left, middle = (0.5, 0.0), (0.5 + width, cross), (0.5, low), (0.5 - width, cross), (0.5, cross)
    other = rng.choice((light(color, 0.45), contrast(color, 0.35)))
    sway = rng.choice((-0.1, 0.1))
    tail = [bottom, (0.5 + sway, low + 0.1), (0.5 - sway, low + 0.2), (0.5 + sway, 0.98)]
    pen.curve(tail, 0.03, DARK)
    for x, y in tail[1:]:
        pen.polygon([(x, y), (x - 0.08, y - 0.05), (x - 0.08, y + 0.05)], color)
        pen.polygon([(x, y), (x + 0.08, y - 0.05), (x + 0.08, y + 0.05)], color)
    pen.polygon([top, right, bottom, left], color)
    pen.polygon([top, right, middle], other)
    pen.polygon([left, bottom, middle], other)
    pen.line([top, bottom], 0.025, dark(color, 0.5))
    pen.line([left, right], 0.025, dark(color, 0.5))


def bird(pen: Pen, rng: Random, color: Color) -> None:
    wing, eye = contrast(color, 0.3), WHITE if is_dark(color) else DARK
    flying = rng.random() < 0.4
    if not flying:
        for x in (0.45, 0.55):
            pen.line([(x, 0.7), (x, 0.9), (x + 0.06, 0.9)], 0.03, ORANGE)
    pen.polygon([(0.3, 0.5), (0.0, 0.6 if flying else 0.74), (0.04, 0.72 if flying else 0.86), (0.36, 0.66)], wing)
    pen.polygon([(0.84, 0.28), (1.0, 0.35), (0.84, 0.41)], ORANGE)
    back, belly = [(0.16, 0.62), (0.42, 0.4), (0.62, 0.24), (0.78, 0.2)], [(0.88, 0.32), (0.8, 0.56), (0.58, 0.75)]
    pen.blob([*back, *belly, (0.34, 0.74)], color)
    pen.blob([(0.58, 0.56), (0.76, 0.5), (0.7, 0.64), (0.54, 0.72)], light(color, 0.55))
    pen.oval(0.77, 0.3, 0.032, 0.032, eye)
    if flying:
        up = rng.uniform(0.0, 0.1)
        pen.polygon(spline([(0.6, 0.48), (0.44, 0.2), (0.2, up), (0.2, 0.24), (0.32, 0.52)], steps=4), wing)
    else:
        pen.blob([(0.62, 0.44), (0.58, 0.6), (0.38, 0.68), (0.12, 0.72), (0.36, 0.48)], wing)


def umbrella(pen: Pen, rng: Random, color: Color) -> None:
    handle = rng.choice((WOOD, DARK))
    if rng.random() < 0.25:
        return closed_umbrella(pen, color, handle)
    low, peak = rng.uniform(0.46, 0.52), rng.uniform(0.04, 0.1)
    pen.line([(0.5, 0.0), (0.5, 0.86), *arc(0.58, 0.88, 0.08, 0.09, 180, 0, 8)], 0.05, handle)
    dome = arc(0.5, low, 0.5, low - peak, 180, 360, 20)
    pen.polygon(dome, color)
    pen.polygon([*arc(0.5, low, 0.18, low - peak, 180, 360, 12)], light(color, 0.35))
    for x in (0.16, 0.5, 0.84):
        pen.polygon(arc(x, low + 0.005, 0.17, 0.06, 180, 360, 8), contrast(color, 0.4))
    return None


def closed_umbrella(pen: Pen, color: Color, handle: Color) -> None:
    pen.line([(0.5, 0.0), (0.5, 0.88), *arc(0.58, 0.9, 0.08, 0.08, 180, 0, 8)], 0.05, handle)
    pen.blob([(0.5, 0.06), (0.62, 0.5), (0.64, 0.68), (0.5, 0.72), (0.36, 0.68), (0.38, 0.5)], color)
    pen.polygon([(0.5, 0.08), (0.56, 0.7), (0.44, 0.7)], light(color, 0.35))
    pen.line([(0.38, 0.56), (0.62, 0.52)], 0.04, contrast(color, 0.4))
