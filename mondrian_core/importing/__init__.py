"""Importing photographs into a workspace: from folders, from uploads, and those that people put under source/.

A copy keeps every byte of the picture and of its metadata except the place. Every step can be killed: a file has its
final name only when it is complete, and a row only when its file is on disk, so the next import continues.

folder_walk.py     the files of folders, with links           placement.py    folders and names in the workspace
place_removal.py   remove GPS data without recompressing      importer.py     import many files, in several processes
preparation.py     read, check and reduce one photograph      rescan.py       find what was moved, added or deleted
import_report.py   what happened to each file
"""
