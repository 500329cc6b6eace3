"""What people look at: alignment heatmaps, curves, the HTML report. Matplotlib is imported only to draw."""

from nmt.report.curves import Chart, Series, learning_curve, length_curve, save_chart
from nmt.report.heatmap import Heatmap, heatmap_image
from nmt.report.html import Example, write_report
from nmt.report.save import figure_suffix, save_heatmap, save_heatmaps
from nmt.report.tables import Table, chart_table, markdown_table, plain_table

__all__ = [
    "Chart",
    "Example",
    "Heatmap",
    "Series",
    "Table",
    "chart_table",
    "figure_suffix",
    "heatmap_image",
    "learning_curve",
    "length_curve",
    "markdown_table",
    "plain_table",
    "save_chart",
    "save_heatmap",
    "save_heatmaps",
    "write_report",
]
