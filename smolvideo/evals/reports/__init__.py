"""Reports of a run as files.

tables.py     markdown and csv
html.py, report.css, report.js
              one file to browse: scores, items, frames, answers
lmms_eval.py  the files in which lmms-eval tells results
"""

from smolvideo.evals.reports.html import html_report
from smolvideo.evals.reports.lmms_eval import export_lmms_eval
from smolvideo.evals.reports.markdown_csv import csv_report, markdown_report

__all__ = ["csv_report", "export_lmms_eval", "html_report", "markdown_report"]
