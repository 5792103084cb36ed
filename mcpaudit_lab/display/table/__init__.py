"""The widget of a table of events: to sort, filter and select in, a card behind each row.

Input: an :class:`EventTable` of the lab. Output: a widget. It needs anywidget.
"""
