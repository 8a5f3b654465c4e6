"""Writing critiques: which photograph is next, what is unfinished, what was saved, and what the number is enough for.

A critique is unfinished until a person saves it; every change is stored, so that nothing that was typed is lost. A
saved critique is a profile by a person (`store.save_profile`), like any other. The page and the command share this.

critique_entry.py         the critique as typed      unfinished_critiques.py   the table that keeps it
teaching_order.py         which photograph is next   photograph_looks.py       what photographs are compared by
adapter_errors.py         where the adapter erred    similar_photographs.py    the portfolio next to it
sufficient_critiques.py   what the number allows     anchoring.py              what seeing a draft does to scores
writing_desk.py           all of it, for one advisor
"""
