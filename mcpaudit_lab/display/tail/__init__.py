"""The widget of a live tail: its table, its panel, its controls.

Input: a tail and the kernel's loop. Output: a widget. It needs ipywidgets and anywidget.
"""
