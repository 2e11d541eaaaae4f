"""Figures of the calls of a day, a week or a month. docs/reports.md defines each of them."""
