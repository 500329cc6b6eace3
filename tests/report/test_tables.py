from math import nan

from nmt.report import Chart, Series, Table, chart_table, markdown_table, plain_table

TABLE = Table(
    "Runs", ["run", "BLEU", "steps", "cell"], [["a|b", 27.314, 1200, "gru"], ["c", None, None, "-"]], ["Read\nme."]
)


def test_plain():
    assert plain_table(TABLE) == (
        "Runs\n\nrun   BLEU  steps  cell\na|b  27.31  1,200  gru\nc        -      -  -\n\nRead me.\n"
    )


def test_markdown():
    assert markdown_table(TABLE) == (
        "## Runs\n\n| run | BLEU | steps | cell |\n|---|---:|---:|---|\n"
        "| a\\|b | 27.31 | 1,200 | gru |\n| c | - | - | - |\n"
        "\nRead me.\n"
    )


def test_numbers_of_a_chart():
    chart = Chart(
        "Title", "words", "BLEU", [Series("a", range(2), [1.5, nan]), Series("b", range(2), [2, 3])], ["1\n(5)", "2"]
    )
    assert chart_table(chart) == Table("Title", ["words", "a", "b"], [["1 (5)", 1.5, 2.0], ["2", None, 3.0]])
