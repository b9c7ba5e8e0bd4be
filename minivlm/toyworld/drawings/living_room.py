"""Objects of the living room: couch, tv, remote, potted plant, cat, clock."""

import math
from random import Random

from minivlm.toyworld.drawings.pen import (
    DARK,
    STEEL,
    WHITE,
    WOOD,
    Color,
    Pen,
    arc,
    contrast,
    dark,
    is_dark,
    light,
    vary,
)

LEAF, CLAY = (58, 150, 66), (190, 98, 58)
SHOWS = (((120, 190, 240), (90, 170, 90)), ((250, 170, 90), (120, 70, 130)), ((70, 90, 190), (230, 200, 120)))


def couch(pen: Pen, rng: Random, color: Color) -> None:
    top, seats, arm = rng.uniform(0.2, 0.28), rng.choice((2, 2, 3)), rng.uniform(0.12, 0.16)
    for x in (0.1, 0.9):
        pen.box(x - 0.03, 0.78, x + 0.03, 0.88, WOOD)
    pen.box(0.07, top, 0.93, 0.75, dark(color, 0.12), 0.08)
    pen.box(0.05, 0.6, 0.95, 0.8, dark(color, 0.25), 0.02)
    width = (1 - 2 * arm) / seats
    for i in range(seats):
        x = arm + i * width
        pen.box(x + 0.01, top + 0.05, x + width - 0.01, 0.54, color, 0.04)
        pen.box(x + 0.005, 0.53, x + width - 0.005, 0.67, light(color, 0.2), 0.03)
    for x in (0.0, 1 - arm):
        pen.box(x, 0.42, x + arm, 0.81, color, 0.05)
        pen.oval(x + arm / 2, 0.47, arm * 0.4, 0.05, light(color, 0.25))


def tv(pen: Pen, rng: Random, color: Color) -> None:
    sky, ground = rng.choice(SHOWS)
    if old := rng.random() < 0.3:
        pen.line([(0.3, 0.0), (0.5, 0.22), (0.72, 0.02)], 0.03, STEEL)
    right, low = (0.76 if old else 0.95), (0.8 if old else 0.7)
    pen.box(0.0, 0.2 if old else 0.1, 1.0, 0.88 if old else 0.76, color, 0.05)
    pen.box(0.07, 0.28 if old else 0.17, right - 0.02, low, vary(sky, rng), 0.02)
    hills = [(0.07, 0.56), (0.3, 0.47), (0.5, 0.6), (right - 0.02, 0.5), (right - 0.02, low), (0.07, low)]
    pen.polygon(hills, vary(ground, rng))
    if old:
        for y in (0.4, 0.56):
            pen.oval(0.87, y, 0.06, 0.06, contrast(color, 0.5))
        pen.line([(0.82, 0.72), (0.92, 0.72)], 0.03, contrast(color, 0.5))
    for x in (0.25, 0.75) if old else (0.5,):
        pen.line([(x, low + 0.06), (x, 0.94 if old else 0.88)], 0.08, color)
    if not old:
        pen.box(0.28, 0.86, 0.72, 0.92, color, 0.02)


def remote(pen: Pen, rng: Random, color: Color) -> None:
    half, key = rng.uniform(0.13, 0.16), contrast(color, 0.6) if sum(color) < 300 else dark(color, 0.6)
    pen.box(0.5 - half, 0.0, 0.5 + half, 1.0, color, 0.07)
    pen.oval(0.5 - half * 0.45, 0.1, 0.05, 0.045, (226, 40, 40))
    if rng.random() < 0.5:
        pen.oval(0.5, 0.3, half * 0.72, half * 0.72, key)
        pen.oval(0.5, 0.3, half * 0.3, half * 0.3, color)
    else:
        pen.box(0.5 - half * 0.6, 0.2, 0.5 - half * 0.1, 0.4, key, 0.02)
        pen.box(0.5 + half * 0.1, 0.2, 0.5 + half * 0.6, 0.4, key, 0.02)
    for row in range(4):
        for column in (-1, 0, 1):
            pen.oval(0.5 + column * half * 0.56, 0.51 + row * 0.12, 0.032, 0.032, key)


def potted_plant(pen: Pen, rng: Random, color: Color) -> None:
    pot, leaf = vary(rng.choice((CLAY, CLAY, (236, 232, 220), (70, 110, 180), (220, 180, 70))), rng), vary(LEAF, rng)
    if rng.random() < 0.2:
        cactus(pen, leaf)
    else:
        leaves(pen, rng, leaf)
    pen.polygon([(0.28, 0.7), (0.72, 0.7), (0.65, 1.0), (0.35, 1.0)], pot)
    pen.box(0.24, 0.64, 0.76, 0.74, light(pot, 0.2), 0.02)


def leaves(pen: Pen, rng: Random, leaf: Color) -> None:
    count, wide = rng.choice((5, 6, 7)), rng.uniform(0.07, 0.11)
    for i in sorted(range(count), key=lambda i: -abs(i - (count - 1) / 2)):
        angle = -170 + 160 * i / (count - 1) + rng.uniform(-6, 6)
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        reach = rng.uniform(0.26, 0.32)
        paint = light(leaf, 0.15) if i % 2 else dark(leaf, 0.15)
        pen.oval(0.5 + reach * 1.15 * cos, 0.63 + reach * sin, reach * 1.02, wide, paint, angle)
        pen.line([(0.5, 0.65), (0.5 + reach * 1.8 * cos, 0.63 + reach * 1.6 * sin)], 0.02, dark(leaf, 0.4))


def cactus(pen: Pen, leaf: Color) -> None:
    pen.line([(0.5, 0.12), (0.5, 0.7)], 0.22, leaf)
    pen.line([(0.5, 0.48), (0.24, 0.46), (0.24, 0.28)], 0.12, leaf)
    pen.line([(0.5, 0.4), (0.76, 0.38), (0.76, 0.2)], 0.12, leaf)
    for x in (0.45, 0.55):
        pen.line([(x, 0.1), (x, 0.62)], 0.02, light(leaf, 0.45))


def cat(pen: Pen, rng: Random, color: Color) -> None:
    stripe = contrast(color, 0.35)
    (walking_cat if rng.random() < 0.4 else sitting_cat)(pen, rng, color, stripe)


def sitting_cat(pen: Pen, rng: Random, color: Color, stripe: Color) -> None:
    tip = rng.uniform(0.42, 0.6)
    pen.curve([(0.6, 0.94), (0.84, 0.92), (0.9, 0.74), (0.82, tip)], 0.085, color)
    pen.blob([(0.44, 0.42), (0.6, 0.52), (0.7, 0.78), (0.64, 0.98), (0.22, 0.98), (0.17, 0.78), (0.28, 0.52)], color)
    pen.oval(0.43, 0.6, 0.1, 0.12, light(color, 0.45))
    for x in (0.33, 0.43, 0.53):
        pen.line([(x, 0.82), (x, 0.95)], 0.025, contrast(color, 0.25))
    if rng.random() < 0.5:
        for y in (0.66, 0.76):
            pen.line([(0.57, y + 0.01), (0.67, y)], 0.03, stripe)
    cat_head(pen, color, stripe, 0.43, 0.29)


def walking_cat(pen: Pen, rng: Random, color: Color, stripe: Color) -> None:
    for x, foot in ((0.3, 0.34), (0.72, 0.76)):
        pen.line([(x, 0.7), (foot, 0.93)], 0.07, dark(color, 0.25))
    pen.blob([(0.24, 0.5), (0.5, 0.51), (0.78, 0.48), (0.86, 0.62), (0.78, 0.76), (0.5, 0.74), (0.26, 0.74)], color)
    for x, foot in ((0.24, 0.2), (0.82, 0.84)):
        pen.line([(x + 0.02, 0.66), (foot, 0.94)], 0.075, color)
    pen.curve([(0.82, 0.55), (0.95, 0.4), (0.92, 0.2), (0.97, rng.uniform(0.04, 0.12))], 0.07, color)
    for x in (0.5, 0.6, 0.7):
        pen.line([(x, 0.51), (x, 0.61)], 0.03, stripe)
    cat_head(pen, color, stripe, 0.22, 0.4)


def cat_head(pen: Pen, color: Color, stripe: Color, x: float, y: float) -> None:
    for s in (-1, 1):
        pen.polygon([(x + s * 0.21, y), (x + s * 0.19, y - 0.29), (x + s * 0.02, y - 0.13)], color)
        pen.polygon([(x + s * 0.16, y - 0.1), (x + s * 0.165, y - 0.22), (x + s * 0.07, y - 0.14)], (236, 150, 150))
    pen.oval(x, y, 0.215, 0.175, color)
    eye = (240, 220, 90) if is_dark(color) else (70, 170, 70)
    for side in (-1, 1):
        pen.oval(x + side * 0.085, y - 0.02, 0.035, 0.045, eye)
        pen.oval(x + side * 0.085, y - 0.02, 0.015, 0.04, DARK)
        pen.line([(x + side * 0.1, y + 0.07), (x + side * 0.25, y + 0.05)], 0.014, stripe)
    pen.polygon([(x - 0.03, y + 0.05), (x + 0.03, y + 0.05), (x, y + 0.09)], (226, 110, 120))


def clock(pen: Pen, rng: Random, color: Color) -> None:
    if alarm := rng.random() < 0.35:
        for side in (-1, 1):
            pen.line([(0.5 + side * 0.2, 0.85), (0.5 + side * 0.3, 0.97)], 0.08, color)
            pen.oval(0.5 + side * 0.26, 0.14, 0.16, 0.1, dark(color, 0.15), side * 35)
    radius = 0.42 if alarm else 0.5
    y = 0.54 if alarm else 0.5
    pen.oval(0.5, y, radius, radius, color)
    pen.oval(0.5, y, radius * 0.76, radius * 0.76, WHITE)
    for i in range(12):
        (dx, dy), (ex, ey) = (arc(0, 0, radius * r, radius * r, 30 * i, 30 * i, 1)[0] for r in (0.6, 0.68))
        pen.line([(0.5 + dx, y + dy), (0.5 + ex, y + ey)], 0.035, DARK)
    for length, width in ((0.34, 0.06), (0.54, 0.045)):
        dx, dy = arc(0, 0, radius * length, radius * length, rng.uniform(0, 360), 0, 1)[0]
        pen.line([(0.5, y), (0.5 + dx, y + dy)], width, DARK)
    pen.oval(0.5, y, 0.035, 0.035, (206, 46, 46))
