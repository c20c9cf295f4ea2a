"""The axes of a chart: scales, ticks and labels."""

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullLocator

from report.figures import number


def at_points(axes: Axes, values: list[float], label: str) -> None:
    """Put a tick at each point, on a logarithmic scale if the points span much."""
    values = sorted(set(values))
    if values and values[0] > 0 and values[-1] > 8 * values[0]:
        axes.set_xscale("log")
    elif values and values[-1] > 8:
        axes.set_xscale("symlog", linthresh=1, linscale=0.5)
        axes.set_xlim(-0.3, 1.3 * values[-1])
    axes.autoscale_view()
    where = axes.transScale + axes.transLimits  # to shares of the axis
    shown: dict[float, float] = {}  # from the largest on, the labels that leave room for each other
    for value in reversed(values):
        place = where.transform((value, 1))[0]
        if all(other - place > 0.03 * len(number(right)) for right, other in shown.items()):
            shown[value] = place
    axes.set_xticks(values, [number(value) if value in shown else "" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def decades(axis: Axis) -> None:
    """Label 1, 10, 100 of a logarithmic axis, and also 2, 5, 20, 50 if its span is small and might have no label."""

    def between(value: float, _: object) -> str:
        low, high = axis.get_view_interval()
        return number(value) if high < 50 * low else ""

    axis.set_major_formatter(lambda value, _: number(value))
    axis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.set_minor_formatter(between)


def milliseconds(axes: Axes) -> None:
    """Make the vertical axis one of times, logarithmic if there are any."""
    axes.margins(y=0.15)
    if axes.dataLim.y1 > 0:
        axes.set_yscale("log")
        decades(axes.yaxis)
