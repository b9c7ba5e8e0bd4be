"""Objects of the kitchen: pizza, fork, spoon, cup, bowl, banana."""

import math
from random import Random

from minivlm.toyworld.drawings.pen import Color, Pen, arc, contrast, dark, light, vary

CRUST, CHEESE, SALAMI, BASIL = (196, 128, 58), (250, 208, 92), (200, 52, 40), (60, 130, 50)


def pizza(pen: Pen, rng: Random, color: Color) -> None:
    if rng.random() < 0.4:
        return pizza_slice(pen, rng)
    start = rng.uniform(0, 360)
    stop = start + (360 if rng.random() < 0.5 else rng.choice((300, 315)))
    for radius, layer in ((0.5, vary(CRUST, rng)), (0.41, dark(CHEESE, 0.1)), (0.39, vary(CHEESE, rng))):
        whole = [] if stop - start == 360 else [(0.5, 0.5)]
        pen.polygon([*whole, *arc(0.5, 0.5, radius, radius, start, stop, 32)], layer)
    count = rng.choice((5, 6, 7))
    for i in range(count):
        angle = math.radians(start + (i + 0.5) * (stop - start) / count)
        reach = rng.uniform(0.24, 0.29)
        pen.oval(0.5 + reach * math.cos(angle), 0.5 + reach * math.sin(angle), 0.085, 0.085, SALAMI)
        pen.oval(0.5 + 0.13 * math.cos(angle + 0.5), 0.5 + 0.13 * math.sin(angle + 0.5), 0.03, 0.03, BASIL)
    return None


def pizza_slice(pen: Pen, rng: Random) -> None:
    half = rng.uniform(0.3, 0.4)
    top = arc(0.5, 0.2, half, 0.12, 180, 360, 10)
    pen.polygon([*top, (0.5, 1.0)], vary(CHEESE, rng))
    pen.line(top, 0.15, vary(CRUST, rng))
    for x, y in ((-0.14, 0.34), (0.13, 0.4), (-0.01, 0.62)):
        pen.oval(0.5 + x, y + rng.uniform(-0.03, 0.03), 0.09, 0.09, SALAMI)
    pen.oval(0.5, 0.48, 0.035, 0.035, BASIL)


def fork(pen: Pen, rng: Random, color: Color) -> None:
    tines, width, neck = rng.choice((3, 4, 4)), rng.uniform(0.12, 0.15), rng.uniform(0.38, 0.46)
    for i in range(tines):
        x = 0.5 + width * (2 * i / (tines - 1) - 1)
        pen.line([(x, 0.02), (x, 0.27)], 0.05, color)
    rim = [(0.5 - width - 0.025, 0.25), (0.5 + width + 0.025, 0.25)]
    pen.blob([*rim, (0.5 + width * 0.7, neck - 0.03), (0.5, neck), (0.5 - width * 0.7, neck - 0.03)], color)
    cutlery_handle(pen, rng, color, neck - 0.04)


def spoon(pen: Pen, rng: Random, color: Color) -> None:
    width, length = rng.uniform(0.15, 0.18), rng.uniform(0.19, 0.22)
    pen.oval(0.5, length, width, length, color)
    pen.oval(0.5, length + 0.01, width * 0.7, length * 0.75, contrast(color, 0.22))
    pen.oval(0.47, length - 0.05, width * 0.28, length * 0.36, light(color, 0.55))
    cutlery_handle(pen, rng, color, length * 2 - 0.02)


def cutlery_handle(pen: Pen, rng: Random, color: Color, top: float) -> None:
    end = rng.uniform(0.03, 0.055)
    pen.polygon([(0.475, top), (0.525, top), (0.5 + end, 0.95), (0.5 - end, 0.95)], color)
    pen.oval(0.5, 0.95, end, end, color)
    pen.line([(0.5, top + 0.1), (0.5, 0.93)], 0.02, light(color, 0.5))


def cup(pen: Pen, rng: Random, color: Color) -> None:
    foot, top = rng.uniform(0.02, 0.1), rng.uniform(0.1, 0.2)
    pen.line(arc(0.72, 0.52, 0.21, 0.19, -95, 95), 0.085, dark(color, 0.1))
    pen.polygon([(0.05, top), (0.75, top), *arc(0.4, 0.92, 0.35 - foot, 0.07, 0, 180, 10)], color)
    if rng.random() < 0.4:
        pen.polygon([(0.06, 0.45), (0.74, 0.45), (0.73, 0.62), (0.07, 0.62)], contrast(color, 0.35))
    pen.box(0.13, top + 0.12, 0.2, 0.82, light(color, 0.35), 0.03)
    pen.oval(0.4, top, 0.35, 0.09, light(color, 0.3))
    pen.oval(0.4, top + 0.01, 0.29, 0.06, rng.choice(((92, 54, 30), (60, 38, 26), dark(color, 0.45))))


def bowl(pen: Pen, rng: Random, color: Color) -> None:
    depth, rim = rng.uniform(0.4, 0.5), rng.uniform(0.09, 0.14)
    pen.box(0.33, 0.3 + depth * 0.9, 0.67, 0.36 + depth, dark(color, 0.15), 0.03)
    pen.polygon(arc(0.5, 0.3, 0.5, depth, 0, 180, 20), color)
    if rng.random() < 0.5:
        pen.line(arc(0.5, 0.3, 0.47, depth * 0.55, 20, 160), 0.05, contrast(color, 0.35))
    pen.line(arc(0.5, 0.3, 0.36, depth * 0.75, 150, 120, 4), 0.05, light(color, 0.4))
    pen.oval(0.5, 0.3, 0.5, rim, light(color, 0.35))
    pen.oval(
        0.5, 0.31, 0.44, rim * 0.72, rng.choice((dark(color, 0.4), (214, 120, 50), (252, 240, 206), (230, 190, 110)))
    )


def banana(pen: Pen, rng: Random, color: Color) -> None:
    bend, thick = rng.uniform(0.3, 0.4), rng.uniform(0.17, 0.22)
    for lift in (0.0, -0.13) if rng.random() < 0.3 else (0.0,):
        outer = [(0.02, 0.3), (0.16, 0.3 + bend), (0.5, 0.42 + bend), (0.82, 0.3 + bend), (0.97, 0.22)]
        inner = [(0.91, 0.21), (0.74, 0.3 + bend - thick), (0.5, 0.42 + bend - thick * 1.25)]
        inner += [(0.26, 0.24 + bend - thick), (0.1, 0.27)]
        pen.blob([(x, y + lift) for x, y in [*outer, *inner]], color)
        middle = [(0.12, 0.4), (0.24, 0.3 + bend * 0.85), (0.5, 0.34 + bend), (0.8, 0.26 + bend * 0.8)]
        pen.curve([(x, y + lift) for x, y in middle], 0.03, dark(color, 0.2))
    pen.line([(0.94, 0.22), (0.95, 0.12)], 0.075, (112, 92, 36))
    pen.line([(0.04, 0.29), (0.07, 0.27)], 0.06, (70, 50, 30))
