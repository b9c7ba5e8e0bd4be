"""Objects of the street: car, traffic light, bus, stop sign, bicycle, fire hydrant."""

from random import Random

from minivlm.toyworld.drawings.pen import DARK, GLASS, STEEL, WHITE, Color, Pen, arc, contrast, dark, light, vary

LAMPS = ((232, 44, 40), (250, 196, 40), (60, 206, 90))


def car(pen: Pen, rng: Random, color: Color) -> None:
    roof, hood, wheel = rng.uniform(0.26, 0.32), rng.uniform(0.66, 0.76), rng.uniform(0.095, 0.115)
    back = rng.choice((0.01, 0.09, 0.18))
    pen.polygon([(back, 0.53), (back + 0.1, roof), (hood - 0.12, roof), (hood + 0.06, 0.53)], color)
    pen.box(0.0, 0.49, 1.0, 0.74, color, 0.07)
    glass = vary(GLASS, rng)
    pen.polygon([(back + 0.08, 0.5), (back + 0.14, roof + 0.05), (0.4, roof + 0.05), (0.4, 0.5)], glass)
    pen.polygon([(0.45, 0.5), (0.45, roof + 0.05), (hood - 0.14, roof + 0.05), (hood - 0.02, 0.5)], glass)
    pen.line([(0.05, 0.66), (0.95, 0.66)], 0.025, contrast(color, 0.3))
    pen.oval(0.95, 0.57, 0.04, 0.04, (255, 236, 140))
    pen.box(0.0, 0.54, 0.04, 0.6, (190, 30, 30))
    for x in (0.23, 0.77):
        draw_wheel(pen, x, 0.74, wheel)


def draw_wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.oval(x, y, radius, radius, DARK)
    pen.oval(x, y, radius * 0.5, radius * 0.5, light(STEEL, 0.4))


def bus(pen: Pen, rng: Random, color: Color) -> None:
    tall = rng.random() < 0.25
    top, count = (0.06 if tall else rng.uniform(0.2, 0.27)), rng.choice((4, 5))
    pen.box(0.0, top, 1.0, 0.78, color, 0.06)
    pen.box(0.03, top + 0.02, 0.97, top + 0.05, light(color, 0.4), 0.01)
    glass, step = vary(GLASS, rng), 0.72 / count
    for row in (top + 0.09, top + 0.37) if tall else (top + 0.1,):
        for i in range(count):
            pen.box(0.05 + i * step, row, 0.02 + (i + 1) * step, row + 0.17, glass)
    pen.box(0.8, top + 0.1, 0.94, 0.74, light(glass, 0.3))
    pen.line([(0.87, top + 0.1), (0.87, 0.74)], 0.025, contrast(color, 0.4))
    pen.line([(0.04, 0.64), (0.75, 0.64)], 0.035, contrast(color, 0.45))
    pen.box(0.96, 0.62, 1.0, 0.69, (255, 236, 140))
    for x in (0.2, 0.68):
        draw_wheel(pen, x, 0.79, 0.09)


def traffic_light(pen: Pen, rng: Random, color: Color) -> None:
    lit, width = rng.randrange(3), rng.uniform(0.17, 0.2)
    if rng.random() < 0.6:
        pen.box(0.46, 0.76, 0.54, 1.0, STEEL)
    pen.box(0.5 - width, 0.0, 0.5 + width, 0.8, color, 0.06)
    for i, lamp in enumerate(LAMPS):
        y = 0.15 + 0.25 * i
        pen.oval(0.5, y, 0.12, 0.115, DARK)
        pen.oval(0.5, y + 0.01, 0.1, 0.095, light(lamp, 0.15) if i == lit else dark(lamp, 0.5))
        if i == lit:
            pen.oval(0.47, y - 0.02, 0.035, 0.035, WHITE)


def stop_sign(pen: Pen, rng: Random, color: Color) -> None:
    foot, half = rng.uniform(0.85, 1.0), 0.34
    pen.box(0.465, 0.5, 0.535, foot, STEEL)
    for radius, paint in ((half, WHITE), (half - 0.035, color)):
        pen.polygon(arc(0.5, 0.36, radius * 1.08, radius * 1.08, 22.5, 337.5, 7), paint)
    x = [0.5 + dx for dx in (-0.26, -0.13, 0.015, 0.15)]
    top, middle, low = 0.28, 0.36, 0.44
    s = [(x[0] + 0.08, top), (x[0], top), (x[0], middle), (x[0] + 0.08, middle), (x[0] + 0.08, low), (x[0], low)]
    p = [(x[3], low), (x[3], top), (x[3] + 0.09, top), (x[3] + 0.09, middle), (x[3], middle)]
    o = [(x[2], top), (x[2] + 0.08, top), (x[2] + 0.08, low), (x[2], low), (x[2], top)]
    for stroke in (s, [(x[1], top), (x[1] + 0.09, top)], [(x[1] + 0.045, top), (x[1] + 0.045, low)], o, p):
        pen.line(stroke, 0.035, WHITE)


def bicycle(pen: Pen, rng: Random, color: Color) -> None:
    radius, seat = rng.uniform(0.19, 0.215), rng.uniform(0.28, 0.33)
    tyre = rng.choice((DARK, dark(STEEL, 0.25)))
    back, front, pedal = (0.22, 0.65), (0.78, 0.65), (0.45, 0.65)
    for x, y in (back, front):
        pen.ring(x, y, radius, 0.045, tyre)
        pen.oval(x, y, 0.035, 0.035, STEEL)
    saddle, head = (0.37, seat + 0.06), (0.68, 0.38)
    for stroke in ([back, saddle, pedal, back], [(0.385, 0.4), head, pedal], [front, (0.65, 0.27)]):
        pen.line(stroke, 0.055, color)
    pen.line([(0.29, seat), (0.43, seat)], 0.065, tyre)
    bars = rng.choice(([(0.65, 0.27), (0.74, 0.25), (0.76, 0.32)], [(0.57, 0.24), (0.65, 0.25), (0.73, 0.26)]))
    pen.curve(bars, 0.05, tyre)
    pen.oval(*pedal, 0.045, 0.045, DARK)


def fire_hydrant(pen: Pen, rng: Random, color: Color) -> None:
    half, shade = rng.uniform(0.17, 0.2), dark(color, 0.25)
    pen.box(0.5 - half - 0.13, 0.45, 0.5 + half + 0.13, 0.6, shade, 0.03)
    pen.box(0.5 - half, 0.26, 0.5 + half, 0.9, color)
    pen.polygon(arc(0.5, 0.26, half, 0.19, 180, 360), color)
    pen.box(0.44, 0.0, 0.56, 0.1, shade, 0.02)
    pen.box(0.5 - half - 0.05, 0.24, 0.5 + half + 0.05, 0.32, light(color, 0.2), 0.03)
    pen.box(0.5 - half - 0.08, 0.88, 0.5 + half + 0.08, 1.0, shade, 0.03)
    pen.oval(0.5, 0.53, 0.125, 0.125, shade)
    pen.oval(0.5, 0.53, 0.075, 0.075, rng.choice((STEEL, light(color, 0.5), WHITE)))
    pen.line([(0.5 - half * 0.65, 0.37), (0.5 - half * 0.65, 0.82)], 0.04, light(color, 0.4))
