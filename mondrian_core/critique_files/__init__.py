"""Files of critiques: import and export as CSV, JSON, and the formats of Label Studio and Argilla.

records.py           a critique as a file states it, and its validation
columns.py           the columns of a table, and the titles by which they are recognized
tables.py            CSV files                            streamed_json.py   JSON values, one at a time
json_forms.py        critiques as JSON objects            label_studio.py    Label Studio's tasks
argilla.py           Argilla's records                    analyses.py        the older project's analyses
formats.py           the formats: one value for each
photographs.py       the photograph that a row names      planning.py        what an import would do with each row
importing.py         import_critiques                     exporting.py       export_critiques
reference_tables.py  the tables of docs/reference/critique-files.md
"""
