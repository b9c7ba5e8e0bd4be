"""Objects of the desk: laptop, mouse, keyboard, book, scissors, cell phone."""

from random import Random

from minivlm.toyworld.drawings.pen import (
    DARK,
    GLASS,
    STEEL,
    WHITE,
    Color,
    Pen,
    contrast,
    dark,
    is_dark,
    light,
    turn,
    vary,
)

ICONS = ((240, 90, 80), (250, 200, 70), (120, 220, 130), WHITE)
SCREENS = ((70, 140, 220), (90, 190, 200), (120, 110, 210), (40, 60, 110), (80, 170, 120))


def laptop(pen: Pen, rng: Random, color: Color) -> None:
    top, lean = rng.uniform(0.06, 0.16), rng.uniform(0.0, 0.06)
    pen.box(0.14, top, 0.86, 0.64, color, 0.04)
    pen.box(0.2, top + 0.06, 0.8, 0.57, vary(rng.choice(SCREENS), rng), 0.0)
    pen.polygon([(0.2, 0.57), (0.2, top + 0.3), (0.55, top + 0.06), (0.7, top + 0.06)], light(GLASS, 0.35))
    pen.polygon([(0.14, 0.63), (0.86, 0.63), (1.0 - lean, 0.9), (lean, 0.9)], light(color, 0.2))
    pen.box(lean, 0.89, 1.0 - lean, 0.95, dark(color, 0.3), 0.02)
    for i in range(3):
        y, half = 0.675 + i * 0.055, 0.31 + i * 0.035
        pen.line([(0.5 - half, y), (0.5 + half, y)], 0.03, contrast(color, 0.55))
    pen.box(0.4, 0.825, 0.6, 0.88, contrast(color, 0.3))


def mouse(pen: Pen, rng: Random, color: Color) -> None:
    line, width = contrast(color, 0.45), rng.uniform(0.23, 0.27)
    if rng.random() < 0.75:
        sway, cord = rng.choice((-0.12, 0.12)), STEEL if is_dark(color) else DARK
        pen.curve([(0.5, 0.34), (0.5, 0.2), (0.5 + sway, 0.13), (0.5 + sway * 2, 0.0)], 0.055, cord)
    half = [(0.85, 0.38), (1.0, 0.68), (0.6, 0.96)]
    right, left = ([(0.5 + side * width * x, y) for x, y in half] for side in (1, -1))
    pen.blob([(0.5, 0.3), *right, (0.5, 1.0), *left[::-1]], color)
    pen.line([(0.5, 0.31), (0.5, 0.56)], 0.03, line)
    pen.curve([(0.5 - width, 0.58), (0.5, 0.55), (0.5 + width, 0.58)], 0.03, line)
    pen.oval(0.5, 0.44, 0.045, 0.075, rng.choice((line, (220, 60, 50))))
    pen.oval(0.42, 0.78, 0.05, 0.12, light(color, 0.35), 12)


def keyboard(pen: Pen, rng: Random, color: Color) -> None:
    top, lean, rows = rng.uniform(0.28, 0.34), rng.uniform(0.0, 0.06), 4
    pen.polygon([(lean, top), (1 - lean, top), (1.0, 0.72), (0.0, 0.72)], color)
    keys, step = contrast(color, 0.5) if sum(color) < 500 else dark(color, 0.35), (0.64 - top) / rows
    for row in range(rows - 1):
        y, count = top + 0.05 + row * step, rng.choice((10, 11))
        for i in range(count):
            x = 0.08 + i * 0.84 / count
            pen.box(x, y, x + 0.84 / count - 0.028, y + step - 0.028, keys)
    y = top + 0.05 + (rows - 1) * step
    for x0, x1 in ((0.08, 0.18), (0.25, 0.72), (0.78, 0.92)):
        pen.box(x0, y, x1, y + step - 0.02, keys)
    pen.box(0.0, 0.7, 1.0, 0.76, dark(color, 0.3), 0.02)


def book(pen: Pen, rng: Random, color: Color) -> None:
    (open_book if rng.random() < 0.45 else closed_book)(pen, rng, color)


def open_book(pen: Pen, rng: Random, color: Color) -> None:
    sag, top = rng.uniform(0.05, 0.1), rng.uniform(0.2, 0.26)
    cover = [(0.0, top + 0.03), (0.5, top + sag), (1.0, top + 0.03), (1.0, 0.83), (0.5, 0.83 + sag), (0.0, 0.83)]
    pen.polygon(cover, color)
    for side in (-1, 1):
        x = [0.5 + side * d for d in (0.0, 0.2, 0.42, 0.1, 0.36)]
        edge = [(x[0], top + sag), (x[1], top - 0.04), (x[2], top), (x[2], 0.74), (x[1], 0.7), (x[0], 0.74 + sag)]
        pen.polygon(edge, light(WHITE, 0.3) if side > 0 else dark(WHITE, 0.06))
        for y in (0.12, 0.24, 0.36):
            pen.line([(x[3], top + y), (x[4], top + y - 0.03)], 0.025, STEEL)
    pen.line([(0.5, top + sag), (0.5, 0.76 + sag)], 0.03, dark(color, 0.3))


def closed_book(pen: Pen, rng: Random, color: Color) -> None:
    thick, gilt = rng.uniform(0.08, 0.13), rng.choice((WHITE, (250, 214, 90)))
    mark = dark(color, 0.6) if sum(color) > 480 else gilt
    hull = [(0.14, 0.06), (0.14 + thick, 0.0), (0.88, 0.0), (0.88, 0.92), (0.78, 1.0), (0.14, 1.0)]
    pen.polygon(hull, dark(color, 0.3))
    pen.polygon([(0.76, 0.08), (0.86, 0.03), (0.86, 0.9), (0.76, 0.96)], WHITE)
    pen.polygon([(0.16, 0.07), (0.26, 0.02), (0.86, 0.02), (0.76, 0.08)], WHITE)
    pen.box(0.12, 0.08, 0.76, 0.99, color, 0.03)
    pen.box(0.12, 0.08, 0.2, 0.99, dark(color, 0.3), 0.02)
    pen.box(0.3, 0.22, 0.66, 0.32, mark)
    if rng.random() < 0.5:
        pen.box(0.36, 0.38, 0.6, 0.43, mark)
    else:
        pen.oval(0.48, 0.62, 0.12, 0.12, mark)


def scissors(pen: Pen, rng: Random, color: Color) -> None:
    angle = rng.uniform(12, 24)
    for side in (-1, 1):
        blade = [(0.445, 0.6), (0.555, 0.6), (0.545, 0.2), (0.5 - side * 0.03, 0.0)]
        *shaft, hole = turn([(0.5, 0.56), (0.5 - side * 0.03, 0.72), (0.5 - side * 0.02, 0.86)], side * angle)
        pen.polygon(turn(blade, side * angle), light(STEEL, 0.15 if side < 0 else 0.35))
        pen.line(shaft, 0.1, color)
        pen.ring(*hole, 0.135, 0.1, color)
    pen.oval(0.5, 0.5, 0.035, 0.035, DARK)


def cell_phone(pen: Pen, rng: Random, color: Color) -> None:
    half, glow = rng.uniform(0.25, 0.29), vary(rng.choice(SCREENS), rng)
    left, right = 0.56 - half, 0.44 + half
    pen.box(0.5 - half, 0.0, 0.5 + half, 1.0, color, 0.08)
    pen.box(left, 0.1, right, 0.86, glow)
    pen.line([(0.44, 0.05), (0.56, 0.05)], 0.03, contrast(color, 0.5))
    pen.oval(0.5, 0.93, 0.045, 0.045, contrast(color, 0.5))
    if rng.random() < 0.4:
        pen.polygon([(left, 0.86), (left, 0.5), (right, 0.7), (right, 0.86)], dark(glow, 0.35))
        pen.oval(0.55, 0.3, 0.08, 0.08, (250, 220, 110))
    else:
        for i in range(6):
            x, y = 0.5 + (i % 2 * 2 - 1) * half * 0.38, 0.2 + i // 2 * 0.2
            pen.box(x - 0.065, y, x + 0.065, y + 0.13, vary(rng.choice(ICONS), rng), 0.02)
