"""What a notebook shows: cards, comparisons, tables, plots, and the live tail.

Everything here makes HTML, text or pictures from values; nothing is fetched, and no script runs.
"""
